-- KEYS: key… added removed; ARGV: 'STAMP' 0 time
for at = 1, #KEYS - 2 do
  local key = KEYS[at]
  if redis.call('EXISTS', key) == 1 then
    changed(first, second, key, ARGV[3])
  elseif score(first, key) then
    changed(second, first, key, ARGV[3])
    forget(key)
  end
end
tidy(first, second, tonumber(ARGV[3]))
return redis.status_reply('OK')
