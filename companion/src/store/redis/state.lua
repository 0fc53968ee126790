-- Reads the state of a bucket at one moment; see read.lua for why this is a script.
--
-- KEYS: meta, applied, gone
-- Answers: {the fields of the first, the fields of the second, the first of the third with its score}

return { redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]),
  redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES') }
