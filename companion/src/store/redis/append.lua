-- Appends an event of the unit's leader, unless there is a later leader.
--
-- Atomic, because a former leader must not append after its successor.
--
-- KEYS: term, events (one slot)
-- ARGV: the caller's term, events at most, the event
-- Answers: 1 if it was appended

if tonumber(redis.call('GET', KEYS[1]) or '0') > tonumber(ARGV[1]) then return 0 end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'event', ARGV[3])
return 1
