-- Rooms of a partition that became occupied or vacated (G19): a stream of events, each from the step that made it until a
-- node has told it. They are given in their order to one node at a time, their reader: a hash says which, up to which
-- event it was given them ('given'), and how many were lost ('lost') and of how many of these a reader knows ('known').
-- Which partitions have events stands in a sorted set, by when they may be given to another node: one set for all, or in a
-- Cluster one of each.

-- Events of a partition that are kept, and that its reader has not told.
local OCCUPANCY_MAX, HAND_MAX = 10000, 64
-- How long a node is reader from its last question on (ms).
local HOLD_MS = 5000
-- Events too many that one step takes away.
local EXCESS_MAX = 100
-- Below which the two parts of an event's number are, as nodes read it (44 and 20 bits).
local MS_MAX, COUNT_MAX = 17592186044416, 1048576

-- Beside when users leave.
local function unread_of(due)
  return string.match(due, '^rc:{.-}:') .. 'unread:'
end

-- An event's number as milliseconds and a count; nil: it is none of ours.
local function event_number(text)
  local ms, count = string.match(text or '', '^(%d+)%-(%d+)$')
  ms, count = tonumber(ms), tonumber(count)
  return ms and ms < MS_MAX and count < COUNT_MAX and { ms, count } or nil
end

local function is_behind(one, other)
  return one[1] > other[1] or one[1] == other[1] and one[2] > other[2]
end

-- Who reads a partition's events. What somebody else wrote there says nothing.
local function reader_of(hash)
  local held = read({}, 'HMGET', hash, 'by', 'given', 'lost', 'known')
  return {
    by = held[1],
    given = event_number(held[2]) and held[2],
    lost = tonumber(held[3] or nil) or 0,
    known = tonumber(held[4] or nil) or 0,
  }
end

local function write_reader(hash, reader)
  redis.call('DEL', hash)
  for field, value in pairs(reader) do
    if value and value ~= 0 then
      redis.call('HSET', hash, field, type(value) == 'number' and string.format('%.0f', value) or value)
    end
  end
end

-- Reads what events are written to as what it has to be.
local function look_occupancy(prefix, due)
  read(0, 'XLEN', prefix .. '$occupancy:')
  read(0, 'HLEN', prefix .. 'reader:')
  read(0, 'ZCARD', unread_of(due))
end

-- A room became occupied or vacant: a node has yet to tell it, unless it is one of the system's own. Of too many events the
-- oldest go that no node was given.
local function note_occupancy(room, due)
  if (room.before == 0) == (room.users == 0) or string.sub(room.name, 1, 1) == '$' then
    return
  end
  local stream, hash = room.prefix .. '$occupancy:', room.prefix .. 'reader:'
  redis.call('XADD', stream, '*', 'room', room.name, 'epoch', hex(room.epoch), 'version',
    string.format('%.0f', room.version), 'occupied', room.users == 0 and '0' or '1')
  local excess = math.min(redis.call('XLEN', stream) - OCCUPANCY_MAX, EXCESS_MAX)
  if excess > 0 then
    local reader = reader_of(hash)
    local from = reader.given and '(' .. reader.given or '-'
    for _, event in ipairs(redis.call('XRANGE', stream, from, '+', 'COUNT', excess)) do
      redis.call('XDEL', stream, event[1])
      reader.lost = reader.lost + 1
    end
    write_reader(hash, reader)
  end
  redis.call('ZADD', unread_of(due), 'NX', 0, room.prefix)
end

-- What says that events wait may have been lost, or be of another server's time.
local function mend_unread(prefix, due)
  local unread = unread_of(due)
  local score = tonumber(redis.call('ZSCORE', unread, prefix) or nil)
  if redis.call('XLEN', prefix .. '$occupancy:') > 0 and not (score and score <= clock() + HOLD_MS) then
    redis.call('ZADD', unread, 0, prefix)
  end
end

-- Partitions with events and without a reader.
local function unread_in(due)
  return read({}, 'ZRANGEBYSCORE', unread_of(due), '-inf', clock(), 'LIMIT', 0, 256)
end

-- The reader has told all up to this event: they go, if they are some that it was given.
local function cut_told(stream, told, given)
  local number, last = event_number(told), event_number(given)
  if number and last and not is_behind(number, last) then
    redis.call('XTRIM', stream, 'MINID', '=', string.format('%.0f-%.0f', number[1], number[2] + 1))
  end
end

-- Gives a node the oldest events of a partition that wait, unless another one is their reader.
-- Keys: the events, their reader, the partitions with events. Arguments: node, up to which event it has told them and up to
-- which it was given them ('' for none), of how many lost ones it knows, how many untold ones it may have (0: it gives the
-- partition back).
-- Answers with 0: it is not the reader; or with 1, whether the events are all that it has to tell, how many were lost, of
-- how many of these a reader knows, up to which event it was given them, and each event with its fields.
local function occupancies(keys, args)
  local stream, hash, unread = keys[1], keys[2], keys[3]
  local node, told, given = args[1], args[2], args[3]
  local at, prefix = clock(), string.match(stream, '^rc:{.-}:')
  local reader, held_until = reader_of(hash), tonumber(read(false, 'ZSCORE', unread, prefix) or nil) or 0
  local is_own = reader.by == node
  if not is_own and reader.by and at < held_until and held_until <= at + HOLD_MS then
    return { 0 }
  end
  local waiting, most = read(0, 'XLEN', stream), math.min(tonumber(args[5]), HAND_MAX)
  if is_own then
    cut_told(stream, told, reader.given)
    reader.known = math.max(reader.known, math.min(tonumber(args[4]), reader.lost))
    waiting = redis.call('XLEN', stream)
  end
  if waiting == 0 or most == 0 then
    if waiting == 0 then
      redis.call('DEL', stream)
      redis.call('ZREM', unread, prefix)
    elseif is_own then
      redis.call('ZADD', unread, 0, prefix)
    end
    if waiting == 0 or is_own then
      local is_known = reader.known == reader.lost
      write_reader(hash, is_known and {} or { lost = reader.lost, known = reader.known })
    end
    return { 0 }
  end
  local goes_on = is_own and reader.given and reader.given == given
  local behind = goes_on and event_number(reader.given)
  local answer = { 1, goes_on and 0 or 1, reader.lost, reader.known, goes_on and reader.given or '' }
  for _, event in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', most)) do
    local number = event_number(event[1])
    if not number then
      -- Somebody else's, and all that comes behind it is numbered on from it.
      redis.call('DEL', stream)
      write_reader(hash, { lost = reader.lost + waiting, known = reader.known })
      return { 0 }
    end
    if not behind or is_behind(number, behind) then
      answer[5] = event[1]
      answer[#answer + 1] = event
    end
  end
  reader.by, reader.given = node, answer[5]
  write_reader(hash, reader)
  redis.call('ZADD', unread, at + HOLD_MS, prefix)
  return answer
end

redis.register_function{ function_name = 'rc1_occupancies', callback = occupancies, flags = { 'allow-oom' } }
