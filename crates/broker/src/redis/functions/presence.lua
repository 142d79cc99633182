
-- Who is in a room (G18, G19). Of each room: a hash with its version ('v'), its sessions ('s' and the id) and its users
-- ('u' and the name), each user with its number of sessions, 0 while its grace runs, in the agents' room also with the
-- number of the version with which it came ('c' and the name); and a sorted set of the users, in the order of their names. Of each partition: who leaves when, what each incarnation of a node has entered, which were
-- reaped, and which have entered anything.

-- How long the version of a room without users is known, and what a step answered (ms).
local EMPTY_MS, SAID_MS = 3600000, 120000
-- How long an incarnation is known to have been reaped (ms).
local REAPED_MS = 3600000
-- Entries that one call takes away.
local LEAVING_MAX = 500

-- Epoch, version, users, how the room is published, and the master that it was told under.
local VERSION, VERSION_BYTES = '>c16I8I8c1c40', 73

-- A room's name in front of something else.
local function with_room(name, rest)
  return struct.pack('>I2', #name) .. name .. rest
end

local function room_and_rest(member)
  local length = #member >= 2 and struct.unpack('>I2', member) or #member
  return string.sub(member, 3, 2 + length), string.sub(member, 3 + length)
end

-- A session's part: generation, which incarnation says so, and the user.
local function part_of(value)
  local length = value and #value > 10 and struct.unpack('>I2', value, 9)
  if not length or #value <= 10 + length then
    return nil
  end
  return {
    generation = struct.unpack('>I8', value),
    incarnation = string.sub(value, 11, 10 + length),
    user = string.sub(value, 11 + length),
  }
end

local function part_bytes(it)
  return struct.pack('>I8I2', it.generation, #it.incarnation) .. it.incarnation .. it.user
end

-- Makes a room's presence anew from its sessions: part of it was lost, or is somebody else's.
local function mend_presence(hash, roster, room)
  local all, counts, drop = redis.call('HGETALL', hash), {}, {}
  for i = 1, #all, 2 do
    local it = #all[i] == 17 and string.sub(all[i], 1, 1) == 's' and part_of(all[i + 1])
    if it then
      counts[it.user] = (counts[it.user] or 0) + 1
    else
      drop[#drop + 1] = all[i]
    end
  end
  for _, field in ipairs(drop) do
    redis.call('HDEL', hash, field)
  end
  redis.call('DEL', roster)
  room.users, room.version = 0, 0
  for user, count in pairs(counts) do
    redis.call('HSET', hash, 'u' .. user, count)
    redis.call('ZADD', roster, 0, user)
    room.users = room.users + 1
  end
end

-- What is known of a room's users. A room of which nothing is known takes the fresh epoch.
local function presence_of(prefix, name, fresh)
  local hash, roster = prefix .. 'presence:' .. name, prefix .. 'roster:' .. name
  local held, count = read(false, 'HGET', hash, 'v'), read(0, 'ZCARD', roster)
  local room = { hash = hash, roster = roster, name = name, prefix = prefix, how = 'p', master = master() }
  room.fresh = fresh
  if held and #held == VERSION_BYTES then
    room.epoch, room.version, room.users, room.how, room.written = struct.unpack(VERSION, held)
  end
  if room.users ~= count then
    if room.users or count > 0 or redis.call('HLEN', hash) > 0 then
      mend_presence(hash, roster, room)
      room.mended = true
    end
    room.epoch, room.version, room.users, room.changed = fresh, 0, room.users or 0, true
    room.written = room.master
  end
  room.before = room.users
  return room
end

-- Another master may never have had some versions that were told: they must not name other steps.
local function renew_version(room)
  if room.written ~= room.master then
    room.epoch, room.written = room.fresh, room.master
    return true
  end
  return false
end

local function write_version(room)
  local version = struct.pack(VERSION, room.epoch, room.version, room.users, room.how, room.written)
  redis.call('HSET', room.hash, 'v', version)
  if room.users == 0 then
    redis.call('PEXPIRE', room.hash, EMPTY_MS)
  elseif room.before == 0 or room.changed then
    redis.call('PERSIST', room.hash)
  end
end

-- Fields of a room's hash under a prefix, as a table by what stands behind it.
local function fields_of(hash, kind, names)
  local fields, found = {}, {}
  if #names == 0 then
    return found
  end
  for i, name in ipairs(names) do
    fields[i] = kind .. name
  end
  local values = redis.call('HMGET', hash, unpack(fields))
  for i, name in ipairs(names) do
    found[name] = values[i]
  end
  return found
end

-- A user has a session less; with the last one it leaves, at once or when its grace is over.
local function less(counts, leaving, user, leaves)
  counts[user] = (counts[user] or 1) - 1
  if counts[user] <= 0 then
    counts[user] = leaves and 0 or false
    leaving[user] = leaves or false
  end
end

local function more(counts, leaving, user)
  if counts[user] == 0 then
    leaving[user] = false
  end
  counts[user] = (counts[user] or 0) + 1
end

-- Whether a later attachment of a session, or a later life of its node, has said what is known of it: what comes late must
-- not give the session back to a life that is about to be reaped. Where records were lost, nodes may have the session under
-- one generation: who says last that it is there has it, and another's leave is no leave.
local function is_stale(known, change)
  if known.generation ~= change.generation or not change.incarnation then
    return known.generation > change.generation
  end
  local node, life = string.match(known.incarnation, '^(%x+)%.(%d+)$')
  local by, later = string.match(change.incarnation, '^(%x+)%.(%d+)$')
  if node == by then
    return node ~= nil and tonumber(life) > tonumber(later)
  end
  return not change.present
end

-- What changes make of a room's sessions and users; nothing is written. `counts`: sessions of each user, false for who
-- is not there; `leaving`: when a user leaves, false for who does not any more.
local function decide(room, changes, leaves)
  local ids, names, seen = {}, {}, {}
  for i, change in ipairs(changes) do
    ids[i] = change.session
  end
  local held, sessions = fields_of(room.hash, 's', ids), {}
  for _, change in ipairs(changes) do
    local it = part_of(held[change.session])
    sessions[change.session] = it
    for _, user in ipairs{ it and it.user or change.user, change.user } do
      if user and not seen[user] then
        seen[user], names[#names + 1] = true, user
      end
    end
  end
  local known, counts, leaving, before = fields_of(room.hash, 'u', names), {}, {}, {}
  for _, user in ipairs(names) do
    counts[user] = tonumber(known[user] or nil) or false
    before[user] = counts[user] ~= false
  end
  local puts, drops = {}, {}
  for _, change in ipairs(changes) do
    local it = sessions[change.session]
    local stale = it and is_stale(it, change)
    local others = change.only and not (it and it.incarnation == change.only)
    if not stale and not others then
      if it then
        less(counts, leaving, it.user, leaves)
        drops[#drops + 1] = { session = change.session, incarnation = it.incarnation }
      end
      if change.present then
        more(counts, leaving, change.user)
        puts[#puts + 1] = change
      end
      sessions[change.session] = change.present and change or nil
    end
  end
  return { names = names, before = before, counts = counts, leaving = leaving, puts = puts, drops = drops }
end

-- Writes which sessions there are, and under which incarnation.
local function write_sessions(room, made)
  for _, drop in ipairs(made.drops) do
    redis.call('HDEL', room.hash, 's' .. drop.session)
    -- What stands there in place of another's set is its business.
    redis.pcall('ZREM', room.prefix .. 'entered:' .. drop.incarnation, with_room(room.name, drop.session))
  end
  for _, put in ipairs(made.puts) do
    redis.call('HSET', room.hash, 's' .. put.session, part_bytes(put))
    redis.call('ZADD', room.prefix .. 'entered:' .. put.incarnation, 0, with_room(room.name, put.session))
  end
end

-- When the first of a partition's users leaves: whoever beats looks there. `due` is one set for all partitions, or in a
-- Cluster one of each.
local function write_due(due, prefix, at)
  if at then
    redis.call('ZADD', due, at, prefix)
  else
    redis.call('ZREM', due, prefix)
  end
end

-- Writes who is there, and who leaves when. Answers with who came and who left.
local function write_users(room, made, due)
  local joined, left, first = {}, {}, nil
  local leaving = room.prefix .. 'leaving:'
  for _, user in ipairs(made.names) do
    local count, leaves = made.counts[user], made.leaving[user]
    if count then
      redis.call('HSET', room.hash, 'u' .. user, count)
    elseif made.before[user] then
      redis.call('HDEL', room.hash, 'u' .. user)
      redis.call('ZREM', room.roster, user)
      left[#left + 1] = user
    end
    if count and not made.before[user] then
      redis.call('ZADD', room.roster, 0, user)
      joined[#joined + 1] = user
    end
    if leaves then
      redis.call('ZADD', leaving, leaves, with_room(room.name, user))
      first = math.min(first or leaves, leaves)
    elseif leaves == false then
      redis.call('ZREM', leaving, with_room(room.name, user))
    end
  end
  table.sort(joined)
  table.sort(left)
  room.users = room.users + #joined - #left
  if first then
    local known = tonumber(read(false, 'ZSCORE', due, room.prefix) or nil)
    if not known or first < known then
      write_due(due, room.prefix, first)
    end
  end
  return joined, left
end

local function quoted(names)
  local list = {}
  for i, name in ipairs(names) do
    list[i] = '"' .. string.gsub(name, '[%c"\\]', function(found)
      return string.format('\\u%04x', string.byte(found))
    end) .. '"'
  end
  return table.concat(list, ',')
end

-- Reads what a step writes to as what it has to be, so that nothing fails in the middle.
local function look(prefix, due)
  read(0, 'ZCARD', prefix .. 'leaving:')
  look_occupancy(prefix, due)
  look_untold(prefix)
end

-- Writes with which version users came.
local function write_since(room, joined, left)
  for _, user in ipairs(joined) do
    redis.call('HSET', room.hash, 'c' .. user, room.version)
  end
  for _, user in ipairs(left) do
    redis.call('HDEL', room.hash, 'c' .. user)
  end
end

-- Writes a step. Answers with what nodes are told of it; nil: users neither came nor left.
local function write_step(room, made, key, due)
  write_sessions(room, made)
  local joined, left = write_users(room, made, due)
  local told
  if #joined + #left > 0 then
    renew_version(room)
    room.version = room.version + 1
    if room.name == AGENTS then
      write_since(room, joined, left)
    end
    local body = string.format('{"presence":{"epoch":"%s","version":%.0f,"count":%.0f,"joined":[%s],"left":[%s]}',
      hex(room.epoch), room.version, room.users, quoted(joined), quoted(left))
    local hash = string.sub(redis.sha1hex(key .. room.name .. body .. key), 1, 16)
    told = body .. ',"hash":"' .. hash .. '"}'
    note_untold(room.prefix, room.name, told)
  end
  write_version(room)
  note_occupancy(room, due)
  return told
end

-- How a room is published: the command, and its channel.
local function way_of(room)
  local channel = room.how == 'p' and 'room:' .. room.name or room.prefix .. room.name
  return room.how == 's' and 'SPUBLISH' or 'PUBLISH', channel
end

-- Changes who is in a room, and tells it.
-- Keys: the room's presence, when users leave. Arguments: name, relay key, incarnation, number of the step, grace (ms), a fresh epoch (16
-- bytes), how the room is published ('p', 'e' or 's'); for each change the session (16 bytes) with its generation and
-- whether it is there, and the user.
-- Answers with 0, what was published ('' for nothing), and whether it is the first that the incarnation entered in the
-- partition; or with 1: the incarnation was reaped.
local function set_presence(keys, args)
  local name, key, incarnation, seq, grace, fresh, how = unpack(args, 1, 7)
  local at = clock()
  local prefix = string.match(keys[1], '^rc:{.-}:')
  local memory = prefix .. 'said-' .. incarnation .. ':' .. name
  if read(false, 'ZSCORE', prefix .. 'reaped:', incarnation) then
    return { 1 }
  end
  local said = read(false, 'GET', memory)
  local last = said and #said >= 8 and struct.unpack('>I8', said) or -1
  if last > OFFSET_MAX then
    -- Somebody else's: no step is counted so far.
    last = -1
  end
  if tonumber(seq) <= last then
    return { 0, tonumber(seq) == last and string.sub(said, 9) or '', 0 }
  end
  look(prefix, keys[2])
  read(0, 'ZCARD', keys[2])
  local is_new = read(0, 'ZCARD', prefix .. 'entered:' .. incarnation) == 0
  read(0, 'SCARD', prefix .. 'lives:')
  local room = presence_of(prefix, name, fresh)
  room.how = how
  local command, channel = way_of(room)
  if not redis.acl_check_cmd(command, channel, '') then
    return redis.error_reply('NOPERM this user has no permissions to publish on the channel of the room')
  end
  local changes = {}
  for i = 8, #args, 2 do
    local session, generation, present = struct.unpack('>c16I8B', args[i])
    changes[#changes + 1] = {
      session = session, generation = generation, present = present == 1, user = args[i + 1], incarnation = incarnation,
    }
  end
  if is_new then
    redis.call('SADD', prefix .. 'lives:', incarnation)
  end
  grace = tonumber(grace)
  local told = write_step(room, decide(room, changes, grace > 0 and at + grace), key, keys[2]) or ''
  redis.call('SET', memory, struct.pack('>I8', tonumber(seq)) .. told, 'PX', SAID_MS)
  if told ~= '' then
    redis.call(command, channel, told)
  end
  return { 0, told, is_new and 1 or 0 }
end

-- Members of a partition's set as rooms with what stands behind their names, in their order.
local function by_room(members)
  local rooms, of = {}, {}
  for _, member in ipairs(members) do
    local name, rest = room_and_rest(member)
    if not of[name] then
      of[name] = { name = name }
      rooms[#rooms + 1] = of[name]
    end
    table.insert(of[name], rest)
  end
  return rooms
end

-- A step of the system's own in one room; what is told of it is put into `out`.
local function own_step(due, prefix, name, make, key, fresh, out)
  local room = presence_of(prefix, name, fresh)
  local made = make(room)
  if #made.names + #made.drops == 0 and not room.mended then
    return
  end
  local told = write_step(room, made, key, due)
  if told then
    local command, channel = way_of(room)
    out[#out + 1] = { command = command, channel = channel, payload = told }
  end
end

-- Users of a partition whose grace is over leave. Answers with how many entries that were.
local function depart(due, prefix, at, most, key, fresh, out)
  local leaving = prefix .. 'leaving:'
  look(prefix, due)
  mend_unread(prefix, due)
  local found = read({}, 'ZRANGEBYSCORE', leaving, '-inf', at, 'LIMIT', 0, most)
  for _, users in ipairs(by_room(found)) do
    own_step(due, prefix, users.name, function(room)
      local known, made = fields_of(room.hash, 'u', users), { names = {}, before = {}, counts = {}, leaving = {} }
      for _, user in ipairs(users) do
        if tonumber(known[user] or nil) == 0 then
          table.insert(made.names, user)
          made.before[user], made.counts[user] = true, false
        end
      end
      made.puts, made.drops = {}, {}
      return made
    end, key, fresh, out)
  end
  for _, member in ipairs(found) do
    redis.call('ZREM', leaving, member)
  end
  write_due(due, prefix, redis.call('ZRANGE', leaving, 0, 0, 'WITHSCORES')[2])
  return #found
end

-- What an incarnation entered in a partition goes, unless another one has it since. Answers with how many entries that
-- were.
local function reap(due, prefix, incarnation, most, key, fresh, out)
  local entered = prefix .. 'entered:' .. incarnation
  local found = read({}, 'ZRANGE', entered, 0, most - 1)
  if #found < most and read(0, 'SCARD', prefix .. 'lives:') > 0 then
    redis.call('SREM', prefix .. 'lives:', incarnation)
  end
  if #found == 0 then
    return 0
  end
  look(prefix, due)
  for _, sessions in ipairs(by_room(found)) do
    own_step(due, prefix, sessions.name, function(room)
      local changes = {}
      for i, session in ipairs(sessions) do
        changes[i] = { session = session, generation = math.huge, only = incarnation }
      end
      return decide(room, changes, false)
    end, key, fresh, out)
  end
  for _, member in ipairs(found) do
    redis.call('ZREM', entered, member)
  end
  return #found
end

local function mark_reaped(prefix, incarnation, at)
  local reaped = prefix .. 'reaped:'
  if not read(false, 'ZSCORE', reaped, incarnation) then
    redis.call('ZADD', reaped, at, incarnation)
    redis.call('ZREMRANGEBYSCORE', reaped, '-inf', at - REAPED_MS)
    redis.call('PEXPIRE', reaped, REAPED_MS)
  end
end

-- Users whose grace is over leave, and so does all that these incarnations entered: first they are marked, in all of
-- these partitions.
-- Keys: when users leave; the reaped incarnations of each partition. Arguments: relay key, a fresh epoch (16 bytes), the
-- incarnations.
-- Answers with whether there is more to do.
local function leave(keys, args)
  local key, fresh = args[1], args[2]
  local at, left, out = clock(), LEAVING_MAX, {}
  local prefixes = {}
  read(0, 'ZCARD', keys[1])
  for i = 2, #keys do
    prefixes[i - 1] = string.match(keys[i], '^rc:{.-}:')
    for j = 3, #args do
      mark_reaped(prefixes[i - 1], args[j], at)
    end
  end
  for _, prefix in ipairs(prefixes) do
    if left > 0 then
      left = left - depart(keys[1], prefix, at, left, key, fresh, out)
    end
    for j = 3, #args do
      if left > 0 then
        left = left - reap(keys[1], prefix, args[j], left, key, fresh, out)
      end
    end
  end
  for _, each in ipairs(out) do
    redis.pcall(each.command, each.channel, each.payload)
  end
  return left > 0 and 0 or 1
end

-- Which incarnations have entered anything in these partitions. Keys: the reaped ones of each.
local function lives(keys)
  local answer, seen = {}, {}
  for _, reaped in ipairs(keys) do
    for _, incarnation in ipairs(read({}, 'SMEMBERS', string.match(reaped, '^rc:{.-}:') .. 'lives:')) do
      if not seen[incarnation] then
        seen[incarnation], answer[#answer + 1] = true, incarnation
      end
    end
  end
  return answer
end

-- Who is in a room.
-- Keys: its presence. Arguments: name, the user behind whom to begin ('' for none), at most how many, a fresh epoch (16
-- bytes).
-- Answers with epoch, version, users, whether there are more, and the users.
local roster
roster = function(keys, args)
  local prefix = string.match(keys[1], '^rc:{.-}:')
  local room = presence_of(prefix, args[1], args[4])
  if renew_version(room) or room.changed then
    write_version(room)
  end
  local most = tonumber(args[3])
  local from = args[2] == '' and '-' or '(' .. args[2]
  local found = redis.call('ZRANGEBYLEX', room.roster, from, '+', 'LIMIT', 0, most + 1)
  local known = fields_of(room.hash, 'u', found)
  for _, user in ipairs(found) do
    if not known[user] then
      -- Somebody else's: with as many names as there are users, it shows only here.
      redis.call('DEL', room.roster)
      return roster(keys, args)
    end
  end
  local answer = { room.epoch, room.version, room.users, #found > most and 1 or 0 }
  for i = 1, math.min(#found, most) do
    answer[4 + i] = found[i]
  end
  return answer
end

-- Which of these users are in a room.
-- Keys: its presence. Arguments: name, a fresh epoch (16 bytes), the users.
-- Answers of each with the number of the version with which it came, 0 where that is not known, -1 where it is not there.
local function present(keys, args)
  local room = presence_of(string.match(keys[1], '^rc:{.-}:'), args[1], args[2])
  if room.changed then
    write_version(room)
  end
  local users = { unpack(args, 3) }
  local known, since, answer = fields_of(room.hash, 'u', users), fields_of(room.hash, 'c', users), {}
  for i, user in ipairs(users) do
    answer[i] = known[user] and (tonumber(since[user] or nil) or 0) or -1
  end
  return answer
end

redis.register_function('rc1_presence', set_presence)
redis.register_function{ function_name = 'rc1_present', callback = present, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_roster', callback = roster, flags = { 'allow-oom' } }
-- It takes away.
redis.register_function{ function_name = 'rc1_leave', callback = leave, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_lives', callback = lives, flags = { 'allow-oom' } }
