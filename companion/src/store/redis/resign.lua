-- Releases the lease of the leader, if the caller has it.
--
-- KEYS: leader
-- ARGV: the caller

if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
