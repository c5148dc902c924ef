-- KEYS: key added removed; ARGV: command 0|nx|xx time argument…
local key, stamp = KEYS[1], ARGV[3]
local time = tonumber(stamp)
if ARGV[2] ~= '0' and (redis.call('EXISTS', key) == 1) == (ARGV[2] == 'nx') then
  return redis.pcall(ARGV[1], key, unpack(ARGV, 4))
end
local gone = score(second, key)
local known = gone or score(first, key)
if newer(known, time) then return {'O', known} end
local reply = redis.pcall(ARGV[1], key, unpack(ARGV, 4))
if failed(reply) then return reply end
redis.call('ZADD', first, stamp, key)
if gone then redis.call('ZREM', second, key) end
forget(key)
tidy(first, second, time)
return reply
