
-- Since when a user has got or read what of a room (G17): steps of 16 bytes, an offset and when the first mark came that
-- covers it (ms), both rising. Of each room a hash: the version ('v'), and the steps of each user, delivered ('d' and the
-- name) and read ('r' and the name); and a sorted set of the users, in the order of their names.

-- Steps that are kept of each, and users with any in one room.
local STEP, STEP_BYTES, STEPS_MAX, MARK_USERS_MAX = '>I8I8', 16, 256, 10000

-- Offset and time of a step, the first is 0; the one behind the last has none.
local function step_at(steps, number)
  local at = number * STEP_BYTES + 1
  if #steps < at then
    return nil
  end
  local offset, time = struct.unpack(STEP, steps, at)
  return offset, time
end

-- Offset and time of the last step; 0 if there is none.
local function last_step(steps)
  if #steps == 0 then
    return 0, 0
  end
  return step_at(steps, #steps / STEP_BYTES - 1)
end

-- The number of the first step that covers an offset.
local function covering(steps, offset)
  local low, high = 0, #steps / STEP_BYTES
  while low < high do
    local probe = math.floor((low + high) / 2)
    if step_at(steps, probe) < offset then
      low = probe + 1
    else
      high = probe
    end
  end
  return low
end

-- The stream ends here: what lies above has not been yet. What is somebody else's goes.
local function clamp_marks(key, users, head)
  for _, field in ipairs(read({}, 'HKEYS', key)) do
    local steps = field ~= 'v' and redis.call('HGET', key, field)
    if steps and #steps % STEP_BYTES ~= 0 then
      redis.call('HDEL', key, field)
    elseif steps and last_step(steps) > head then
      local kept = covering(steps, head)
      local _, time = step_at(steps, kept)
      steps = string.sub(steps, 1, kept * STEP_BYTES)
      if head > 0 then
        redis.call('HSET', key, field, steps .. struct.pack(STEP, head, time))
      else
        redis.call('HDEL', key, field)
        redis.call('ZREM', users, string.sub(field, 2))
      end
    end
  end
end
