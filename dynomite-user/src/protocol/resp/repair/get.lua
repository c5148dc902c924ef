-- KEYS: key added removed; ARGV: command 0 time ['more']
local key = KEYS[1]
local value = redis.pcall(ARGV[1], key)
if failed(value) then return value end
local time, reply = score(first, key)
if time and value then
  reply = {'E', time, value}
else
  if time then
    redis.call('ZREM', first, key)
    redis.call('DEL', first .. '_' .. key, second .. '_' .. key)
  end
  time = score(second, key)
  if time then reply = {'R', time, value} else reply = {'X', 0, value} end
end
if ARGV[4] then reply[4], reply[5] = redis.call('PTTL', key), score('._run-set', key) or '0' end
return reply
