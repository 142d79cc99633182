
-- Sessions that outlive their connection (G13, G14). All of a user's are in the partition of the user's own room.

-- Sessions of one user that are kept.
local SESSIONS_MAX = 64

-- How long after its record was written a session counts as connected whatever is known of its node (ms).
local WRITTEN_LATELY = 4000

-- How long it is remembered that a session is over, at least (ms).
local ENDED = 60000

-- How long it is remembered which order was the last to end a user's sessions (ms).
local ORDERS = 600000

-- A record begins with its layout, the state ('A' with a connection, 'D' without, 'E' over), the generation, when it is over (ms),
-- the node that wrote it, the secret, the one before it, the turn's, and how long the user's name is. Behind it stand the
-- name and what is kept of the session. Its length does not depend on which secrets there are.
local SESSION, SESSION_BYTES, SESSION_LAYOUT = '>Bc1I8I8c16c16c16c16I4', 86, 1
local NO_SECRET = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'

-- A user's session; nil: there is none, it is over, or it is another user's.
local function session_at(key, user, at)
  local held = read(false, 'GET', key)
  if not held or #held < SESSION_BYTES then
    return nil
  end
  local layout, state, generation, ends, node, secret, former, turn, length = struct.unpack(SESSION, held)
  local record = SESSION_BYTES + length + 1
  if layout ~= SESSION_LAYOUT or ends <= at or string.sub(held, SESSION_BYTES + 1, record - 1) ~= user then
    return nil
  end
  return {
    state = state, generation = generation, ends = ends, node = node, secret = secret, former = former, turn = turn,
    record = string.sub(held, record),
  }
end

