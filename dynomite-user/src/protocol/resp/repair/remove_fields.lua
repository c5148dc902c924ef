-- KEYS: key removed added; ARGV: command count time field…
local key, command, stamp = KEYS[1], ARGV[1], ARGV[3]
local count, time = tonumber(ARGV[2]), tonumber(ARGV[3])
local removed, added = kept_of(key)
local late, sum = false, 0
for from = 1, count, 500 do
  local names, there = {}, {}
  for at = 3 + from, 3 + math.min(from + 499, count) do
    local name = ARGV[at]
    local known = score(added, name)
    if newer(known, time) then
      late = behind(late, known)
    else
      names[#names + 1], there[#there + 1] = name, known
    end
  end
  if #names > 0 then
    local reply = redis.pcall(command, key, unpack(names))
    if failed(reply) then return reply end
    sum = sum + reply
    for at, name in ipairs(names) do
      if not newer(score(removed, name), time) then redis.call('ZADD', removed, stamp, name) end
      if there[at] then redis.call('ZREM', added, name) end
    end
  end
end
redis.call('ZREMRANGEBYSCORE', removed, '-inf', time - DAY)
redis.call('PEXPIRE', removed, DAY)
if redis.call('EXISTS', key) == 0 then
  redis.call('ZREM', second, key)
  redis.call('DEL', added)
end
tidy(second, first, time)
if late then return late end
return sum
