-- Takes the lead, or renews it.
--
-- Atomic, because between the look and the taking another may take it.
--
-- KEYS: leader, term (one slot)
-- ARGV: who asks, for how long in ms
-- Answers: the term, or false if another leads

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return false end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if holder then return tonumber(redis.call('GET', KEYS[2])) end
return redis.call('INCR', KEYS[2])
