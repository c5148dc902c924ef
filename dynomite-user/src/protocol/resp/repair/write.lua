-- Head of the scripts that write, behind the common one.
local function kept_of(key)
  return first .. '_' .. key, second .. '_' .. key
end
local function forget(key)
  redis.call('DEL', kept_of(key))
end
-- What came too late: the latest of the times that are newer, and the others.
local function behind(late, known)
  if not late then return {'O', known} end
  if known == late[2] then return late end
  if newer(known, tonumber(late[2])) then known, late[2] = late[2], known end
  late[#late + 1] = known
  return late
end
-- A name moves from one index to the other, or stays; its time never goes back.
local function move(into, from, name, stamp)
  local there, here = score(from, name), score(into, name)
  for _, known in pairs({there or nil, here or nil}) do
    if newer(known, tonumber(stamp)) then stamp = known end
  end
  if here ~= stamp then redis.call('ZADD', into, stamp, name) end
  if there then redis.call('ZREM', from, name) end
end
-- As above, for what a command made of what it found. Its time is noted once more: until the command has run everywhere,
-- nobody may be sent what it made, lest it runs on that.
local function changed(into, from, key, stamp)
  move(into, from, key, stamp)
  if not newer(score('._run-set', key), tonumber(stamp)) then redis.call('ZADD', '._run-set', stamp, key) end
end
-- Every eighth write looks at sixteen keys that are said to exist and forgets those that do not (expired, evicted),
-- and at the oldest removals, which are kept for a day.
local function tidy(added, removed, time)
  if time % 8 ~= 0 then return end
  local count = redis.call('ZCARD', added)
  if count > 0 then
    local at = time % 1048576 * 40503 % count
    for _, key in ipairs(redis.call('ZRANGE', added, at, at + 15)) do
      if redis.call('EXISTS', key) == 0 then
        redis.call('ZREM', added, key)
        forget(key)
      end
    end
  end
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', removed, '-inf', time - DAY, 'LIMIT', 0, 16)) do
    redis.call('ZREM', removed, key)
  end
  redis.call('ZREMRANGEBYSCORE', '._run-set', '-inf', time - 600000)
end
