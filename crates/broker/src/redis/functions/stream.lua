-- What a room keeps (G2): a stream whose entries are `<offset>-0`, and its meta. Read first, decided, then written.

-- How long the meta outlives the last entry (ms).
local META_MS = 600000
-- What is known of an entry that was removed from among others: its epoch and its bytes.
local HOLE_BYTES = 24
-- What Lua and JavaScript still count exactly.
local OFFSET_MAX = 9007199254740991
-- Rooms that a partition's moved set keeps at least, and how often it is trimmed.
local MOVED_MAX, MOVED_TRIM = 4096, 256
-- A counter's lower part counts, its upper part (20 bits) says which incarnation it is.
local COUNTER_PART = 4294967296
-- Entries read at once: each of them may be as large as a publication.
local CHUNK = 16

-- Meta is one string: epoch, head, bytes of all envelopes that were ever appended, the lowest offset that is there, the
-- bytes below it, until when the entries certainly are there (ms), and the master it was last written under. Then, of
-- the young ids: when they began and when they expire (ms), the head then, whether the memory was too short; of the old
-- ones, the highest offset they name. Then how many entries were removed from among others, and their bytes. Last, how
-- many of an inbox went whose place no newer one took: who has acked nothing lost so many.
local META, META_BYTES = '>c16I8I8I8I8I8c40I8I8I8BI8I8I8I8', 153

local function place(offset)
  return string.format('%.0f-0', offset)
end

-- The key of another kind that belongs to the same room as its meta.
local function beside(meta, kind)
  return (string.gsub(meta, '^(rc:{.-}:)meta:', '%1' .. kind .. ':', 1))
end

-- What an entry's `m` holds: its time (ms), the sum of bytes up to it and its epoch; behind them, where it is of low
-- priority (1) or has a key (2), which of both, and the key.
local MARK, MARK_BYTES, LOW, KEYED = '>I8I8c16', 32, 1, 2

-- An entry as it stands in the stream: `m`, and `p`, its bytes.
local function entry(found)
  local offset = tonumber(string.match(found[1], '^(%d+)%-0$'))
  local fields = found[2]
  if not offset or fields[1] ~= 'm' or fields[3] ~= 'p' or #fields[2] < MARK_BYTES then
    return nil
  end
  local at, sum, epoch = struct.unpack(MARK, fields[2])
  local flags = string.byte(fields[2], MARK_BYTES + 1) or 0
  return {
    offset = offset, at = at, sum = sum, epoch = epoch, payload = fields[4], low = flags % 2 == LOW,
    key = flags >= KEYED and string.sub(fields[2], MARK_BYTES + 2) or nil,
  }
end

local function entry_at(stream, offset)
  local found = redis.call('XRANGE', stream, place(offset), place(offset))[1]
  return found and entry(found)
end

-- The stream is empty from now on: what comes next stands behind the head.
local function forget(room)
  room.first, room.below = room.head + 1, room.total
  room.holes, room.gone = 0, 0
end

-- Holes above an offset: how many, their bytes, and of those behind another offset the last one and their bytes.
local function holes_above(key, low, last)
  local held, found = read({}, 'HGETALL', key), { count = 0, bytes = 0, last = last, behind = 0 }
  for i = 1, #held, 2 do
    local offset = tonumber(held[i])
    if offset and offset > low and #held[i + 1] == HOLE_BYTES then
      local bytes = struct.unpack('>I8', held[i + 1], 17)
      found.count, found.bytes = found.count + 1, found.bytes + bytes
      if offset > last then
        found.last, found.behind = math.max(found.last, offset), found.behind + bytes
      end
    end
  end
  return found
end

-- The stream is not what meta says, or there is none of both.
local function mend(room, keys, length, at, ttl)
  local stream = keys[2]
  room.mended = true
  local last = length > 0 and entry(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1])
  local lowest = length > 0 and entry(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1])
  if not room.epoch then
    room.head, room.total, room.ends = 0, 0, 0
    room.first, room.below, room.holes, room.gone = 1, 0, 0, 0
    room.lost, room.renewed = lowest and lowest.offset - 1 or 0, true
  end
  local holes = last and lowest and holes_above(beside(keys[1], 'holes'), lowest.offset, last.offset)
  if holes and holes.last - lowest.offset + 1 == length + holes.count and holes.last >= room.head then
    room.renewed = room.renewed or holes.last ~= room.head
    room.head, room.total = holes.last, last.sum + holes.behind
    room.first, room.below = lowest.offset, lowest.sum - #lowest.payload
    room.holes, room.gone = holes.count, holes.bytes
    if room.ends == 0 then
      room.ends, room.arm = at + math.ceil(1.25 * ttl), true
    end
  elseif length > 0 then
    -- One is missing, or somebody else's entries: none of them can be answered for.
    room.drop, room.renewed = true, true
    room.head = math.max(room.head, last and last.offset or 0)
    forget(room)
  else
    -- What is past its time went by itself.
    local is_lost = room.first <= room.head and at <= room.ends
    room.lapsed = room.first <= room.head and not is_lost and room.first
    if room.lapsed then
      room.lost = room.lost + room.head - room.first + 1 - room.holes
    end
    room.renewed = room.renewed or is_lost
    forget(room)
  end
end

