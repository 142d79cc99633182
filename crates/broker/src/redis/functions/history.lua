-- What a room keeps (G2): a stream whose entries are `<offset>-0`, and its meta. Read first, decided, then written.

-- How long the meta outlives the last entry (ms).
local META_MS = 600000
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
-- ones, the highest offset they name.
local META, META_BYTES = '>c16I8I8I8I8I8c40I8I8I8BI8', 129

local function place(offset)
  return string.format('%.0f-0', offset)
end

-- An entry as it stands in the stream: `m` holds its time (ms), the sum of bytes up to it and its epoch, `p` its bytes.
local function entry(found)
  local offset = tonumber(string.match(found[1], '^(%d+)%-0$'))
  local fields = found[2]
  if not offset or fields[1] ~= 'm' or fields[3] ~= 'p' or #fields[2] ~= 32 then
    return nil
  end
  local at, sum, epoch = struct.unpack('>I8I8c16', fields[2])
  return { offset = offset, at = at, sum = sum, epoch = epoch, payload = fields[4] }
end

local function entry_at(stream, offset)
  local found = redis.call('XRANGE', stream, place(offset), place(offset))[1]
  return found and entry(found)
end

-- The stream is empty from now on: what comes next stands behind the head.
local function forget(room)
  room.first, room.below = room.head + 1, room.total
end

-- The stream is not what meta says, or there is none of both.
local function mend(room, keys, length, at, ttl)
  local stream = keys[2]
  local last = length > 0 and entry(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1])
  local lowest = length > 0 and entry(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1])
  if not room.epoch then
    room.head, room.total, room.ends = 0, 0, 0
    room.first, room.below = 1, 0
    room.renewed = true
  end
  if last and lowest and last.offset - lowest.offset + 1 == length and last.offset >= room.head then
    room.renewed = room.renewed or last.offset ~= room.head
    room.head, room.total = last.offset, last.sum
    room.first, room.below = lowest.offset, lowest.sum - #lowest.payload
    if room.ends == 0 then
      room.ends, room.arm = at + math.ceil(1.25 * ttl), true
    end
  elseif length > 0 then
    -- A hole, or somebody else's entries: none of them can be answered for.
    room.drop, room.renewed = true, true
    room.head = math.max(room.head, last and last.offset or 0)
    forget(room)
  else
    -- What is past its time went by itself.
    room.renewed = room.renewed or (room.first <= room.head and at <= room.ends)
    forget(room)
  end
end

-- Reads a room's meta, and finds out whether its stream goes on or begins anew; nothing is written.
-- Keys: meta, stream. `ttl`: how long an entry is kept (ms).
local function touch(keys, at, fresh, ttl)
  local held = read(false, 'GET', keys[1])
  local length = read(0, 'XLEN', keys[2])
  local room
  if held and #held == META_BYTES then
    local epoch, head, total, first, below, ends, written, began, ids_end, base, short, high = struct.unpack(META, held)
    room = {
      epoch = epoch, head = head, total = total, first = first, below = below, ends = ends, master = master(),
      began = began, ids_end = ids_end, base = base, short = short, high = high,
      renewed = false, changed = false, arm = false, drop = false,
    }
    room.renewed = written ~= room.master
  else
    room = { master = master(), began = 0, ids_end = 0, base = 0, short = 0, high = 0 }
  end
  if not room.epoch or length ~= room.head - room.first + 1 then
    mend(room, keys, length, at, ttl)
    room.changed = true
  end
  if room.renewed then
    room.epoch, room.changed = fresh, true
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
    room.master, room.began, room.ids_end, room.base, room.short, room.high), 'KEEPTTL')
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
  if room.changed then
    write_meta(keys[1], room)
  end
  if room.arm then
    redis.call('PEXPIREAT', keys[2], room.ends)
  end
  if room.changed or redis.call('PTTL', keys[1]) < lives - at - META_MS / 2 then
    redis.call('PEXPIREAT', keys[1], lives)
  end
end

