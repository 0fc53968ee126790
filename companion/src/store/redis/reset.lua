-- Sets the clock of a bucket back to now, if it is too far ahead.
--
-- KEYS: meta
-- ARGV: now in ms, how far a clock may be ahead of it
-- Answers: 1 if it was too far ahead

local ms = tonumber(redis.call('HGET', KEYS[1], 'ms') or '0')
if ms <= tonumber(ARGV[1]) + tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'ms', ARGV[1], 'counter', '0')
return 1