-- Reads a room's meta, and finds out whether its stream goes on or begins anew; nothing is written. An epoch begins with
-- the time (ms); the rest of it is `fresh`.
-- Keys: meta, stream. `ttl`: how long an entry is kept (ms).
local function touch(keys, at, fresh, ttl)
  local held = read(false, 'GET', keys[1])
  local length = read(0, 'XLEN', keys[2])
  local room
  if held and #held == META_BYTES then
    local epoch, head, total, first, below, ends, written, began, ids_end, base, short, high, holes, gone, lost =
      struct.unpack(META, held)
    room = {
      epoch = epoch, head = head, total = total, first = first, below = below, ends = ends, master = master(),
      began = began, ids_end = ids_end, base = base, short = short, high = high, holes = holes, gone = gone, lost = lost,
      known = true, renewed = false, changed = false, arm = false, drop = false,
    }
    room.renewed = written ~= room.master
  else
    room = { master = master(), began = 0, ids_end = 0, base = 0, short = 0, high = 0 }
  end
  if not room.epoch or length + room.holes ~= room.head - room.first + 1 then
    mend(room, keys, length, at, ttl)
    room.changed = true
  end
  if room.renewed then
    room.epoch, room.changed = struct.pack('>I6', at) .. string.sub(fresh, 7), true
  end
  room.fresh = fresh
  return room
end

-- The room has moved: beats tell it. What goes wrong here shows as a counter that differs from the newest score.
-- A counter that begins takes its upper part from `fresh`: so one that was lost, and has come as far again, is told
-- from what it was.
local function move(counter, moved, name, fresh)
  local count = redis.pcall('INCR', counter)
  if type(count) == 'table' then
    redis.call('DEL', counter)
    count = redis.call('INCR', counter)
  end
  if count == 1 then
    count = count + COUNTER_PART * (struct.unpack('>I4', fresh, 13) % 1048576)
    redis.call('SET', counter, string.format('%.0f', count))
  end
  local added = redis.pcall('ZADD', moved, count, name)
  if type(added) == 'table' then
    redis.call('DEL', moved)
    redis.call('ZADD', moved, count, name)
  end
  if count % MOVED_TRIM == 0 then
    redis.call('ZREMRANGEBYRANK', moved, 0, -MOVED_MAX - 1)
  end
end

local function write_meta(key, room)
  redis.call('SET', key, struct.pack(META, room.epoch, room.head, room.total, room.first, room.below, room.ends,
    room.master, room.began, room.ids_end, room.base, room.short, room.high, room.holes, room.gone, room.lost), 'KEEPTTL')
end

-- The offsets from one to another at which an entry stands or stood that was not removed from among others.
local function standing(keys, low, high)
  local holes, offsets = {}, {}
  for _, offset in ipairs(read({}, 'HKEYS', beside(keys[1], 'holes'))) do
    holes[tonumber(offset) or 0] = true
  end
  for offset = low, high do
    if not holes[offset] then
      offsets[#offsets + 1] = offset
    end
  end
  return offsets
end

-- Cursors, marks and holes follow a stream that was not what its meta says.
local function follow(keys, room)
  local cursors = beside(keys[1], 'cursors')
  if redis.call('EXISTS', cursors) == 1 then
    if room.lapsed then
      lose_unacked(cursors, standing(keys, room.lapsed, room.head))
    end
    clamp_cursors(cursors, room.head)
  end
  local marks = beside(keys[1], 'marks')
  if redis.call('EXISTS', marks) == 1 then
    clamp_marks(marks, beside(keys[1], 'marked'), room.head)
  end
  if room.holes == 0 then
    redis.call('DEL', beside(keys[1], 'holes'))
  end
end

-- A room is known until then, and so is what its users have got and read.
local function live_until(keys, ends)
  for _, key in ipairs{ keys[1], beside(keys[1], 'marks'), beside(keys[1], 'marked') } do
    redis.call('PEXPIREAT', key, ends)
  end
end

-- Writes what `touch` found, and lets meta live on. Keys: meta, stream, counter, moved.
local function settle(keys, room, at, name)
  local lives = (room.first <= room.head and room.ends or at) + META_MS
  if room.renewed then
    move(keys[3], keys[4], name, room.fresh)
  end
  if room.drop then
    redis.call('DEL', keys[2])
  end
  if room.mended then
    follow(keys, room)
  end
  if room.changed then
    write_meta(keys[1], room)
  end
  if room.arm then
    redis.call('PEXPIREAT', keys[2], room.ends)
    redis.call('PEXPIREAT', beside(keys[1], 'holes'), room.ends + META_MS)
  end
  if room.changed or redis.call('PTTL', keys[1]) < lives - at - META_MS / 2 then
    live_until(keys, lives)
  end
end

-- Whether an entry is within what the room keeps. `keep`: size, bytes, how long (ms), whether it is an inbox, where those
-- that are too many are removed when one comes. Elsewhere what was removed counts as if it were there.
local function is_kept(room, keep, at, found)
  return found.at > at - keep.ttl and (keep.inbox or found.offset > room.head - keep.size
    and room.total - (found.sum - #found.payload) <= keep.bytes)
end

-- The offset of the lowest entry that is kept and the bytes below it; one above the head: none is. The rules let go of
-- the oldest first.
local function lowest_kept(stream, room, keep, at)
  local low, high = math.max(room.first, keep.inbox and 0 or room.head - keep.size + 1), room.head + 1
  local lowest, below = high, room.total
  local probe = low
  while low < high do
    local found = redis.call('XRANGE', stream, place(probe), place(high - 1), 'COUNT', 1)[1]
    found = found and entry(found)
    if not found then
      high = probe
    elseif is_kept(room, keep, at, found) then
      lowest, below, high = found.offset, found.sum - #found.payload, probe
    else
      low = found.offset + 1
    end
    probe = math.floor((low + high) / 2)
  end
  return lowest, below
end

local function keep_of(bytes, at)
  local size, bytes_max, ttl, inbox = struct.unpack('>I8I8I8B', bytes, at)
  return { size = size, bytes = bytes_max, ttl = ttl, inbox = inbox == 1 }
end

local function hex(bytes)
  return string.format('%08x%08x%08x%08x', struct.unpack('>I4I4I4I4', bytes))
end
