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

-- What stands in a lease in place of whether the node hears, if the node itself has not written it.
local ADOPTED = '2'

-- A node's other lives, and other nodes: what the table of leases says of them. Answers with the incarnations whose
-- lease is over, and with node, hears and digest of each other node that holds one.
local function lessees(nodes, node, at, lease, replid)
  local held, over, peers, ends_of = read({}, 'HGETALL', nodes), {}, {}, {}
  for i = 1, #held, 2 do
    local name, life = string.match(held[i], '^(%x+)%.(%d+)$')
    local ends, hears, digest, at_master = string.match(held[i + 1], '^(%d+) (%d) (%x+) (%x+)$')
    ends = tonumber(ends)
    if not (name and life and ends) then
      redis.call('HDEL', nodes, held[i])
    elseif ends <= at then
      over[#over + 1] = held[i]
    elseif ends > at + 10 * lease then
      -- By another clock: it has one lease's time to come again.
      local again = string.format('%.0f %s %s %s', at + lease, hears, digest, at_master)
      redis.call('HSET', nodes, held[i], again)
    elseif hears ~= ADOPTED and name ~= node and ends > (ends_of[name] or 0) then
      ends_of[name] = ends
      -- A promoted replica knows leases that were renewed at another master: whether those nodes hear this one is not
      -- known yet.
      peers[name] = { at_master == replid and hears or '0', digest }
    end
  end
  return over, peers
end

-- How much of a lease must pass without anybody's beat until it was the server that was away, and not the nodes. Each
-- of them beats every second, so by then each that was there has most of its lease behind it.
local QUIET = 5 / 8

-- Where nobody beat for long, whoever held a lease until then has one lease's time to come again. Whether it hears is not
-- known until it does.
local function excuse(nodes, reaped, at, lease)
  local held, found, newest = read({}, 'HGETALL', nodes), {}, 0
  for i = 1, #held, 2 do
    local ends, hears, rest = string.match(held[i + 1], '^(%d+) (%d)( %x+ %x+)$')
    if ends then
      found[held[i]] = { ends = tonumber(ends), rest = (hears == ADOPTED and hears or '0') .. rest }
      newest = math.max(newest, tonumber(ends))
    end
  end
  local beaten = math.max(newest - lease, 0)
  if at < beaten + QUIET * lease then
    return
  end
  for name, it in pairs(found) do
    if it.ends > beaten and not read(false, 'ZSCORE', reaped, name) then
      redis.call('HSET', nodes, name, string.format('%.0f ', at + lease) .. it.rest)
    end
  end
end

-- When the lease of an incarnation ends, and whether a beat has renewed it; nil: it has none.
local function ends_of(nodes, name)
  local held = read(false, 'HGET', nodes, name) or ''
  local ends, hears = string.match(held, '^(%d+) (%d) %x+ %x+$')
  return tonumber(ends), ends ~= nil and hears ~= ADOPTED
end

-- Renews the lease of an incarnation, unless it has ended; one that ended is never renewed, unless it did so while nobody
-- beat for long. Answers with 1, with 2 where no beat had renewed it before, or with 0: it has ended.
local function renew(nodes, own, retired, at, lease, args, replid)
  local reaped = string.match(nodes, '^rc:{.-}:') .. 'reaped:'
  local ends, is_renewed = ends_of(nodes, own)
  if (ends or 0) <= at + lease - QUIET * lease then
    excuse(nodes, reaped, at, lease)
    ends = ends_of(nodes, own)
  end
  local is_held = not (ends and ends <= at) and not read(false, 'ZSCORE', reaped, own)
  if is_held then
    redis.call('HSET', nodes, own, string.format('%.0f %s %s %s', at + lease, args[2], args[3], replid))
    redis.call('PEXPIREAT', nodes, at + 10 * lease)
  end
  if retired and not read(false, 'ZSCORE', reaped, retired) then
    redis.call('HSET', nodes, retired, '0 0 0 0')
  end
  return is_held and (is_renewed and 1 or 2) or 0
end

-- A node's heartbeat: renews its lease, tells the others whether its feed hears, and comes back over its own feed.
-- Keys: the table of leases; the number of partitions; the relay's key, if none is configured; except in a Cluster, the
-- counters of all partitions, what has yet to be told of agents, and when users leave. Arguments: node, whether it hears, digest of its
-- relay modes, lease (ms), kind, channel ('' for none), name, relay key, number, partitions, how many keys stand before
-- the counters, the life of its lease, the one before it that is over ('' for none), whether it tells which rooms became
-- occupied; for each counter, how far the node has followed it ('' for not at all).
-- Answers with the time (s, us), the master, the relay's key, partitions, how the lease is (as `renew` says it), the
-- incarnations whose lease is over, the prefixes of partitions where users are to leave, whether something of agents
-- waits to be told, the prefixes of partitions where events of occupied rooms wait, and node, hears, digest of each other
-- node that holds a lease.
local function beat(keys, args)
  local nodes, node = keys[1], args[1]
  local lease, before = tonumber(args[4]), tonumber(args[11])
  local own, retired = node .. '.' .. args[12], args[13] ~= '' and node .. '.' .. args[13]
  local seconds, micros = now()
  local at = seconds * 1000 + math.floor(micros / 1000)
  local replid = master()
  local relay_key = before > 2 and agree(keys[3], args[8]) or ''
  local answer = { seconds, micros, replid, relay_key, layout(keys[2], args[10]) }
  answer[6] = renew(nodes, own, retired, at, lease, args, replid)
  local over, peers = lessees(nodes, node, at, lease, replid)
  answer[7], answer[8], answer[9], answer[10] = over, {}, 0, {}
  for name, peer in pairs(peers) do
    table.insert(answer, name)
    table.insert(answer, peer[1])
    table.insert(answer, peer[2])
  end
  local is_whole = #keys > before
  if is_whole then
    answer[8] = read({}, 'ZRANGEBYSCORE', keys[#keys], '-inf', at)
    answer[9] = waits(string.match(keys[#keys - 1], '^rc:{.-}:')) and 1 or 0
    answer[10] = args[14] == '1' and unread_in(keys[#keys]) or {}
  end
  if args[6] == '' then
    return answer
  end
  local moved, bytes = {}, 0
  local counts = is_whole and redis.call('MGET', unpack(keys, before + 1, #keys - 2)) or {}
  for i, count in ipairs(counts) do
    local taken = tonumber(args[14 + i])
    local text = moves(i - 1, keys[before + i], tonumber(count) or 0, taken, ROOMS_BYTES_MAX - bytes)
    if text then
      moved[#moved + 1], bytes = text, bytes + #text
    end
  end
  return pulse(args[5], args[6], args[7], args[8], args[9], replid, moved) or answer
end

-- Incarnations that entered rooms have a lease from now on, if they have none: who lost it, and is gone, goes like any
-- other. The lease of one that was reaped is over: its entries are back because a failover lost that they were removed.
-- Keys: the table of leases, the reaped ones of the same partition. Arguments: lease (ms), the incarnations.
local function adopt(keys, args)
  local ends = clock() + tonumber(args[1])
  read(0, 'HLEN', keys[1])
  for i = 2, #args do
    if string.find(args[i], '^%x+%.%d+$') then
      local is_reaped = read(false, 'ZSCORE', keys[2], args[i])
      local row = is_reaped and '0 0 0 0' or string.format('%.0f %s 0 0', ends, ADOPTED)
      redis.call('HSETNX', keys[1], args[i], row)
    end
  end
  return 'OK'
end

-- What these incarnations entered is gone: they are struck off the table. Keys: the table of leases, the reaped ones of
-- the same partition. Arguments: the incarnations.
local function bury(keys, args)
  for _, incarnation in ipairs(args) do
    if read(false, 'ZSCORE', keys[2], incarnation) then
      redis.call('HDEL', keys[1], incarnation)
    end
  end
  return 'OK'
end

-- A beat over one more link, without a lease. Keys: any of the link's slots. Arguments: kind, channel, name, relay key,
-- number.
local function link(_, args)
  return pulse(args[1], args[2], args[3], args[4], args[5], master()) or 'OK'
end

-- A beat for one partition of a Cluster, if anything moved there. Keys: its counter, its moved set, when users
-- leave, and if it is that of the agents what has yet to be told of them. Arguments: as of `link`; the partition, how far the
-- node has followed it, and whether it tells which rooms became occupied.
-- Answers with whether users are to leave there, with the master, with whether something of agents waits to be told, and
-- with whether events of occupied rooms do.
local function part(keys, args)
  local replid = master()
  local count = tonumber((redis.call('MGET', keys[1]))[1]) or 0
  local due = #read({}, 'ZRANGEBYSCORE', keys[3], '-inf', clock(), 'LIMIT', 0, 1)
  local text = moves(args[6], keys[1], count, tonumber(args[7]), ROOMS_BYTES_MAX)
  local untold = keys[4] and waits(string.match(keys[4], '^rc:{.-}:')) and 1 or 0
  local unread = args[8] == '1' and #unread_in(keys[3]) or 0
  return text and pulse(args[1], args[2], args[3], args[4], args[5], replid, { text }) or { due, replid, untold, unread }
end

-- These write little or nothing, and without them a Redis whose memory is full would relay nothing at all.
redis.register_function{ function_name = 'rc1_begin', callback = begin, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_beat', callback = beat, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_link', callback = link, flags = { 'allow-oom' } }
-- The channel of a link stands for all partitions of its master, so its slot is another one of the same master.
redis.register_function{ function_name = 'rc1_part', callback = part, flags = { 'allow-oom', 'allow-cross-slot-keys' } }
redis.register_function{ function_name = 'rc1_bury', callback = bury, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_adopt', callback = adopt, flags = { 'allow-oom' } }
