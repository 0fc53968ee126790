-- Takes one service's part of a report.
--
-- Atomic, because the growth of the counters is the difference to the report that is replaced: if
-- another companion replaced it meanwhile, nothing is done and the caller tries again.
--
-- The report gets a number, so that companions can read what came since: `,last` is the last number
-- given, `,first` the one before the first. No reporter has a comma in its name.
--
-- KEYS: loads of the service, totals of the service, reporters, events, numbers of the loads, standing of
--       reporters, the index of the events, then for each new event the latest entries of its instance
-- ARGV: reporter, sha1 of the report it replaces or '', the new one, `<service>/<reporter>`, when the
--       report is forgotten in ms, reporters at most, the limits of the event log, how long the report is kept
--       in ms, where numbers begin if there are none, the standing of the reporter, bytes that its events may
--       have, how many counters, then a field and its growth for each, then a sketch and the event for each new one
-- Answers: {its number, 'changed' or 'full', new entries, their bytes, events counted with one, events left out}

-- Two numbers of so many digits, and their sum, are exact in a double.
local DIGITS = 15
-- Counters that one command reads or writes: fewer commands cost less, as Redis also appends each
-- to its log. Lua has no room for all counters of a large service at once.
local CHUNK = 500

local loads, totals, reporters, events, numbers = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local old = redis.call('HGET', loads, ARGV[1])
if (old and redis.sha1hex(old) or '') ~= ARGV[2] then return { 'changed', 0, 0, 0, 0 } end
if not old and redis.call('ZCARD', reporters) >= tonumber(ARGV[6]) then return { 'full', 0, 0, 0, 0 } end
local count = tonumber(ARGV[12])
local first = 13 + count * 2
-- Read before anything is written.
redis.call('HLEN', totals)
for _, key in ipairs({ reporters, numbers, KEYS[6] }) do redis.call('ZCARD', key) end
local log = first <= #ARGV and open_log(events, KEYS[7], ARGV[7], ARGV[11])

redis.call('HSET', loads, ARGV[1], ARGV[3])
redis.call('ZADD', reporters, ARGV[5], ARGV[4])
redis.call('ZADD', KEYS[6], ARGV[10], ARGV[4])
redis.call('PEXPIRE', loads, ARGV[8])
if not redis.call('ZSCORE', numbers, ',last') then
  redis.call('ZADD', numbers, ARGV[9], ',first', ARGV[9], ',last')
end
local number = redis.call('ZINCRBY', numbers, 1, ',last')
redis.call('ZADD', numbers, number, ARGV[1])
redis.call('PEXPIRE', numbers, ARGV[8])
for first = 1, count, CHUNK do
  local fields = {}
  for index = first, math.min(first + CHUNK - 1, count) do
    fields[#fields + 1] = ARGV[11 + index * 2]
  end
  local sums = {}
  for at, sum in ipairs(redis.call('HMGET', totals, unpack(fields))) do
    local field, growth = fields[at], ARGV[10 + (first + at) * 2]
    local before = #(sum or '0') <= DIGITS and tonumber(sum or '0')
    if before and #growth <= DIGITS then
      sums[#sums + 1] = field
      sums[#sums + 1] = string.format('%.0f', before + tonumber(growth))
    else
      -- A counter stops at its maximum.
      local done = redis.pcall('HINCRBY', totals, field, growth)
      if type(done) == 'table' and done.err then
        redis.call('HSET', totals, field, '9223372036854775807')
      end
    end
  end
  if #sums > 0 then redis.call('HSET', totals, unpack(sums)) end
end
if not log then return { number, 0, 0, 0, 0 } end
for at = first, #ARGV, 2 do
  tell(log, KEYS[8 + (at - first) / 2], ARGV[at], ARGV[at + 1])
end
close_log(log)
return { number, log.stored, log.added, log.counted, log.left_out }
