-- Registers an instance, or renews it.
--
-- Atomic, because the revision must grow with every change, and an event belongs to the change
-- that it tells of.
--
-- KEYS: registry, expiry, revision, events
-- ARGV: `<service>/<id>`, the instance as JSON, when it expires in ms or '', instances at most,
--       events at most, the event if it is new
-- Answers: 'created', 'changed', 'renewed' or 'full'

local registry, expiry, revision, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local old = redis.call('HGET', registry, ARGV[1])
if not old and redis.call('HLEN', registry) >= tonumber(ARGV[4]) then return 'full' end
redis.call('HSET', registry, ARGV[1], ARGV[2])
if ARGV[3] == '' then
  redis.call('ZREM', expiry, ARGV[1])
else
  redis.call('ZADD', expiry, ARGV[3], ARGV[1])
end
if old then
  local before, now = cjson.decode(old), cjson.decode(ARGV[2])
  if before.address == now.address and before.weight == now.weight then return 'renewed' end
  redis.call('INCR', revision)
  return 'changed'
end
redis.call('INCR', revision)
redis.call('XADD', events, 'MAXLEN', '~', ARGV[5], '*', 'event', ARGV[6])
return 'created'
