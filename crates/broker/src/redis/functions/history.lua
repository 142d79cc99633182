
-- Publications of rooms that keep them: appended, read, and let go.

-- Of so many of an inbox's oldest entries one of low priority goes first.
local OLDEST_MAX = 64
-- An inbox spans at most so many times as many offsets as it keeps entries.
local SPAN_TIMES = 2

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
local function is_lost(stream, holes, room, epoch, offset)
  if offset > room.head then
    return true
  elseif offset < room.first then
    return false
  end
  local found = not room.drop and entry_at(stream, offset)
  if found then
    return found.epoch ~= epoch
  end
  return room.holes == 0 or not read(false, 'HGET', holes, string.format('%.0f', offset))
end

-- Whether the young ids are to become the old ones, and whether early. The room as it is with its new entry.
local function is_due(keys, room, repeated, keep, at, ttl, max)
  if room.began == 0 then
    return false, 0
  end
  if at - room.began >= ttl then
    local kept = room.high >= room.first and room.high <= room.head and entry_at(keys[2], room.high)
    local is_named = kept and is_kept(room, keep, at, kept)
    if not kept and room.holes > 0 then
      -- It was removed: what it named counts as long as anything below it is kept.
      is_named = room.high >= lowest_kept(keys[2], room, keep, at)
    end
    if not is_named then
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

-- Holes below the first entry are none: the front has moved.
local function close_holes(keys, room)
  if room.holes == 0 then
    return
  end
  local key = beside(keys[1], 'holes')
  if room.first > room.head then
    redis.call('DEL', key)
    room.holes, room.gone = 0, 0
    return
  end
  local held = redis.call('HGETALL', key)
  room.holes, room.gone = 0, 0
  for i = 1, #held, 2 do
    if (tonumber(held[i]) or 0) < room.first or #held[i + 1] ~= HOLE_BYTES then
      redis.call('HDEL', key, held[i])
    else
      room.holes, room.gone = room.holes + 1, room.gone + struct.unpack('>I8', held[i + 1], 17)
    end
  end
end

