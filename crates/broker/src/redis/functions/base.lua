#!lua name=roomcast_1
-- What Roomcast decides inside Redis, in one atomic step each. The library's name carries its version: nodes of two
-- versions keep both loaded (INV-12). Everything that can fail is checked before the first write, and publishing is last.

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]), tonumber(time[2])
end

-- Milliseconds since the Unix epoch.
local function clock()
  local seconds, micros = now()
  return seconds * 1000 + math.floor(micros / 1000)
end

-- Another master has another one: it is how nodes tell masters apart. Searched as plain text, which is what takes no
-- time.
local function master()
  local info = redis.call('INFO', 'replication')
  local _, before = string.find(info, 'master_replid:', 1, true)
  return before and string.sub(info, before + 1, before + 40) or ''
end

-- Answers with the error if there is one: an ACL may forbid the channel.
local function publish(kind, channel, payload)
  local sent = redis.pcall(kind == 's' and 'SPUBLISH' or 'PUBLISH', channel, payload)
  return type(sent) == 'table' and sent.err and sent or nil
end

-- Reads a key that is ours; what somebody else put in its place, of another type, is removed.
local function read(empty, command, key, ...)
  local found = redis.pcall(command, key, ...)
  if type(found) == 'table' and found.err then
    if not string.find(found.err, 'WRONGTYPE', 1, true) then
      error(found)
    end
    redis.call('DEL', key)
    return empty
  end
  return found
end

