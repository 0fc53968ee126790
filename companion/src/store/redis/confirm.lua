-- Stores a unit's cursor, and removes the ops that the broker has for all members.
--
-- Atomic, because an op must not leave the outbox before every cursor has reached it.
--
-- KEYS: cursors, outbox, meta (one bucket, so one slot)
-- ARGV: the unit, incarnation and sequence of the last op that is confirmed, then the members
-- Answers: how many ops were removed

local incarnation = redis.call('HGET', KEYS[3], 'incarnation')
-- Read before anything is written.
redis.call('XLEN', KEYS[2])
-- A store that was emptied since has other ops under these numbers.
if incarnation ~= ARGV[2] then return 0 end

local function cursor(unit)
  local of, sequence = string.match(redis.call('HGET', KEYS[1], unit) or '', '^(%d+)%.(%d+)$')
  return of == incarnation and tonumber(sequence) or 0
end

if tonumber(ARGV[3]) > cursor(ARGV[1]) then
  redis.call('HSET', KEYS[1], ARGV[1], incarnation .. '.' .. ARGV[3])
end
local first
for at = 4, #ARGV do
  local here = cursor(ARGV[at])
  if not first or here < first then first = here end
end
if not first then return 0 end
return redis.call('XTRIM', KEYS[2], 'MINID', string.format('%.0f', first + 1) .. '-0')
