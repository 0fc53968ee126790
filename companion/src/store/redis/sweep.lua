-- Removes the records of a bucket that were gone before some moment.
--
-- Atomic, because the digest must always match the records.
--
-- KEYS: versions, meta, gone, fence (one bucket, so one slot)
-- ARGV: the moment in ms, how many at most; then pairs of unit and position, the fence: a sender behind it
--       may send a removed record again
-- Answers: how many

local gone = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #gone == 0 then return 0 end
-- Read before anything is written.
redis.call('HLEN', KEYS[1])
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[4])
local deltas = {}
for _, id in ipairs(gone) do
  mix(deltas, id, mark_of(KEYS[1], id))
  redis.call('HDEL', KEYS[1], id)
  redis.call('ZREM', KEYS[3], id)
end
for at = 3, #ARGV, 2 do redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 1]) end
redis.call('HSET', KEYS[2], 'digest', settle(KEYS[2], deltas, redis.call('HGET', KEYS[2], 'digest') or ZERO))
return #gone
