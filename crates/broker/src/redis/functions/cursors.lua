
-- How far each device of a user has acked an inbox (G15, G16): a hash of devices, '' for the user's own cursor.

-- How long a cursor is kept that nobody asks for or moves (ms): a device's, and the user's own if its room is forgotten.
local DEVICE_IDLE_MS, USER_IDLE_MS = 2592000000, 604800000
-- Devices of a user that have a cursor; acked numbers above a watermark.
local DEVICES_MAX, ABOVE_MAX = 16, 256

-- A cursor: all up to here is acked; how many were lost, ever, and of how many of them the device was told; when it was
-- moved last (ms); a number by which it is told from whatever stood for the device before. Behind them, 8 bytes each, what is acked above.
local CURSOR, CURSOR_BYTES = '>I8I8I8I8c8', 40

local function cursor_of(held)
  if #held < CURSOR_BYTES or #held % 8 ~= 0 then
    return nil
  end
  local it = { above = {} }
  it.watermark, it.lost, it.told, it.moved, it.number = struct.unpack(CURSOR, held)
  for at = CURSOR_BYTES + 1, #held, 8 do
    table.insert(it.above, (struct.unpack('>I8', held, at)))
  end
  return it
end

local function write_cursor(key, device, it)
  local parts = { struct.pack(CURSOR, it.watermark, it.lost, it.told, it.moved, it.number) }
  for _, offset in ipairs(it.above) do
    parts[#parts + 1] = struct.pack('>I8', offset)
  end
  redis.call('HSET', key, device, table.concat(parts))
end

-- All cursors of a room, by device.
local function cursors_in(key)
  local held, cursors = read({}, 'HGETALL', key), {}
  for i = 1, #held, 2 do
    local it = cursor_of(held[i + 1])
    if it then
      cursors[held[i]] = it
    else
      redis.call('HDEL', key, held[i])
    end
  end
  return cursors
end

-- These offsets were removed: who has not acked them has lost them.
local function lose_unacked(key, offsets)
  for device, it in pairs(cursors_in(key)) do
    local acked, lost = {}, 0
    for _, offset in ipairs(it.above) do
      acked[offset] = true
    end
    for _, offset in ipairs(offsets) do
      if offset > it.watermark and not acked[offset] then
        lost = lost + 1
      end
    end
    if lost > 0 then
      it.lost = it.lost + lost
      write_cursor(key, device, it)
    end
  end
end

-- The stream ends here: what lies above has not been yet.
local function clamp_cursors(key, head)
  for device, it in pairs(cursors_in(key)) do
    local above = {}
    for _, offset in ipairs(it.above) do
      if offset <= head then
        above[#above + 1] = offset
      end
    end
    if it.watermark > head or #above < #it.above then
      it.watermark, it.above = math.min(it.watermark, head), above
      write_cursor(key, device, it)
    end
  end
end
