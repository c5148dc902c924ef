-- KEYS: key added removed; ARGV: command options count time ttl option… element…
-- An element is a member, a field and its value, or a score and its member.
local key, command, stamp = KEYS[1], ARGV[1], ARGV[4]
local options, count, time = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local gone = score(second, key)
if newer(gone, time) then return {'O', gone} end
local added, removed = kept_of(key)
local width = command == 'SADD' and 1 or 2
local place = command == 'ZADD' and 1 or 0
local fresh = redis.call('EXISTS', key) == 0
local kind = options > 0 and redis.pcall('ZCARD', key)
if failed(kind) then
  if #ARGV < 7000 then return redis.pcall(command, key, unpack(ARGV, 6)) end
  return kind
end
local late, sum, reply, stamped = false, 0, false, false
for from = 1, count, 500 do
  local call, names = {command, key, unpack(ARGV, 6, 5 + options)}, {}
  for number = from, math.min(from + 499, count) do
    local at = 6 + options + (number - 1) * width
    local name = ARGV[at + place]
    local dropped = score(removed, name)
    local known = dropped or score(added, name)
    if newer(known, time) then
      late = behind(late, known)
    else
      names[#names + 1] = {name, dropped, options > 0 and score(key, name)}
      for part = at, at + width - 1 do call[#call + 1] = ARGV[part] end
    end
  end
  if #names > 0 then
    reply = redis.pcall(unpack(call))
    if failed(reply) then return reply end
    if type(reply) == 'number' then sum = sum + reply end
    for _, entry in ipairs(names) do
      local name, dropped, before = unpack(entry)
      if options == 0 or score(key, name) ~= before then
        redis.call('ZADD', added, stamp, name)
        if dropped then redis.call('ZREM', removed, name) end
        stamped = true
      end
    end
  end
end
if stamped then
  if not newer(score(first, key), time) then redis.call('ZADD', first, stamp, key) end
  if gone then redis.call('ZREM', second, key) end
  if fresh and tonumber(ARGV[5]) > 0 then redis.call('PEXPIRE', key, ARGV[5]) end
  tidy(first, second, time)
end
if late then return late end
return type(reply) == 'number' and sum or reply
