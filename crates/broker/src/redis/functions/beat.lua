-- Rooms of one partition that a beat names, and bytes of them all; beyond that it says that any may have moved.
local ROOMS_MAX, ROOMS_BYTES_MAX = 512, 1048576

-- The rooms of a partition, found with their scores, the newest first; nil: one of them has no head any more.
local function named(prefix, found)
  local rooms = {}
  for i = #found - 1, 1, -2 do
    local name = found[i]
    local held = read(false, 'GET', prefix .. 'meta:' .. name)
    if not held or #held ~= META_BYTES then
      return nil
    end
    local epoch, head = struct.unpack(META, held)
    local quoted = string.gsub(name, '["\\]', '\\%0')
    rooms[#rooms + 1] = string.format('["%s","%s",%.0f]', quoted, hex(epoch), head)
  end
  return table.concat(rooms, ',')
end

-- What moved in a partition since its counter was `taken` (nil: not known), as JSON: partition, counter, and the rooms,
-- each with epoch and head; without rooms any may have. nil: nothing did.
local function moves(partition, counter, count, taken, bytes_max)
  if count == (taken or 0) then
    return nil
  end
  local text = string.format('[%s,%.0f', partition, count)
  if not taken or taken > count or math.floor(taken / COUNTER_PART) ~= math.floor(count / COUNTER_PART) then
    return text .. ']'
  end
  local prefix = string.match(counter, '^rc:{.-}:')
  local above = string.format('(%.0f', taken)
  local found = read({}, 'ZREVRANGEBYSCORE', prefix .. 'moved:', '+inf', above, 'WITHSCORES', 'LIMIT', 0, ROOMS_MAX + 1)
  -- The newest move is missing: somebody took away from the set.
  local whole = #found > 0 and #found <= 2 * ROOMS_MAX and tonumber(found[2]) == count
  local rooms = whole and named(prefix, found)
  if not rooms or #rooms > bytes_max then
    return text .. ']'
  end
  return text .. ',' .. rooms .. ']'
end

-- A beat: it comes behind all that was published on this master before. Its hash is made like an envelope's. It is
-- JSON, because programs that listen on `room:*`, as the seed's bus does, end at anything else. `moved`: what moved.
local function pulse(kind, channel, name, key, seq, replid, moved)
  local body = '{"beat":"' .. seq .. string.sub(replid, 1, 16) .. '"'
  if moved and #moved > 0 then
    body = body .. ',"moved":[' .. table.concat(moved, ',') .. ']'
  end
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

-- Into how many partitions the data is laid out: what is kept, or what is offered, which is kept from then on.
local function layout(key, offered)
  local kept = read(false, 'GET', key)
  if kept and string.find(kept, '^%d+$') then
    return kept
  end
  redis.call('SET', key, offered)
  return offered
end

-- Keys: the number of partitions; the relay's key, if none is configured. Arguments: those that are offered.
-- Answers with both.
local function begin(keys, args)
  return { layout(keys[1], args[1]), keys[2] and agree(keys[2], args[2]) or '' }
end

-- A node's heartbeat: renews its lease, tells the others whether its feed hears, and comes back over its own feed.
-- Keys: the table of leases; the number of partitions; the relay's key, if none is configured; the counters of all
-- partitions, except in a Cluster. Arguments: node, whether it hears, digest of its relay modes, lease (ms), kind,
-- channel ('' for none), name, relay key, number, partitions, how many keys stand before the counters; for each of
-- these, how far the node has followed it ('' for not at all).
-- Answers with the time (s, us), the master, the relay's key, partitions, and node, hears, digest of each other node
-- that holds a lease.
local function beat(keys, args)
  local nodes, node = keys[1], args[1]
  local lease, before = tonumber(args[4]), tonumber(args[11])
  local seconds, micros = now()
  local at = seconds * 1000 + math.floor(micros / 1000)
  local replid = master()
  local relay_key = before > 2 and agree(keys[3], args[8]) or ''
  local answer = { seconds, micros, replid, relay_key, layout(keys[2], args[10]) }
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
  if args[6] == '' then
    return answer
  end
  local moved, bytes = {}, 0
  if #keys > before then
    local counts = redis.call('MGET', unpack(keys, before + 1))
    for i, count in ipairs(counts) do
      local taken = tonumber(args[11 + i])
      local text = moves(i - 1, keys[before + i], tonumber(count) or 0, taken, ROOMS_BYTES_MAX - bytes)
      if text then
        moved[#moved + 1], bytes = text, bytes + #text
      end
    end
  end
  return pulse(args[5], args[6], args[7], args[8], args[9], replid, moved) or answer
end

-- A beat over one more link, without a lease. Keys: any of the link's slots. Arguments: kind, channel, name, relay key,
-- number.
local function link(_, args)
  return pulse(args[1], args[2], args[3], args[4], args[5], master()) or 'OK'
end

-- A beat for one partition of a Cluster, if anything moved there. Keys: its counter, its moved set. Arguments: as of
-- `link`; the partition, and how far the node has followed it.
local function part(keys, args)
  local count = tonumber((redis.call('MGET', keys[1]))[1]) or 0
  local text = moves(args[6], keys[1], count, tonumber(args[7]), ROOMS_BYTES_MAX)
  return text and pulse(args[1], args[2], args[3], args[4], args[5], master(), { text }) or 'OK'
end

-- These write little or nothing, and without them a Redis whose memory is full would relay nothing at all.
redis.register_function{ function_name = 'rc1_begin', callback = begin, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_beat', callback = beat, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_link', callback = link, flags = { 'allow-oom' } }
-- The channel of a link stands for all partitions of its master, so its slot is another one of the same master.
redis.register_function{ function_name = 'rc1_part', callback = part, flags = { 'allow-oom', 'allow-cross-slot-keys' } }
