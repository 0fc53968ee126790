-- Gives the lead back, if it is the caller's.
--
-- KEYS: leader
-- ARGV: who gives it back

if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
