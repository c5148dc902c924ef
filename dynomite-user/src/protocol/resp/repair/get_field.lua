-- KEYS: key added removed; ARGV: command 1 time field ['more']
local key, field = KEYS[1], ARGV[4]
local value = redis.pcall(ARGV[1], key, field)
if failed(value) then return value end
local status, time = 'R', score(second, key) or score(second .. '_' .. key, field)
if not time then
  status, time = 'E', score(first, key) and score(first .. '_' .. key, field)
  if not time or not value or value == 0 then status, time = 'X', 0 end
end
local reply = {status, time, value}
if ARGV[5] then reply[4], reply[5] = redis.call('PTTL', key), score('._run-set', key) or '0' end
return reply
