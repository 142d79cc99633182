#!lua name=roomcast_1
-- What Roomcast decides inside Redis, in one atomic step each. The library's name carries its version: nodes of two
-- versions keep both loaded (INV-12). Everything that can fail is checked before the first write, and publishing is last.

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]), tonumber(time[2])
end

-- Another master has another one: it is how nodes tell masters apart.
local function master()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''
end

-- Answers with the error if there is one: an ACL may forbid the channel.
local function publish(kind, channel, payload)
  local sent = redis.pcall(kind == 's' and 'SPUBLISH' or 'PUBLISH', channel, payload)
  return type(sent) == 'table' and sent.err and sent or nil
end

-- Reads a key that is ours; what somebody else put in its place, of another type, is removed.
local function read(empty, command, key, ...)
  local found = redis.pcall(command, key, ...)
  if type(found) == 'table' and found.err then
    if not string.find(found.err, 'WRONGTYPE', 1, true) then
      error(found)
    end
    redis.call('DEL', key)
    return empty
  end
  return found
end

-- A publication whose id is remembered (G5). Ids live in two hashes that take turns and expire whole.
-- Keys: the young hash, the old one. Arguments: kind, channel, payload, id, content (both hashed), how long to remember
-- (ms), how many ids a hash.
-- Answers with what became of it ('new', 'same', 'other') and whether the memory was too short for all ids.
local function remember(keys, args)
  local young, old = keys[1], keys[2]
  local kind, channel, payload, id, content = args[1], args[2], args[3], args[4], args[5]
  local ttl, max = tonumber(args[6]), tonumber(args[7])
  local seconds, micros = now()
  local at = seconds * 1000 + math.floor(micros / 1000)
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

-- A beat: it comes behind all that was published on this master before. Its hash is made like an envelope's. It is
-- JSON, because programs that listen on `room:*`, as the seed's bus does, end at anything else.
local function pulse(kind, channel, name, key, seq, replid)
  local body = '{"beat":"' .. seq .. string.sub(replid, 1, 16) .. '"'
  local hash = string.sub(redis.sha1hex(key .. name .. body .. key), 1, 16)
  return publish(kind, channel, body .. ',"hash":"' .. hash .. '"}')
end

-- The relay's key where none is configured: the one that is kept, or the one that is offered, which is kept from then on.
local function agree(key, offered)
  local kept = read(false, 'GET', key)
  if kept and #kept >= 16 then
    return kept
  end
  redis.call('SET', key, offered)
  return offered
end

-- Keys: the relay's key. Arguments: the one that is offered.
local function relay_key(keys, args)
  return agree(keys[1], args[1])
end

-- A node's heartbeat: renews its lease, tells the others whether its feed hears, and comes back over its own feed.
-- Keys: the table of leases; the relay's key, if none is configured. Arguments: node, whether it hears, digest of its
-- relay modes, lease (ms), kind, channel ('' for none), name, relay key, number.
-- Answers with the time (s, us), the master, the relay's key, and node, hears, digest of each other node that holds a
-- lease.
local function beat(keys, args)
  local nodes, node = keys[1], args[1]
  local lease = tonumber(args[4])
  local seconds, micros = now()
  local at = seconds * 1000 + math.floor(micros / 1000)
  local replid = master()
  local answer = { seconds, micros, replid, keys[2] and agree(keys[2], args[8]) or '' }
  local held = read({}, 'HGETALL', nodes)
  for i = 1, #held, 2 do
    local ends, hears, digest, at_master = string.match(held[i + 1], '^(%d+) (%d) (%x+) (%x+)$')
    local is_node = string.find(held[i], '^%x+$')
    if not (ends and is_node) or tonumber(ends) <= at or tonumber(ends) > at + 10 * lease then
      redis.call('HDEL', nodes, held[i])
    elseif held[i] ~= node then
      table.insert(answer, held[i])
      -- A promoted replica knows leases that were renewed at another master: whether those nodes hear this one is not
      -- known yet.
      table.insert(answer, at_master == replid and hears or '0')
      table.insert(answer, digest)
    end
  end
  redis.call('HSET', nodes, node, string.format('%.0f %s %s %s', at + lease, args[2], args[3], replid))
  redis.call('PEXPIREAT', nodes, at + 10 * lease)
  return args[6] ~= '' and pulse(args[5], args[6], args[7], args[8], args[9], replid) or answer
end

-- A beat over one more link, without a lease. Keys: any of the link's slots. Arguments: kind, channel, name, relay key,
-- number.
local function link(_, args)
  return pulse(args[1], args[2], args[3], args[4], args[5], master()) or 'OK'
end

redis.register_function('rc1_publish', remember)
-- These write little or nothing, and without them a Redis whose memory is full would relay nothing at all.
redis.register_function{ function_name = 'rc1_beat', callback = beat, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_link', callback = link, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_key', callback = relay_key, flags = { 'allow-oom' } }