-- Removes an entry: the front moves, or there is a hole.
local function remove(keys, room, it)
  redis.call('XDEL', keys[2], place(it.offset))
  if it.offset == room.first then
    local lowest = redis.call('XRANGE', keys[2], '-', '+', 'COUNT', 1)[1]
    lowest = lowest and entry(lowest)
    if lowest then
      room.first, room.below = lowest.offset, lowest.sum - #lowest.payload
    else
      room.first, room.below = room.head + 1, room.total
    end
    close_holes(keys, room)
  else
    local key = beside(keys[1], 'holes')
    redis.call('HSET', key, string.format('%.0f', it.offset), it.epoch .. struct.pack('>I8', #it.payload))
    redis.call('PEXPIREAT', key, room.ends + META_MS)
    room.holes, room.gone = room.holes + 1, room.gone + #it.payload
  end
end

-- What lies below an entry goes.
local function trim_to(keys, room, first, below)
  room.first, room.below = first, below
  redis.call('XTRIM', keys[2], 'MINID', place(first))
  close_holes(keys, room)
end

-- Entries that are not kept any more go in batches.
local function trim(keys, room, keep, at)
  if room.head - room.first + 1 > 1.25 * keep.size or room.total - room.below > 1.25 * keep.bytes then
    trim_to(keys, room, lowest_kept(keys[2], room, keep, at))
  end
end

-- These offsets of an inbox were removed, and no newer ones took their places.
local function lose(keys, room, offsets)
  room.lost = room.lost + #offsets
  lose_unacked(beside(keys[1], 'cursors'), offsets)
end

-- What of an inbox is past its time goes; who has not acked it has lost it. Answers whether anything went.
local function lapse(keys, room, keep, at)
  local first, below = lowest_kept(keys[2], room, keep, at)
  if first == room.first then
    return false
  end
  lose(keys, room, standing(keys, room.first, first - 1))
  trim_to(keys, room, first, below)
  return true
end

-- The oldest entry of low priority, if it is among the oldest of all.
local function oldest_low(keys, room)
  local index = beside(keys[1], 'low')
  while true do
    local offset = tonumber(redis.call('ZRANGE', index, 0, 0)[1])
    if not offset then
      return nil
    end
    local it = offset >= room.first and offset <= room.head and entry_at(keys[2], offset)
    if it and it.low then
      local below = offset - room.first
      if below >= OLDEST_MAX and below - room.holes < OLDEST_MAX then
        below = #standing(keys, room.first, offset - 1)
      end
      return below < OLDEST_MAX and it or nil
    end
    redis.call('ZREMRANGEBYRANK', index, 0, 0)
  end
end

-- While an inbox has too many entries or bytes, one goes: of the oldest the first of low priority, else the first. One
-- whose holes stretch too far lets the first go.
local function hold_quota(keys, room, keep)
  local removed = {}
  while room.first <= room.head do
    local span = room.head - room.first + 1
    local is_wide = span > SPAN_TIMES * keep.size
    if span - room.holes <= keep.size and room.total - room.below - room.gone <= keep.bytes and not is_wide then
      break
    end
    local it = not is_wide and oldest_low(keys, room) or entry_at(keys[2], room.first)
    if not it then
      break
    end
    removed[#removed + 1] = it.offset
    remove(keys, room, it)
  end
  if #removed > 0 then
    lose(keys, room, removed)
  end
end

-- The newest entry takes the place of the older one under the same key.
local function replace_older(keys, room, key)
  local index = beside(keys[1], 'newest')
  local older = tonumber(read(false, 'HGET', index, key) or nil)
  redis.call('HSET', index, key, string.format('%.0f', room.head))
  redis.call('PEXPIREAT', index, room.ends)
  if older and older >= room.first and older < room.head then
    local it = entry_at(keys[2], older)
    if it and it.key == key then
      remove(keys, room, it)
    end
  end
  if redis.call('HLEN', index) > 2 * (room.head - room.first + 1) + OLDEST_MAX then
    local held = redis.call('HGETALL', index)
    for i = 1, #held, 2 do
      if (tonumber(held[i + 1]) or 0) < room.first then
        redis.call('HDEL', index, held[i])
      end
    end
  end
end

-- An inbox lets go what is too much with its newest entry. `low`: its offset, if it is of low priority.
local function append_to_inbox(keys, room, keep, at, arm, low)
  if low then
    redis.call('ZADD', beside(keys[1], 'low'), low, low)
    redis.call('PEXPIREAT', beside(keys[1], 'low'), room.ends)
  end
  hold_quota(keys, room, keep)
  if arm then
    redis.call('PEXPIREAT', beside(keys[1], 'cursors'), math.max(room.ends + META_MS, at + DEVICE_IDLE_MS))
  end
end

-- Reads what letting go writes to as what it has to be, so that nothing fails in the middle.
local function look_beside(keys, keep, is_keyed)
  read(0, 'HLEN', beside(keys[1], 'holes'))
  if is_keyed then
    read(0, 'HLEN', beside(keys[1], 'newest'))
  end
  if keep.inbox then
    read(0, 'ZCARD', beside(keys[1], 'low'))
    read(0, 'HLEN', beside(keys[1], 'cursors'))
  end
end

-- A publication of a room that keeps them: gets its position, is appended and published in one step.
-- Keys: meta, stream, counter, moved, the young ids, the old ones. Arguments: kind and form, channel, envelope without
-- position, room, relay key; id (16 bytes), content (8), a fresh epoch (16); how long ids are remembered (ms), how
-- many, and what is kept; its flags as the stream has them, and its key.
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
    if not is_lost(keys[2], beside(keys[1], 'holes'), room, epoch, offset) then
      return { 1, epoch, offset, 0 }
    end
  end
  local command = string.sub(how, 1, 1) == 's' and 'SPUBLISH' or 'PUBLISH'
  if not redis.acl_check_cmd(command, channel, '') then
    return redis.error_reply('NOPERM this user has no permissions to publish on the channel of the room')
  elseif room.head >= OFFSET_MAX then
    return redis.error_reply('ERR the room has used up its offsets')
  end
  local flags, collapse = string.byte(limits, 42), string.sub(limits, 43)
  local is_low, is_keyed = flags % 2 == LOW, flags >= KEYED
  look_beside(keys, keep, is_keyed)
  local offset = room.head + 1
  local payload = envelope(string.sub(how, 2, 2), key, name, room.epoch, offset, rest)
  local sum = room.total + #payload
  -- From here on things are written. A counter that ran ahead harms nobody, so it goes before what must not fail.
  move(keys[3], keys[4], name, room.fresh)
  if room.drop then
    redis.call('DEL', keys[2])
  end
  if room.mended then
    follow(keys, room)
  end
  local mark = struct.pack(MARK, at, sum, room.epoch)
  if flags > 0 then
    mark = mark .. string.char(flags) .. (is_keyed and collapse or '')
  end
  local added = redis.pcall('XADD', keys[2], place(offset), 'm', mark, 'p', payload)
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
    redis.call('PEXPIREAT', beside(keys[1], 'holes'), room.ends + META_MS)
  end
  if keep.inbox then
    -- What is past its time is lost to who has not acked it, whatever would have taken its place.
    lapse(keys, room, keep, at)
  end
  if is_keyed then
    replace_older(keys, room, collapse)
  end
  if keep.inbox then
    append_to_inbox(keys, room, keep, at, arm, is_low and offset)
  else
    trim(keys, room, keep, at)
  end
  note(keys, room, id, content, young, keep, at, ttl, max)
  write_meta(keys[1], room)
  if arm then
    live_until(keys, room.ends + META_MS)
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

-- A page as it is filled: each place counts, removed ones without bytes. Answers whether there was room for it.
local function put_place(found, offset, epoch, payload)
  if #found.places >= found.count_max or (#found.places > 0 and found.bytes + #payload > found.bytes_max) then
    found.whole = false
    return false
  end
  found.bytes = found.bytes + #payload
  table.insert(found.places, { offset = offset, epoch = epoch, payload = payload })
  return true
end

-- Puts the holes from one offset to another, in this order.
local function put_holes(found, keys, room, from, to)
  for offset = from, to, from <= to and 1 or -1 do
    local held = room.holes > 0 and read(false, 'HGET', beside(keys[1], 'holes'), string.format('%.0f', offset))
    local epoch = held and #held == HOLE_BYTES and string.sub(held, 1, 16) or room.epoch
    if not put_place(found, offset, epoch, '') then
      return
    end
  end
end

-- What a room keeps within a span, entries and holes: offsets low to high, from the end `backward` says.
local function page(keys, room, low, high, backward, count_max, bytes_max)
  local found = { places = {}, bytes = 0, whole = true, count_max = count_max, bytes_max = bytes_max }
  while low <= high and found.whole do
    local entries
    if backward then
      entries = redis.call('XREVRANGE', keys[2], place(high), place(low), 'COUNT', CHUNK)
    else
      entries = redis.call('XRANGE', keys[2], place(low), place(high), 'COUNT', CHUNK)
    end
    for _, one in ipairs(entries) do
      local it = entry(one)
      if backward and it.offset < high then
        put_holes(found, keys, room, high, it.offset + 1)
      elseif not backward and it.offset > low then
        put_holes(found, keys, room, low, it.offset - 1)
      end
      if not found.whole or not put_place(found, it.offset, it.epoch, it.payload) then
        break
      end
      if backward then
        high = it.offset - 1
      else
        low = it.offset + 1
      end
    end
    if #entries == 0 then
      put_holes(found, keys, room, backward and high or low, backward and low or high)
      break
    end
  end
  return found.places, found.whole
end

-- Keys: meta, stream, counter, moved. Arguments: name, a fresh epoch (16 bytes) and what is kept, direction ('f' or
-- 'b'), an offset that is not asked for, at most how many, at most how many bytes.
-- Answers with epoch, head, the lowest kept offset, whether nothing lies beyond, and offset, epoch, bytes of each entry,
-- in rising order; one that was removed has none.
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
  local entries, whole = page(keys, room, low, high, backward, tonumber(args[5]), tonumber(args[6]))
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
-- Orders and revocations take away: they are kept also where the memory is full, and their rooms are small.
redis.register_function{ function_name = 'rc1_order', callback = append, flags = { 'allow-oom' } }
-- A Redis whose memory is full still answers what it keeps.
redis.register_function{ function_name = 'rc1_heads', callback = heads, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'rc1_history', callback = history, flags = { 'allow-oom' } }

