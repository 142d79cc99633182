
-- What devices have yet to get of an inbox (G15, G16).

-- The device that was idle longest.
local function idlest(cursors)
  local found
  for device, it in pairs(cursors) do
    local before = found and cursors[found].moved
    if device ~= '' and (not found or it.moved < before or (it.moved == before and device < found)) then
      found = device
    end
  end
  return found
end

-- A device's cursor, made if it is not there: where the furthest one stands, or, where there is none, before all that
-- there was in the room. Cursors that were idle too long go, and beyond their number the device that was idle longest.
local function open_cursor(key, device, at, room)
  local cursors, devices = cursors_in(key), 0
  for name, it in pairs(cursors) do
    local ends = it.moved + (name == '' and USER_IDLE_MS or DEVICE_IDLE_MS)
    if ends <= at and not (name == '' and room.known) then
      redis.call('HDEL', key, name)
      cursors[name] = nil
    elseif name ~= '' then
      devices = devices + 1
    end
  end
  if not cursors[device] then
    if device ~= '' and devices >= DEVICES_MAX then
      local idle = idlest(cursors)
      redis.call('HDEL', key, idle)
      cursors[idle] = nil
    end
    local furthest, lost = 0, next(cursors) and 0 or room.lost
    for _, it in pairs(cursors) do
      furthest = math.max(furthest, it.watermark)
    end
    cursors[device] = { watermark = furthest, lost = lost, told = 0, moved = at, above = {}, number = string.sub(room.fresh, 9) }
  end
  local it = cursors[device]
  it.moved = math.max(it.moved, at)
  return it
end

-- Takes in what was acked, as far as it can have been: the watermark swallows what is next to it, and of the rest the
-- lowest stay.
local function move_cursor(it, head, watermark, above)
  it.watermark = math.min(math.max(it.watermark, watermark), head)
  local acked, seen = {}, {}
  for _, offsets in ipairs{ it.above, above } do
    for _, offset in ipairs(offsets) do
      if offset > it.watermark and offset <= head and not seen[offset] then
        seen[offset], acked[#acked + 1] = true, offset
      end
    end
  end
  table.sort(acked)
  it.above = {}
  for _, offset in ipairs(acked) do
    if offset == it.watermark + 1 then
      it.watermark = offset
    elseif #it.above < ABOVE_MAX then
      table.insert(it.above, offset)
    end
  end
end

-- A touched inbox lets go what is past its time. Answers with its cursor of a device.
local function inbox_of(keys, room, keep, device, at, name)
  look_beside(keys, keep, false)
  settle(keys, room, at, name)
  if lapse(keys, room, keep, at) then
    write_meta(keys[1], room)
  end
  return open_cursor(beside(keys[1], 'cursors'), device, at, room)
end

local function keep_cursor(keys, room, device, it, at)
  local key = beside(keys[1], 'cursors')
  write_cursor(key, device, it)
  redis.call('PEXPIREAT', key, math.max(room.ends + META_MS, at + DEVICE_IDLE_MS))
end

-- What stands for a device in an inbox. A device that is new is remembered from now on.
-- Keys: meta, stream, counter, moved. Arguments: name, a fresh epoch (16 bytes) and what is kept, device.
-- Answers with epoch, head, the lowest kept offset, the watermark, how many were lost, of how many the device was told,
-- the cursor's number (8 bytes), and what is acked above.
local function inbox(keys, args)
  local at, keep = clock(), keep_of(args[2], 17)
  local room = touch(keys, at, string.sub(args[2], 1, 16), keep.ttl)
  local it = inbox_of(keys, room, keep, args[3], at, args[1])
  keep_cursor(keys, room, args[3], it, at)
  local first = lowest_kept(keys[2], room, keep, at)
  return { room.epoch, room.head, first, it.watermark, it.lost, it.told, it.number, unpack(it.above) }
end

-- Moves a cursor, unless it was acked in another epoch, and notes of how many lost ones its device was told by that same
-- cursor, as far as there are as many: done again it changes nothing.
-- Keys: meta, stream, counter, moved. Arguments: as of `inbox`; the epoch (16 bytes) and the watermark in it; a cursor's
-- number and of how many lost ones it told the device, ever; what was acked above (8 bytes each).
-- Answers with whether it was moved.
local function ack(keys, args)
  local at, keep = clock(), keep_of(args[2], 17)
  local ids, old_ids = beside(keys[1], 'kept-ids'), beside(keys[1], 'kept-ids-old')
  if redis.call('EXISTS', keys[1], keys[2], beside(keys[1], 'cursors'), ids, old_ids) == 0 then
    -- Nothing is known of the room: whatever was acked went with it.
    return 0
  end
  local room = touch(keys, at, string.sub(args[2], 1, 16), keep.ttl)
  local epoch, watermark = struct.unpack('>c16I8', args[4])
  local counts = epoch == room.epoch
  local it, above = inbox_of(keys, room, keep, args[3], at, args[1]), {}
  local number, told = struct.unpack('>c8I8', args[5])
  if number == it.number then
    it.told = math.min(math.max(it.told, told), it.lost)
  end
  if counts then
    for place_of = 1, #args[6], 8 do
      table.insert(above, (struct.unpack('>I8', args[6], place_of)))
    end
    move_cursor(it, room.head, watermark, above)
  end
  keep_cursor(keys, room, args[3], it, at)
  return counts and 1 or 0
end

-- A Redis whose memory is full still answers what is unread: a room has few cursors, each with little to it.
redis.register_function{ function_name = 'rc1_inbox', callback = inbox, flags = { 'allow-oom' } }
redis.register_function('rc1_ack', ack)
