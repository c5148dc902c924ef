-- KEYS: key… added removed; ARGV: command count time value…
local stamp, late = ARGV[3]
local time = tonumber(stamp)
for at = 1, #KEYS - 2 do
  local key = KEYS[at]
  local gone = score(second, key)
  local known = gone or score(first, key)
  if newer(known, time) then
    late = behind(late, known)
  else
    local reply = redis.pcall('SET', key, ARGV[3 + at])
    if failed(reply) then return reply end
    redis.call('ZADD', first, stamp, key)
    if gone then redis.call('ZREM', second, key) end
    forget(key)
  end
end
tidy(first, second, time)
if late then return late end
return redis.status_reply('OK')
