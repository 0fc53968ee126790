-- Reads the clock of Redis: `TIME` needs a right that no other command here does, and the expiry of a key shows the clock
-- as well.
--
-- KEYS: probe
-- ARGV: its value, in how many seconds it expires
-- Answers: when it expires, in ms

redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return redis.call('PEXPIRETIME', KEYS[1])