-- Writes a session, and lets the one go that would go first where its user has too many.
local function write_session(prefix, user, name, it, at)
  local key, index = prefix .. 'session:' .. name, prefix .. 'sessions:' .. user
  local head = struct.pack(SESSION, SESSION_LAYOUT, it.state, it.generation, it.ends, it.node, it.secret, it.former,
    it.turn, #user)
  redis.call('SET', key, head .. user .. it.record, 'PXAT', string.format('%.0f', it.ends))
  redis.call('ZADD', index, it.ends, name)
  redis.call('ZREMRANGEBYSCORE', index, '-inf', at)
  local over = redis.call('ZCARD', index) - SESSIONS_MAX
  if over > 0 then
    for _, first in ipairs(redis.call('ZRANGE', index, 0, over - 1)) do
      redis.call('DEL', prefix .. 'session:' .. first)
    end
    redis.call('ZREMRANGEBYRANK', index, 0, over - 1)
  end
  local last = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')[2]
  if last then
    redis.call('PEXPIREAT', index, last)
  end
end

-- Epoch and offset of a place among orders; nil: that is none.
local function order_of(text)
  if text and #text == 24 then
    return struct.unpack('>c16I8', text)
  end
end

-- Epoch and offset of the last order to end a user's sessions; nil: there was none lately.
local function last_order(prefix, user)
  return order_of(read(false, 'GET', prefix .. 'ending:' .. user))
end

-- Whether a session without a record may be from before the last order. Where orders have begun anew since one of both, it
-- begins all the same if it has a connection: its lane ends it when the order comes.
local function may_precede(prefix, user, state, obeyed)
  local epoch, last = last_order(prefix, user)
  local within, done = order_of(obeyed)
  if epoch and within == epoch then
    return done < last
  end
  return epoch and state == 'D'
end

-- Writes what is kept of a session, unless it has been taken over since.
-- Keys: the user's sessions, the session. Arguments: user, session, state ('A', 'D', or 'E' for ended), generation,
-- node, secret, the turn's ('' for none), whether the client has got its secret, how long it can be resumed (ms), up to
-- where orders have been obeyed ('' if that is not known), and what is kept if that has changed.
-- Answers with 1 (written), 0 (taken over) or 2 (it is over).
local function save(keys, args)
  local user, name, state, generation, node, secret, turn, confirmed, window, obeyed, record = unpack(args)
  local at = clock()
  local prefix = string.match(keys[1], '^rc:{.-}:')
  local known = session_at(keys[2], user, at)
  read(0, 'ZCARD', keys[1])
  local above = known and known.generation - tonumber(generation)
  if known and (above > 0 or above == 0 and known.secret ~= secret) then
    -- Should a generation come twice, because clocks of masters stand apart, it is the one's whose secret is kept.
    return 0
  elseif known and known.state == 'E' then
    return 2
  elseif state ~= 'E' and not known and may_precede(prefix, user, state, obeyed) then
    return 2
  elseif state == 'E' and known and tonumber(generation) > 1 then
    -- What a former connection has under way would bring it back.
    known.state, known.record, known.ends = 'E', '', at + ENDED
    write_session(prefix, user, name, known, at)
    return 1
  elseif state == 'E' then
    redis.call('DEL', keys[2])
    redis.call('ZREM', keys[1], name)
    return 1
  end
  local it = known or { former = NO_SECRET, turn = NO_SECRET, record = '' }
  it.state, it.generation, it.node, it.secret = state, tonumber(generation), node, secret
  it.ends = at + (state == 'A' and 2 or 1) * tonumber(window)
  it.turn = turn ~= '' and turn or it.turn
  it.former = confirmed == '1' and NO_SECRET or it.former
  it.record = record or it.record
  write_session(prefix, user, name, it, at)
  return 1
end

-- The only session of a user that has no connection, or whose node is not alive; and whether there is more than one.
local function detached(prefix, index, user, alive, at, window)
  local found, name
  local lately = at + 2 * tonumber(window) - WRITTEN_LATELY
  for _, each in ipairs(redis.call('ZRANGEBYSCORE', index, at, '+inf')) do
    local it = session_at(prefix .. 'session:' .. each, user, at)
    local gone = it and it.ends <= lately and not string.find(alive, it.node, 1, true)
    if it and it.state ~= 'E' and (it.state == 'D' or gone) then
      if found then
        return nil
      end
      found, name = it, each
    end
  end
  return found, name
end

-- Takes a session over.
-- Keys: the user's sessions, the session ('' is none: the only one without a connection). Arguments: user, session,
-- the secret that was brought, the one from now on, node, how long it can be resumed (ms), the nodes that are alive, and
-- above what the generation rises as well ('' is the time: so it rises too where a record was lost and came back).
-- Answers with 0, session, generation, what is kept, what its former connection is (0: gone, 1: on a node, 2: it waits
-- on a node) and that node; or why not: 1 (no such session), 2 (the secret is not its own), 3 (none, or more than one).
local function attach(keys, args)
  local user, name, brought, secret, node, window, alive, above = unpack(args)
  local at = clock()
  local prefix = string.match(keys[1], '^rc:{.-}:')
  read(0, 'ZCARD', keys[1])
  local it, former = nil, 0
  if name ~= '' then
    it = session_at(keys[2], user, at)
    if not it or it.state == 'E' then
      return { 1 }
    elseif brought == NO_SECRET or (brought ~= it.secret and brought ~= it.former and brought ~= it.turn) then
      return { 2 }
    end
    former = brought == it.turn and 2 or it.state == 'A' and 1 or 0
  else
    it, name = detached(prefix, keys[1], user, alive, at, window)
    if not it then
      return { 3 }
    end
    brought = NO_SECRET
  end
  local before = it.node
  it.state, it.generation = 'A', math.max(it.generation, tonumber(above) or at) + 1
  it.node, it.secret = node, secret
  it.former, it.turn, it.ends = brought, NO_SECRET, at + 2 * tonumber(window)
  write_session(prefix, user, name, it, at)
  return { 0, name, it.generation, it.record, former, before }
end

-- Ends all sessions of a user: none is taken over or written any more, and none begins by whoever has not obeyed the order.
-- Keys: the user's sessions. Arguments: user, where the order stands.
-- Answers with how many there were.
local function end_sessions(keys, args)
  local user, order = unpack(args)
  local at = clock()
  local prefix = string.match(keys[1], '^rc:{.-}:')
  read(0, 'ZCARD', keys[1])
  local ended = 0
  local epoch, last = last_order(prefix, user)
  local within, offset = order_of(order)
  if epoch ~= within or last < offset then
    redis.call('SET', prefix .. 'ending:' .. user, order, 'PX', ORDERS)
  end
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', keys[1], at, '+inf')) do
    local it = session_at(prefix .. 'session:' .. name, user, at)
    if it then
      it.state, it.record, it.ends = 'E', '', math.max(it.ends, at + ENDED)
      write_session(prefix, user, name, it, at)
      ended = ended + 1
    end
  end
  return ended
end

redis.register_function('rc1_save', save)
-- A record is as long behind it as before.
redis.register_function{ function_name = 'rc1_attach', callback = attach, flags = { 'allow-oom' } }
-- And shorter behind this, but for the order, which is kept of the user for a while.
redis.register_function{ function_name = 'rc1_end_sessions', callback = end_sessions, flags = { 'allow-oom' } }
