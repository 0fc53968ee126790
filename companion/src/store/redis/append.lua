-- Logs an event of the unit's leader, unless there is a later leader.
--
-- Atomic, because a former leader must not append after its successor.
--
-- KEYS: term, events, their index, the latest entries of the event's instance (one slot)
-- ARGV: the caller's term, the limits of the event log, bytes that the event may have, its sketch, the event
-- Answers: 1 if it was logged

if (tonumber(redis.call('GET', KEYS[1]) or '0') or 0) > tonumber(ARGV[1]) then return 0 end
local log = open_log(KEYS[2], KEYS[3], ARGV[2], ARGV[3])
tell(log, KEYS[4], ARGV[4], ARGV[5])
close_log(log)
return 1