-- Whether an entry is within what the room keeps. `keep`: size, bytes, how long (ms).
local function is_kept(room, keep, at, found)
  return found.offset > room.head - keep.size and room.total - (found.sum - #found.payload) <= keep.bytes
    and found.at > at - keep.ttl
end

-- The lowest offset that is kept and the bytes below it; one above the head: none is. The rules let go of the oldest
-- first.
local function lowest_kept(stream, room, keep, at)
  local low, high, below = math.max(room.first, room.head - keep.size + 1), room.head + 1, room.total
  local probe = low
  while low < high do
    local found = entry_at(stream, probe)
    if found and is_kept(room, keep, at, found) then
      high, below = probe, found.sum - #found.payload
    else
      low = probe + 1
    end
    probe = math.floor((low + high) / 2)
  end
  return high, below
end

local function keep_of(bytes, at)
  local size, bytes_max, ttl = struct.unpack('>I8I8I8', bytes, at)
  return { size = size, bytes = bytes_max, ttl = ttl }
end

local function hex(bytes)
  return string.format('%08x%08x%08x%08x', struct.unpack('>I4I4I4I4', bytes))
end

-- The envelope with its position and hash (docs/RELAY.md).
local function envelope(form, key, name, epoch, offset, rest)
  if form == 'j' then
    local text = string.format('%s,"epoch":"%s","offset":%.0f', rest, hex(epoch), offset)
    local hash = redis.sha1hex(key .. name .. text .. '}}' .. key)
    return text .. ',"hash":"' .. string.sub(hash, 1, 16) .. '"}}'
  end
  local signed = epoch .. struct.pack('>I8', offset) .. rest
  local hash = redis.sha1hex(key .. name .. '\1' .. signed .. key)
  local high, low = tonumber(string.sub(hash, 1, 8), 16), tonumber(string.sub(hash, 9, 16), 16)
  return '\193\1' .. struct.pack('>I4I4', high, low) .. signed
end

-- Whether the entry that an id stands for is gone although the room should keep it.
local function is_lost(stream, room, epoch, offset)
  if offset > room.head then
    return true
  elseif offset < room.first then
    return false
  end
  local found = not room.drop and entry_at(stream, offset)
  return not (found and found.epoch == epoch)
end

-- Whether the young ids are to become the old ones, and whether early. The room as it is with its new entry.
local function is_due(keys, room, repeated, keep, at, ttl, max)
  if room.began == 0 then
    return false, 0
  end
  if at - room.began >= ttl then
    local kept = room.high >= room.first and room.high <= room.head and room.high > room.head - keep.size
      and entry_at(keys[2], room.high)
    if not (kept and is_kept(room, keep, at, kept)) then
      return true, 0
    end
  end
  local count = room.head - 1 - room.base
  if (count >= max or count < 0) and not repeated then
    return redis.call('HLEN', keys[5]) >= max, 1
  end
  return false, 0
end

-- Remembers the id of the newest entry. Ids live in two hashes as in `remember`, but one is known as long as its entry
-- is kept.
local function note(keys, room, id, content, repeated, keep, at, ttl, max)
  local due, short = is_due(keys, room, repeated, keep, at, ttl, max)
  if due then
    if redis.call('HLEN', keys[5]) > 0 then
      redis.call('RENAME', keys[5], keys[6])
      redis.call('PEXPIREAT', keys[6], math.max(room.ends, at + ttl))
    end
    room.high = room.head - 1
  end
  if due or room.began == 0 then
    room.began, room.base, room.short, room.ids_end = at, room.head - 1, short, 0
  end
  redis.call('HSET', keys[5], id, content .. room.epoch .. struct.pack('>I8', room.head))
  if room.ids_end < room.ends or room.ids_end < at + ttl then
    room.ids_end = math.max(room.ends, at + 2 * ttl)
    redis.call('PEXPIREAT', keys[5], room.ids_end)
  end
end

-- Entries that are not kept any more go in batches.
local function trim(stream, room, keep, at)
  if room.head - room.first + 1 > 1.25 * keep.size or room.total - room.below > 1.25 * keep.bytes then
    room.first, room.below = lowest_kept(stream, room, keep, at)
    redis.call('XTRIM', stream, 'MINID', place(room.first))
  end
end

-- A publication of a room that keeps them: gets its position, is appended and published in one step.
-- Keys: meta, stream, counter, moved, the young ids, the old ones. Arguments: kind and form, channel, envelope without
-- position, room, relay key; id (16 bytes), content (8), a fresh epoch (16); how long ids are remembered (ms), how
-- many, and what is kept.
-- Answers with 0 (new), 1 (the same again) or 2 (other content), epoch, offset, whether the memory was too short.
local function append(keys, args)
  local how, channel, rest, name, key, marks, limits = unpack(args)
  local id, content, fresh = string.sub(marks, 1, 16), string.sub(marks, 17, 24), string.sub(marks, 25, 40)
  local ttl, max = struct.unpack('>I8I8', limits)
  local keep = keep_of(limits, 17)
  local at = clock()
  local room = touch(keys, at, fresh, keep.ttl)
  local young = read(false, 'HGET', keys[5], id)
  local known = young or read(false, 'HGET', keys[6], id)
  if known and #known == 32 then
    if string.sub(known, 1, 8) ~= content then
      return { 2 }
    end
    local epoch, offset = struct.unpack('>c16I8', known, 9)
    if not is_lost(keys[2], room, epoch, offset) then
      return { 1, epoch, offset, 0 }
    end
  end
  local command = string.sub(how, 1, 1) == 's' and 'SPUBLISH' or 'PUBLISH'
  if not redis.acl_check_cmd(command, channel, '') then
    return redis.error_reply('NOPERM this user has no permissions to publish on the channel of the room')
  elseif room.head >= OFFSET_MAX then
    return redis.error_reply('ERR the room has used up its offsets')
  end
  local offset = room.head + 1
  local payload = envelope(string.sub(how, 2, 2), key, name, room.epoch, offset, rest)
  local sum = room.total + #payload
  -- From here on things are written. A counter that ran ahead harms nobody, so it goes before what must not fail.
  move(keys[3], keys[4], name, room.fresh)
  if room.drop then
    redis.call('DEL', keys[2])
  end
  local added = redis.pcall('XADD', keys[2], place(offset), 'm', struct.pack('>I8I8c0', at, sum, room.epoch), 'p', payload)
  if type(added) == 'table' then
    -- Somebody let the stream's ids run ahead: without it the next try begins anew.
    redis.call('DEL', keys[2])
    return redis.error_reply('TRYAGAIN ' .. added.err)
  end
  room.head, room.total = offset, sum
  -- A stream that was not there, or not as it should be, has no time of its own yet.
  local arm = room.changed or room.first == offset or room.ends - at < keep.ttl
  if arm then
    room.ends = math.max(room.ends, at + math.ceil(1.25 * keep.ttl))
    redis.call('PEXPIREAT', keys[2], room.ends)
  end
  trim(keys[2], room, keep, at)
  note(keys, room, id, content, young, keep, at, ttl, max)
  write_meta(keys[1], room)
  if arm then
    redis.call('PEXPIREAT', keys[1], room.ends + META_MS)
  end
  redis.call(command, channel, payload)
  return { 0, room.epoch, offset, room.short }
end

-- The newest positions of rooms. Keys: meta, stream, counter, moved of each. Arguments: name, and a fresh epoch (16
-- bytes) with how long an entry is kept (ms), of each.
-- Answers with epoch and head of each.
local function heads(keys, args)
  local at = clock()
  local answer = {}
  for i = 1, #args / 2 do
    local own = { keys[4 * i - 3], keys[4 * i - 2], keys[4 * i - 1], keys[4 * i] }
    local fresh, ttl = struct.unpack('>c16I8', args[2 * i])
    local room = touch(own, at, fresh, ttl)
    settle(own, room, at, args[2 * i - 1])
    answer[2 * i - 1], answer[2 * i] = room.epoch, room.head
  end
  return answer
end

-- Kept publications of a room, within a span: offsets low to high, from the end `backward` says.
local function page(stream, low, high, backward, count_max, bytes_max)
  local entries, bytes, whole = {}, 0, true
  while low <= high and whole do
    local found
    if backward then
      found = redis.call('XREVRANGE', stream, place(high), place(low), 'COUNT', CHUNK)
    else
      found = redis.call('XRANGE', stream, place(low), place(high), 'COUNT', CHUNK)
    end
    if #found == 0 then
      break
    end
    for _, one in ipairs(found) do
      local it = entry(one)
      bytes = bytes + #it.payload
      if #entries >= count_max or (#entries > 0 and bytes > bytes_max) then
        whole = false
        break
      end
      entries[#entries + 1] = it
      if backward then
        high = it.offset - 1
      else
        low = it.offset + 1
      end
    end
  end
  return entries, whole
end

-- Keys: meta, stream, counter, moved. Arguments: name, a fresh epoch (16 bytes) and what is kept, direction ('f' or
-- 'b'), an offset that is not asked for, at most how many, at most how many bytes.
-- Answers with epoch, head, the lowest kept offset, whether nothing lies beyond, and offset, epoch, bytes of each entry,
-- in rising order.
local function history(keys, args)
  local at = clock()
  local keep = keep_of(args[2], 17)
  local room = touch(keys, at, string.sub(args[2], 1, 16), keep.ttl)
  settle(keys, room, at, args[1])
  local first = lowest_kept(keys[2], room, keep, at)
  local backward, from = args[3] == 'b', tonumber(args[4])
  local low, high = first, room.head
  if backward then
    high = math.min(high, from - 1)
  else
    low = math.max(low, from + 1)
  end
  local entries, whole = page(keys[2], low, high, backward, tonumber(args[5]), tonumber(args[6]))
  local answer = { room.epoch, room.head, first, whole and 1 or 0 }
  for i = 1, #entries do
    local it = entries[backward and #entries + 1 - i or i]
    answer[#answer + 1] = it.offset
    answer[#answer + 1] = it.epoch
    answer[#answer + 1] = it.payload
  end
  return answer
end

redis.register_function('rc1_append', append)
-- A Redis whose memory is full still answers what it keeps.
redis.register_function{ function_name = 'rc1_heads', callback = heads, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_history', callback = history, flags = { 'allow-oom' } }

