
-- How much of a room its users have got and read (G17).
do
  -- How the times of the older half are read at once: one by one takes some ten times as long. Made when it is needed: a
  -- library that loads has no functions on strings yet.
  local older

  -- Two neighbours of the older half become one, those whose times lie closest: without the earlier one, the later one
  -- stands for both.
  local function merge(steps)
    older = older or '>' .. string.rep('xxxxxxxxI8', STEPS_MAX / 2)
    local times, closest, apart = { struct.unpack(older, steps) }, 0, math.huge
    for number = 1, STEPS_MAX / 2 - 1 do
      local between = times[number + 1] - times[number]
      if between < apart then
        closest, apart = number - 1, between
      end
    end
    return string.sub(steps, 1, closest * STEP_BYTES) .. string.sub(steps, (closest + 1) * STEP_BYTES + 1)
  end

  local function mark(steps, offset, at)
    local last, time = last_step(steps)
    if offset <= last then
      return steps
    end
    -- A clock that was put back makes no later mark an earlier one.
    steps = steps .. struct.pack(STEP, offset, math.max(at, time))
    return #steps > STEPS_MAX * STEP_BYTES and merge(steps) or steps
  end

  -- When the first step came that covers an offset.
  local function time_of(steps, offset)
    local last, time = last_step(steps)
    if offset < last then
      time = select(2, step_at(steps, covering(steps, offset)))
    end
    return offset <= last and time or nil
  end

  -- When an offset was first marked. What is read is delivered; where steps of the latter were merged, the former may know
  -- better.
  local function first(it, kind, offset)
    local read_at = time_of(it.r, offset)
    if kind == 'r' then
      return read_at
    end
    local at = time_of(it.d, offset)
    return at and read_at and math.min(at, read_at) or at or read_at
  end

  -- What these users have marked. What somebody else put in its place counts as nothing.
  local function users_of(key, names)
    local users, delivered, read_of = {}, fields_of(key, 'd', names), fields_of(key, 'r', names)
    local function sound(steps)
      return steps and #steps % STEP_BYTES == 0 and #steps <= STEPS_MAX * STEP_BYTES and steps or ''
    end
    for _, name in ipairs(names) do
      users[name] = users[name] or { name = name, d = sound(delivered[name]), r = sound(read_of[name]) }
    end
    return users
  end

  -- The changes with their users. Answers with those, and with how many users have no receipts so far.
  local function changes_of(key, args, from, head)
    local changes, names, new = {}, {}, 0
    for i = from + 1, #args, 2 do
      names[#names + 1] = args[i]
    end
    local users = users_of(key, names)
    for i = from, #args, 2 do
      local kind, offset = struct.unpack('>c1I8', args[i])
      local it = users[args[i + 1]]
      offset = math.min(offset, head)
      if #it.d == 0 and not it.new and offset > 0 then
        it.new, new = true, new + 1
      end
      changes[#changes + 1] = { user = it, kind = kind, offset = offset }
    end
    return changes, new
  end

  -- Takes the changes in. Answers with the users of whom a mark rose.
  local function rise(changes, at)
    local risen = {}
    for _, change in ipairs(changes) do
      local it, offset = change.user, change.offset
      if offset > 0 and offset > last_step(it[change.kind]) then
        it.d = mark(it.d, offset, at)
        if change.kind == 'r' then
          it.r = mark(it.r, offset, at)
        end
        if not it.risen then
          it.risen, risen[#risen + 1] = true, it
        end
      end
    end
    return risen
  end

  -- How far a user is: offset and time of both kinds, 0 for none.
  local function standing_of(it)
    local got, seen = last_step(it.d), last_step(it.r)
    return got, got > 0 and first(it, 'd', got) or 0, seen, seen > 0 and first(it, 'r', seen) or 0
  end

  -- What nodes are told of a step.
  local function told_of(room, key, name, version, risen)
    local list = {}
    for i, it in ipairs(risen) do
      list[i] = string.format('[%s,%.0f,%.0f,%.0f,%.0f]', quoted({ it.name }), standing_of(it))
    end
    local body = string.format('{"receipts":{"epoch":"%s","version":%.0f,"users":[%s]}', hex(room.epoch), version,
      table.concat(list, ','))
    return body .. ',"hash":"' .. string.sub(redis.sha1hex(key .. name .. body .. key), 1, 16) .. '"}'
  end

  local function version_of(key)
    local held = tonumber(read(false, 'HGET', key, 'v') or nil)
    return held and held >= 0 and held < OFFSET_MAX and held or 0
  end

  -- Marks what users have got and read, and tells it; where the room has another epoch, or too many users, nothing.
  -- Keys: meta, stream, counter, moved. Arguments: name, a fresh epoch (16 bytes) and what is kept, relay key, how the room
  -- is published ('p', 'e' or 's'), the epoch of the offsets (16 bytes); for each change its kind ('d' or 'r') with the
  -- offset (8 bytes), and the user.
  -- Answers with 0, epoch and head, and offset and first time of each change; with 1, epoch and head; or with 2.
  local function set_marks(keys, args)
    local name, fresh, key, how, epoch = unpack(args, 1, 5)
    local at, keep = clock(), keep_of(fresh, 17)
    local marks, users = beside(keys[1], 'marks'), beside(keys[1], 'marked')
    local prefix = string.match(keys[1], '^rc:{.-}:')
    local channel = how == 'p' and 'room:' .. name or prefix .. name
    local command = how == 's' and 'SPUBLISH' or 'PUBLISH'
    if not redis.acl_check_cmd(command, channel, '') then
      return redis.error_reply('NOPERM this user has no permissions to publish on the channel of the room')
    end
    local room = touch(keys, at, string.sub(fresh, 1, 16), keep.ttl)
    settle(keys, room, at, name)
    if epoch ~= room.epoch then
      return { 1, room.epoch, room.head }
    end
    local version, known = version_of(marks), read(0, 'ZCARD', users)
    local changes, new = changes_of(marks, args, 6, room.head)
    if new > 0 and known + new > MARK_USERS_MAX then
      return { 2 }
    end
    local risen = rise(changes, at)
    local answer = { 0, room.epoch, room.head }
    for _, change in ipairs(changes) do
      local time = change.offset > 0 and first(change.user, change.kind, change.offset)
      answer[#answer + 1], answer[#answer + 2] = time and change.offset or 0, time or 0
    end
    if #risen == 0 then
      return answer
    end
    local fields, members = { 'v', string.format('%.0f', version + 1) }, {}
    for _, it in ipairs(risen) do
      fields[#fields + 1], fields[#fields + 2] = 'd' .. it.name, it.d
      if #it.r > 0 then
        fields[#fields + 1], fields[#fields + 2] = 'r' .. it.name, it.r
      end
      members[#members + 1], members[#members + 2] = 0, it.name
    end
    redis.call('HSET', marks, unpack(fields))
    redis.call('ZADD', users, unpack(members))
    live_until(keys, at + redis.call('PTTL', keys[1]))
    redis.call(command, channel, told_of(room, key, name, version + 1, risen))
    return answer
  end

  -- What users have got and read of a room, or since when one publication.
  -- Keys: meta, stream, counter, moved. Arguments: name, a fresh epoch (16 bytes) and what is kept, the publication (0: how
  -- far users are), behind which user to begin (as ZRANGEBYLEX says it), at most how many users.
  -- Answers with epoch, head and version, behind whom there are more ('' and whether there are), and of each user the name,
  -- and offset and time of what was delivered and read.
  local function receipts(keys, args)
    local at, keep = clock(), keep_of(args[2], 17)
    local room = touch(keys, at, string.sub(args[2], 1, 16), keep.ttl)
    settle(keys, room, at, args[1])
    local marks, of, most = beside(keys[1], 'marks'), tonumber(args[3]), tonumber(args[5])
    local answer = { room.epoch, room.head, version_of(marks) }
    local found = read({}, 'ZRANGEBYLEX', beside(keys[1], 'marked'), args[4], '+', 'LIMIT', 0, most + 1)
    local is_more = #found > most
    answer[4], answer[5] = is_more and 1 or 0, is_more and found[most] or ''
    found[most + 1] = nil
    local users = users_of(marks, found)
    for _, name in ipairs(found) do
      local it = users[name]
      local got, got_at, seen, seen_at = standing_of(it)
      if of > 0 then
        got, seen = got >= of and of or 0, seen >= of and of or 0
        got_at, seen_at = got > 0 and first(it, 'd', of) or 0, seen > 0 and first(it, 'r', of) or 0
      end
      if got > 0 then
        for _, part in ipairs{ it.name, got, got_at, seen, seen_at } do
          answer[#answer + 1] = part
        end
      end
    end
    return answer
  end

  redis.register_function('rc1_mark', set_marks)
  redis.register_function{ function_name = 'rc1_marks', callback = receipts, flags = { 'allow-oom' } }
end
