-- Applies changes of other units to one bucket, each only if it is later than what is there.
--
-- Atomic, because a position that claims what was not applied would hide a loss, and a record
-- without its digest would look like a difference.
--
-- KEYS: versions, meta, applied, expiring, changes, then the record of each change (one bucket, so one slot)
-- ARGV: this unit, origin of the ops or '', how many changes, now in ms, how many changes are logged, then
--       for each: id, mark, value, sequence; then pairs of unit and position that are claimed.
-- Answers: {changed, gaps}

local meta, applied = KEYS[2], KEYS[3]
local unit, origin, count, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local changed, gaps = 0, 0

local stored = redis.call('HMGET', meta, 'ms', 'counter', 'digest', 'changes')
local clock_ms, clock_counter = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
local digest, number = stored[3] or '0000000000000000', tonumber(stored[4] or '0')
local position
if origin ~= '' then position = tonumber(redis.call('HGET', applied, origin) or '0') end

for index = 1, count do
  local at = 6 + (index - 1) * 4
  local id, mark, value, sequence = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local ms, counter, by, deleted, expires = parse(mark)
  if ms > clock_ms or (ms == clock_ms and counter > clock_counter) then
    clock_ms, clock_counter = ms, counter
  end
  local old = redis.call('HGET', KEYS[1], id)
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
    if deleted or (expires and expires <= now) then value = nil end
    local keys = { record = KEYS[5 + index], versions = KEYS[1], expiring = KEYS[4] }
    replace(keys, id, old, mark, value, expires)
    digest = moved(digest, id, old, mark)
    changed = changed + 1
    number = number + 1
    note(KEYS[5], number, id, mark, ARGV[5])
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
for at = 6 + count * 4, #ARGV, 2 do
  local of, claim = ARGV[at], tonumber(ARGV[at + 1])
  if of == unit then
    if claim > tonumber(redis.call('HGET', meta, 'sequence') or '0') then
      redis.call('HSET', meta, 'sequence', integer(claim))
    end
  elseif claim > tonumber(redis.call('HGET', applied, of) or '0') then
    redis.call('HSET', applied, of, integer(claim))
  end
end
redis.call('HSET', meta, 'ms', integer(clock_ms), 'counter', integer(clock_counter), 'digest', digest,
  'changes', integer(number))
return { changed, gaps }
