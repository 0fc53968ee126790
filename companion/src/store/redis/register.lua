-- Registers an instance, or renews it.
--
-- Atomic, because the revision must grow with every change, an event must belong to its change, and a
-- heartbeat must not undo a drain that was ordered a moment before.
--
-- KEYS: registry, expiry, revision, events, their index, the latest entries of the instance
-- ARGV: `<service>/<id>`, the instance as JSON if it serves and if it drains, 'serve', 'drain' or
--       'keep' for the present state, when it expires in ms or '', instances at most, the limits of
--       the event log, bytes that an event may have, sketch and event for a new instance, for the start of a
--       drain and for its end
-- Answers: {'created', 'changed', 'renewed' or 'full', 1 if it drains}

local registry, expiry, revision, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local old = redis.call('HGET', registry, ARGV[1])
if not old and redis.call('HLEN', registry) >= tonumber(ARGV[6]) then return { 'full', 0 } end
-- What no unitring wrote is replaced, as if nothing were there.
local is_read, before = pcall(cjson.decode, old or 'null')
if not is_read or type(before) ~= 'table' then before = nil end
local drained = before and before.draining == true or false
local drains = ARGV[4] == 'drain' or (ARGV[4] == 'keep' and drained)
local new = drains and ARGV[3] or ARGV[2]
local flag = drains and 1 or 0
local renews = false
if before then
  local now = cjson.decode(new)
  renews = before.address == now.address and before.weight == now.weight and drained == drains
end
-- Read before anything is written.
redis.call('ZCARD', expiry)
local number = tonumber(string.match(redis.call('GET', revision) or '0', '^%d+$') or '0') + 1
local log = not renews and open_log(events, KEYS[5], ARGV[7], ARGV[8])

redis.call('HSET', registry, ARGV[1], new)
if ARGV[5] == '' then
  redis.call('ZREM', expiry, ARGV[1])
else
  redis.call('ZADD', expiry, ARGV[5], ARGV[1])
end
if renews then return { 'renewed', flag } end
if not before then tell(log, KEYS[6], ARGV[9], ARGV[10]) end
if drains ~= drained then
  local at = drains and 11 or 13
  tell(log, KEYS[6], ARGV[at], ARGV[at + 1])
end
close_log(log)
redis.call('SET', revision, string.format('%d', number))
return { before and 'changed' or 'created', flag }
