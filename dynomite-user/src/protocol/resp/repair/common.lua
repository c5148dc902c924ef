-- Head of every script. The last two keys are the indexes; what is kept about a key's fields is named after them.
local first, second = KEYS[#KEYS - 1], KEYS[#KEYS]
local function score(index, name)
  return redis.call('ZSCORE', index, name)
end
local function newer(known, time)
  return known and tonumber(known) > time
end
local function failed(reply)
  return type(reply) == 'table' and reply.err
end
