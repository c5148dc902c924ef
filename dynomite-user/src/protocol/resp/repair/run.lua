-- KEYS: key… added removed; ARGV: command roles time quiet probe count field… argument…
-- A role for each key: - is read, k is changed, o is overwritten as a whole.
local roles, stamp, probe, count = ARGV[2], ARGV[3], ARGV[5], tonumber(ARGV[6])
local there = {}
for at = 1, #roles do there[at] = redis.call('EXISTS', KEYS[at]) end
local reply = redis.pcall(ARGV[1], unpack(ARGV, 7 + count))
if failed(reply) then return reply end
local number = type(reply) == 'number' and reply
if number and number <= 0 and ARGV[4] == '1' then return reply end
for at = 1, #roles do
  local key, role = KEYS[at], string.sub(roles, at, at)
  if role ~= '-' then
    local exists = redis.call('EXISTS', key) == 1
    if exists then
      changed(first, second, key, stamp)
    elseif there[at] == 1 then
      changed(second, first, key, stamp)
    end
    if role == 'o' or not exists then
      forget(key)
    else
      local added, removed = kept_of(key)
      for field = 7, 6 + count do
        local name = ARGV[field]
        local value = redis.call(probe, key, name)
        if value and value ~= 0 then
          move(added, removed, name, stamp)
        elseif score(added, name) then
          move(removed, added, name, stamp)
        end
      end
    end
  end
end
tidy(first, second, tonumber(stamp))
-- Lua's numbers are exact up to here; the whole value is in the key.
if number and (number >= 9007199254740992 or number <= -9007199254740992) then
  if count > 0 then return redis.call('HGET', KEYS[1], ARGV[7]) end
  return redis.call('GET', KEYS[1])
end
return reply
