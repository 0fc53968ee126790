-- Reads which reporters of a service reported since a number, or everything if that is unknown.
--
-- Atomic, because what is read must match the number. Everything is read when the numbers started over
-- or went back (the data were lost, or an older copy took over), and while there are reports without a
-- number: an older companion takes some.
--
-- KEYS: numbers of the service's reports, loads of the service
-- ARGV: the first number and the last that the caller knows
-- Answers: the first number and the last, reporters with their numbers in turn, and if all is read:
--          1, and reporters with their reports in turn

local numbers, loads = KEYS[1], KEYS[2]
local first = redis.call('ZSCORE', numbers, ',first') or '0'
local last = redis.call('ZSCORE', numbers, ',last') or '0'
local unnumbered = redis.call('HLEN', loads) ~= math.max(redis.call('ZCARD', numbers) - 2, 0)
if first == ARGV[1] and tonumber(last) >= tonumber(ARGV[2]) and not unnumbered then
  local since = redis.call('ZRANGEBYSCORE', numbers, '(' .. ARGV[2], '+inf', 'WITHSCORES')
  return { first, last, since, 0, {} }
end
if unnumbered then
  -- An older companion forgets a report, but not its number.
  for _, reporter in ipairs(redis.call('ZRANGE', numbers, 0, -1)) do
    if string.sub(reporter, 1, 1) ~= ',' and redis.call('HEXISTS', loads, reporter) == 0 then
      redis.call('ZREM', numbers, reporter)
    end
  end
end
local all = redis.call('ZRANGEBYSCORE', numbers, '-inf', '+inf', 'WITHSCORES')
return { first, last, all, 1, redis.call('HGETALL', loads) }
