-- Forgets the records of a bucket that have expired.
--
-- Atomic, because the digest must always be that of what is there.
--
-- KEYS: versions, meta, expiring (one bucket, so one slot)
-- ARGV: now in ms, how many at most
-- Answers: how many

local gone = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #gone == 0 then return 0 end
local digest = redis.call('HGET', KEYS[2], 'digest')
for _, id in ipairs(gone) do
  digest = moved(digest, id, redis.call('HGET', KEYS[1], id), nil)
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[3], id)
end
redis.call('HSET', KEYS[2], 'digest', digest)
return #gone
