-- Removes an instance from the registry.
--
-- Atomic, because an instance may be renewed between the check that found it expired and its
-- removal.
--
-- KEYS: registry, expiry, revision, events
-- ARGV: `<service>/<id>`, only if it expired by this time in ms or '', events at most, the event
-- Answers: 1 if it was removed

local registry, expiry, revision, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if ARGV[2] ~= '' then
  local expires = redis.call('ZSCORE', expiry, ARGV[1])
  if not expires or tonumber(expires) > tonumber(ARGV[2]) then return 0 end
end
redis.call('ZREM', expiry, ARGV[1])
if redis.call('HDEL', registry, ARGV[1]) == 0 then return 0 end
redis.call('INCR', revision)
redis.call('XADD', events, 'MAXLEN', '~', ARGV[3], '*', 'event', ARGV[4])
return 1
