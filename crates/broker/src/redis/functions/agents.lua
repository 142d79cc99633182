-- What has yet to be told of the agents' room (G19). Each diff stands in a sorted set from the step that made it until a
-- node has told it, in their order. The oldest are given to one node at a time, and given again where nobody says in time
-- that they were told.

local AGENTS = '$agents'
-- Diffs that are given at once, and that wait.
local GIVEN_MAX, UNTOLD_MAX = 16, 1000
-- How long a node has to tell what it was given, and how long diffs wait (ms).
local TELLING_MS, UNTOLD_MS = 3000, 3600000

local function look_untold(prefix)
  read(0, 'ZCARD', prefix .. 'untold:')
end

-- A step was made: if it is one of the agents' room, it has yet to be told.
local function note_untold(prefix, name, told)
  if name ~= AGENTS then
    return
  end
  local untold = prefix .. 'untold:'
  local newest = redis.call('ZRANGE', untold, -1, -1, 'WITHSCORES')[2]
  redis.call('ZADD', untold, tonumber(newest or 0) + 1, told)
  redis.call('ZREMRANGEBYRANK', untold, 0, -UNTOLD_MAX - 1)
  redis.call('PEXPIRE', untold, UNTOLD_MS)
end

-- Whether something waits in a partition that no node was given.
local function waits(prefix)
  local given = tonumber(read(false, 'GET', prefix .. 'telling:') or 0) or 0
  return given <= 0 and read(0, 'ZCARD', prefix .. 'untold:') > 0
end

-- Gives the oldest diffs that wait; none, while a node has some.
-- Keys: what waits, and that a node was given some. Arguments: how the diff begins up to which all were told ('' for none).
local function untold(keys, args)
  local oldest, told = read({}, 'ZRANGE', keys[1], 0, GIVEN_MAX - 1), 0
  for i, diff in ipairs(oldest) do
    if args[1] ~= '' and string.sub(diff, 1, #args[1]) == args[1] then
      told = i
    end
  end
  if told > 0 then
    redis.call('ZREMRANGEBYRANK', keys[1], 0, told - 1)
  end
  local given = (tonumber(read(false, 'GET', keys[2]) or 0) or 0) - told
  if given > 0 and #oldest > told then
    if told > 0 then
      redis.call('SET', keys[2], given, 'KEEPTTL')
    end
    return {}
  end
  local found = told > 0 and redis.call('ZRANGE', keys[1], 0, GIVEN_MAX - 1) or oldest
  if #found > 0 then
    redis.call('SET', keys[2], #found, 'PX', TELLING_MS)
  else
    redis.call('DEL', keys[2])
  end
  return found
end

redis.register_function{ function_name = 'rc1_untold', callback = untold, flags = { 'allow-oom' } }

