-- KEYS: key… added removed; ARGV: 'CLEAN' count time field…
local time, count, cleaned = tonumber(ARGV[3]), tonumber(ARGV[2]), 0
local function clean(index, name)
  local known = score(index, name)
  if known and tonumber(known) <= time then cleaned = cleaned + redis.call('ZREM', index, name) end
end
if count == 0 then
  for at = 1, #KEYS - 2 do clean(second, KEYS[at]) end
else
  for at = 4, 3 + count do clean(second .. '_' .. KEYS[1], ARGV[at]) end
end
return cleaned
