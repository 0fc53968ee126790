-- Applies changes of other units to one bucket, each only if it is later than what is there.
--
-- Atomic, because a position that claims what was not applied would hide a loss, and a record
-- without its digest would look like a difference.
--
-- KEYS: versions, meta, applied, then the record of each change (one bucket, so one slot)
-- ARGV: this unit, origin of the ops or '', how many changes, then for each: id, mark, value,
--       sequence; then pairs of unit and position that are claimed.
-- Answers: {changed, gaps}

local versions, meta, applied = KEYS[1], KEYS[2], KEYS[3]
local unit, origin, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local changed, gaps = 0, 0

local stored = redis.call('HMGET', meta, 'ms', 'counter', 'digest')
local clock_ms, clock_counter = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
local digest = stored[3] or '0000000000000000'
local position
if origin ~= '' then position = tonumber(redis.call('HGET', applied, origin) or '0') end

for index = 1, count do
  local at = 4 + (index - 1) * 4
  local id, mark, value, sequence = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local ms, counter, by, deleted = parse(mark)
  if ms > clock_ms or (ms == clock_ms and counter > clock_counter) then
    clock_ms, clock_counter = ms, counter
  end
  local old = redis.call('HGET', versions, id)
  local later = true
  if old then
    local old_ms, old_counter, old_by = parse(old)
    if ms ~= old_ms then
      later = ms > old_ms
    elseif counter ~= old_counter then
      later = counter > old_counter
    else
      later = unit_before(old_by, by)
    end
  end
  if later then
    if deleted then value = nil end
    digest = replace(digest, versions, KEYS[3 + index], id, old, mark, value)
    changed = changed + 1
  end
  if position then
    if sequence == position + 1 then
      position = sequence
    elseif sequence > position then
      gaps = gaps + 1
    end
  end
end

if position then redis.call('HSET', applied, origin, integer(position)) end
for at = 4 + count * 4, #ARGV, 2 do
  local of, claim = ARGV[at], tonumber(ARGV[at + 1])
  if of == unit then
    if claim > tonumber(redis.call('HGET', meta, 'sequence') or '0') then
      redis.call('HSET', meta, 'sequence', integer(claim))
    end
  elseif claim > tonumber(redis.call('HGET', applied, of) or '0') then
    redis.call('HSET', applied, of, integer(claim))
  end
end
redis.call('HSET', meta, 'ms', integer(clock_ms), 'counter', integer(clock_counter), 'digest', digest)
return { changed, gaps }
