
-- Directories: named small values that stay until they are removed, or until nothing was set for too long. Of each a hash,
-- name → value, which is what counts; and a sorted set of the names, in their order.
do
  -- Names of one command.
  local AT_ONCE = 500

  -- Makes the names anew of the values: part of them was lost, or is somebody else's.
  local function mend_names(entries, names)
    redis.call('DEL', names)
    local all = redis.call('HKEYS', entries)
    for from = 1, #all, AT_ONCE do
      local members = {}
      for i = from, math.min(from + AT_ONCE - 1, #all) do
        members[#members + 1], members[#members + 2] = 0, all[i]
      end
      redis.call('ZADD', names, unpack(members))
    end
    local left = redis.call('PTTL', entries)
    if left > 0 then
      redis.call('PEXPIRE', names, left)
    end
  end

  -- How many entries there are. What somebody else put in their place counts as nothing.
  local function count_of(entries, names)
    local count = read(0, 'HLEN', entries)
    if read(0, 'ZCARD', names) ~= count then
      mend_names(entries, names)
    end
    return count
  end

  -- Keys: values, names. Arguments: name, '1' to set it and '0' to remove it, the value, how many entries there may be, how
  -- long nothing may be set before all is forgotten (ms; 0: for ever).
  -- Answers with 0 (done), entries, whether there was a value, and that value; or with 1 (full).
  local function set_entry(keys, args)
    local entries, names = keys[1], keys[2]
    local name, is_set, value, most, idle = args[1], args[2] == '1', args[3], tonumber(args[4]), tonumber(args[5])
    local count = count_of(entries, names)
    local before = redis.call('HGET', entries, name)
    if is_set then
      if not before and count >= most then
        return { 1 }
      end
      redis.call('HSET', entries, name, value)
      redis.call('ZADD', names, 0, name)
      count = before and count or count + 1
      local ends = string.format('%.0f', clock() + idle)
      for _, key in ipairs{ entries, names } do
        if idle > 0 then
          redis.call('PEXPIREAT', key, ends)
        else
          redis.call('PERSIST', key)
        end
      end
    elseif before then
      redis.call('HDEL', entries, name)
      redis.call('ZREM', names, name)
      count = count - 1
    end
    return { 0, count, before and 1 or 0, before or '' }
  end

  -- Keys: values, names. Arguments: name. Removes an entry, also where the memory is full: it becomes less.
  -- Answers as the one that sets does.
  local function remove_entry(keys, args)
    return set_entry(keys, { args[1], '0', '', '0', '0' })
  end

  -- Keys: values, names. Arguments: behind which name to begin (as ZRANGEBYLEX says it) and at most how many; or '' and the
  -- one name that is asked for.
  -- Answers with how many entries there are, whether more follow, and name and value of each.
  local function get_entries(keys, args)
    local entries, names = keys[1], keys[2]
    local answer = { count_of(entries, names), 0 }
    if args[1] == '' then
      local value = redis.call('HGET', entries, args[2])
      answer[3], answer[4] = value and args[2] or nil, value or nil
      return answer
    end
    local most = tonumber(args[2])
    local function look()
      local found = redis.call('ZRANGEBYLEX', names, args[1], '+', 'LIMIT', 0, most + 1)
      return found, #found > 0 and redis.call('HMGET', entries, unpack(found)) or {}
    end
    local found, values = look()
    for i = 1, #found do
      if not values[i] then
        -- Somebody else's: with as many names as there are values, it shows only here.
        mend_names(entries, names)
        found, values = look()
        break
      end
    end
    answer[2] = #found > most and 1 or 0
    for i = 1, math.min(#found, most) do
      answer[#answer + 1], answer[#answer + 2] = found[i], values[i]
    end
    return answer
  end

  redis.register_function('rc1_entry', set_entry)
  redis.register_function{ function_name = 'rc1_remove', callback = remove_entry, flags = { 'allow-oom' } }
  -- A Redis whose memory is full still answers what it keeps.
  redis.register_function{ function_name = 'rc1_entries', callback = get_entries, flags = { 'allow-oom' } }
end
