-- A publication whose id is remembered (G5). Ids live in two hashes that take turns and expire whole.
-- Keys: the young hash, the old one. Arguments: kind, channel, payload, id, content (both hashed), how long to remember
-- (ms), how many ids a hash.
-- Answers with what became of it ('new', 'same', 'other') and whether the memory was too short for all ids.
local function remember(keys, args)
  local young, old = keys[1], keys[2]
  local kind, channel, payload, id, content = args[1], args[2], args[3], args[4], args[5]
  local ttl, max = tonumber(args[6]), tonumber(args[7])
  local at = clock()
  local about = read({ false, false }, 'HMGET', young, 'turned', 'short')
  local turned, short = tonumber(about[1] or nil), about[2] == '1'
  local due = turned and at - turned >= ttl
  local known = redis.call('HGET', young, id) or read(false, 'HGET', old, id)
  if known and not (due and at - turned >= 2 * ttl) then
    return { known == content and 'same' or 'other', 0 }
  end
  if due then
    redis.call('RENAME', young, old)
    turned, short = nil, false
  elseif turned and redis.call('HLEN', young) - 2 >= max then
    redis.call('RENAME', young, old)
    turned, short = nil, true
  end
  if not turned then
    redis.call('HSET', young, 'turned', at, 'short', short and '1' or '0')
    redis.call('PEXPIREAT', young, at + 2 * ttl)
  end
  redis.call('HSET', young, id, content)
  local failed = publish(kind, channel, payload)
  if failed then
    redis.call('HDEL', young, id)
    return failed
  end
  return { 'new', short and 1 or 0 }
end

redis.register_function('rc1_publish', remember)

