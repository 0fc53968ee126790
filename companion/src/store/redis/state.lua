-- Reads two hashes of one slot as they are at one moment; see read.lua for why this is a script.
--
-- KEYS: two hashes
-- Answers: {the fields of the first, the fields of the second}, each {field, value, field, value, ...}

return { redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
