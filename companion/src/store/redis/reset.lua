-- Sets a bucket back to now that was written under a clock of the future: its clock, the incarnation of its ops, and what
-- it knows of the ops of such incarnations of any unit, which would cover every op until then. The rule is that of
-- `Bucket::set_back` in replica/bucket.rs.
--
-- KEYS: meta, applied, fence, outbox (one bucket, so one slot)
-- ARGV: now in ms, how far a clock may be ahead of it
-- Answers: 1 if something was too far ahead

local now, last = tonumber(ARGV[1]), tonumber(ARGV[1]) + tonumber(ARGV[2])
local own = redis.call('HMGET', KEYS[1], 'ms', 'incarnation')
-- Positions of incarnations to come.
local function of_the_future(key)
  local fields, known = {}, redis.call('HGETALL', key)
  for at = 1, #known, 2 do
    local incarnation = tonumber(string.match(known[at + 1], '^(%d+)%.') or '0')
    if incarnation > last then fields[#fields + 1] = known[at] end
  end
  return fields
end
local applied, fence, waiting = of_the_future(KEYS[2]), of_the_future(KEYS[3]), redis.call('XLEN', KEYS[4])
local is_ahead, is_later = number_of(own[1]) > last, number_of(own[2]) > last

if is_ahead then redis.call('HSET', KEYS[1], 'ms', ARGV[1], 'counter', '0') end
if is_later then
  redis.call('HSET', KEYS[1], 'incarnation', ARGV[1])
  if waiting == 0 then
    redis.call('HSET', KEYS[1], 'sequence', '0')
    -- The stream would refuse numbers below its last.
    redis.call('DEL', KEYS[4])
  end
end
if #applied > 0 then redis.call('HDEL', KEYS[2], unpack(applied)) end
if #fence > 0 then redis.call('HDEL', KEYS[3], unpack(fence)) end
return (is_ahead or is_later or #applied > 0 or #fence > 0) and 1 or 0
