-- Takes one service's part of a report.
--
-- Atomic, because what the counters grew by is the difference to the report that is replaced: if
-- another companion replaced it meanwhile, nothing is done and the caller looks again.
--
-- The report gets a number, so that others can ask what came since: `,last` is the last one given,
-- `,first` where they began. No reporter has a comma in its name.
--
-- KEYS: loads of the service, totals of the service, reporters, events, numbers of the loads
-- ARGV: reporter, sha1 of the report it replaces or '', the new one, `<service>/<reporter>`, until
--       when it is remembered in ms, reporters at most, events at most, how long it is remembered
--       in ms, where numbers begin if there are none, how many counters, then a field and its growth
--       for each, then the new events
-- Answers: its number, 'changed' or 'full'

-- Two numbers of so many digits, and their sum, are exact in a double.
local DIGITS = 15
-- Counters that are read and written by one command, which costs less than one each: Redis also writes
-- its log by the command. Lua has no room for all of a large service.
local CHUNK = 500

local loads, totals, reporters, events, numbers = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local old = redis.call('HGET', loads, ARGV[1])
if (old and redis.sha1hex(old) or '') ~= ARGV[2] then return 'changed' end
if not old and redis.call('ZCARD', reporters) >= tonumber(ARGV[6]) then return 'full' end

redis.call('HSET', loads, ARGV[1], ARGV[3])
redis.call('ZADD', reporters, ARGV[5], ARGV[4])
redis.call('PEXPIRE', loads, ARGV[8])
if not redis.call('ZSCORE', numbers, ',last') then
  redis.call('ZADD', numbers, ARGV[9], ',first', ARGV[9], ',last')
end
local number = redis.call('ZINCRBY', numbers, 1, ',last')
redis.call('ZADD', numbers, number, ARGV[1])
redis.call('PEXPIRE', numbers, ARGV[8])
local count = tonumber(ARGV[10])
for first = 1, count, CHUNK do
  local fields = {}
  for index = first, math.min(first + CHUNK - 1, count) do
    fields[#fields + 1] = ARGV[9 + index * 2]
  end
  local sums = {}
  for at, sum in ipairs(redis.call('HMGET', totals, unpack(fields))) do
    local field, growth = fields[at], ARGV[8 + (first + at) * 2]
    local before = #(sum or '0') <= DIGITS and tonumber(sum or '0')
    if before and #growth <= DIGITS then
      sums[#sums + 1] = field
      sums[#sums + 1] = string.format('%.0f', before + tonumber(growth))
    else
      -- At the top a counter stays there.
      local done = redis.pcall('HINCRBY', totals, field, growth)
      if type(done) == 'table' and done.err then
        redis.call('HSET', totals, field, '9223372036854775807')
      end
    end
  end
  if #sums > 0 then redis.call('HSET', totals, unpack(sums)) end
end
for at = 11 + count * 2, #ARGV do
  redis.call('XADD', events, 'MAXLEN', '~', ARGV[7], '*', 'event', ARGV[at])
end
return number
