-- KEYS: key… removed added; ARGV: command 0 time
local stamp, late, result = ARGV[3]
local time = tonumber(stamp)
for at = 1, #KEYS - 2 do
  local key = KEYS[at]
  local known = score(second, key)
  if newer(known, time) then
    late = behind(late, known)
  else
    local reply = redis.pcall(ARGV[1], key)
    if failed(reply) then return reply end
    result = result and result + reply or reply
    if not newer(score(first, key), time) then redis.call('ZADD', first, stamp, key) end
    if known then redis.call('ZREM', second, key) end
    forget(key)
  end
end
tidy(second, first, time)
if late then return late end
return result
