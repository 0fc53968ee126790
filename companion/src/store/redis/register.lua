-- Registers an instance, or renews it.
--
-- Atomic, because the revision must grow with every change, an event must belong to its change, and a
-- heartbeat must not undo a drain that was ordered a moment before.
--
-- KEYS: registry, expiry, revision, events
-- ARGV: `<service>/<id>`, the instance as JSON if it serves and if it drains, 'serve', 'drain' or
--       'keep' for the present state, when it expires in ms or '', instances at most, events at most,
--       the events for a new instance, the start of a drain and its end
-- Answers: {'created', 'changed', 'renewed' or 'full', 1 if it drains}

local registry, expiry, revision, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local old = redis.call('HGET', registry, ARGV[1])
if not old and redis.call('HLEN', registry) >= tonumber(ARGV[6]) then return { 'full', 0 } end
local before = old and cjson.decode(old)
local drained = before and before.draining == true or false
local drains = ARGV[4] == 'drain' or (ARGV[4] == 'keep' and drained)
local new = drains and ARGV[3] or ARGV[2]
redis.call('HSET', registry, ARGV[1], new)
if ARGV[5] == '' then
  redis.call('ZREM', expiry, ARGV[1])
else
  redis.call('ZADD', expiry, ARGV[5], ARGV[1])
end

local function tell(event)
  redis.call('XADD', events, 'MAXLEN', '~', ARGV[7], '*', 'event', event)
end
local flag = drains and 1 or 0
if before then
  local now = cjson.decode(new)
  if before.address == now.address and before.weight == now.weight and drained == drains then
    return { 'renewed', flag }
  end
else
  tell(ARGV[8])
end
if drains ~= drained then tell(drains and ARGV[9] or ARGV[10]) end
redis.call('INCR', revision)
return { before and 'changed' or 'created', flag }
