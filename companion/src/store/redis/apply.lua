-- Applies changes of other units to one bucket, each only if it is later than the present record.
--
-- Atomic, because a position after an op that was not applied would hide a loss, and a record
-- without its digest would look like a difference.
--
-- KEYS: versions, meta, applied, gone, changes, conflicts, fence, then the record of each change (one
--       bucket, so one slot)
-- ARGV: this unit, origin of the ops or '', their incarnation, now in ms, how many changes are logged, how
--       many conflicts, the longest value that is logged with one, how many changes come, the sender's
--       clock in ms and its counter, 1 if its positions are claimed, how many positions, how
--       far a clock may be ahead of now; then pairs of unit and position; then for each change: id or '' for
--       a passed sequence, mark, value, 1 if it has one, sequence, the version it replaced or ''
-- Answers: {changed, gaps, conflicts, refused, ahead}
--
-- With FREES set before it, only changes that store no value are applied, and no position moves: Redis is
-- full, and the rest is applied once there is room.

local keys = { versions = KEYS[1], gone = KEYS[4] }
local meta, applied, changes, conflicts = KEYS[2], KEYS[3], KEYS[5], KEYS[6]
local unit, origin, incarnation, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local count, positions = tonumber(ARGV[8]), tonumber(ARGV[12])
local changed, gaps, lost, refused, too_far = 0, 0, 0, 0, 0
-- A later clock is too far ahead: its change is not taken and moves no clock.
local last_ms = now + tonumber(ARGV[13])

local function behind(a, b)
  local a_of, a_sequence = position_of(a)
  local b_of, b_sequence = position_of(b)
  return a_of < b_of or (a_of == b_of and a_sequence < b_sequence)
end

-- Logs two concurrent changes.
local function conflict(id, loser, winner, value)
  if FREES then return end
  lost = lost + 1
  if value and #value > tonumber(ARGV[7]) then value = nil end
  append(conflicts, ARGV[6], '*', 'at', integer(now), 'id', id,
    'lost', loser, 'kept', string.match(winner, '^[^!~]+'), 'value', value or '', 'has', value and '1' or '0')
end

-- An incarnation is a time: one of the future would cover every op of its unit until then.
if origin ~= '' and incarnation > last_ms then
  for index = 1, count do
    if ARGV[14 + 2 * positions + (index - 1) * 6] ~= '' then too_far = too_far + 1 end
  end
  return { 0, 0, 0, 0, too_far }
end

-- Read before anything is written.
redis.call('HLEN', keys.versions)
redis.call('ZCARD', keys.gone)
redis.call('HLEN', applied)
local claims = {}
for at = 14, 12 + 2 * positions, 2 do claims[ARGV[at]] = ARGV[at + 1] end

-- A sender that had not reached the fence may not have collected what was collected here.
local fenced = false
if origin == '' then
  local fence = redis.call('HGETALL', KEYS[7])
  for at = 1, #fence, 2 do
    if behind(claims[fence[at]], fence[at + 1]) then fenced = true end
  end
end

local stored = redis.call('HMGET', meta, 'ms', 'counter', 'digest', 'changes')
local clock_ms, clock_counter = number_of(stored[1]), number_of(stored[2])
local digest, number = stored[3] or ZERO, number_of(stored[4])
local function hear(ms, counter)
  if ms <= last_ms and (ms > clock_ms or (ms == clock_ms and counter > clock_counter)) then
    clock_ms, clock_counter = ms, counter
  end
end
local of, position
if origin ~= '' then of, position = position_of(redis.call('HGET', applied, origin)) end

local deltas = {}
for index = 1, count do
  local at = 14 + 2 * positions + (index - 1) * 6
  local id, mark, value, has = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3] == '1'
  local sequence, over = tonumber(ARGV[at + 4]), ARGV[at + 5]
  local covered = origin ~= '' and (incarnation < of or (incarnation == of and sequence <= position))
  if id ~= '' then
    local ms, counter, by, deleted, expires = parse(mark)
    hear(ms, counter)
    local old = mark_of(keys.versions, id)
    keys.record = KEYS[7 + index]
    local gone = expires and expires <= now
    -- One that has expired by our clock is kept: that may be wrong, and Redis frees it by its own.
    if deleted or not has then value = nil end
    local later = true
    if ms > last_ms then
      later = false
      too_far = too_far + 1
    elseif not has and not deleted and not gone then
      -- Its value was lost on the way, which differs from an empty value.
      later = false
    elseif old then
      later = earlier(old, mark)
      if origin ~= '' and not covered then
        local _, _, holder, is_gone, until_ms = parse(old)
        local unknown = (over == '' and not is_gone) or (over ~= '' and earlier(over, old))
        if later and holder ~= by and unknown then
          local is_live = not (until_ms and until_ms <= now)
          conflict(id, old, mark, is_live and value_of(keys.record) or nil)
        elseif not later and holder == unit and by ~= unit then
          conflict(id, mark, old, not gone and value or nil)
        end
      end
    elseif covered then
      -- It was here, and has been collected since.
      later = false
    elseif fenced then
      later = false
      refused = refused + 1
    end
    -- It is decided and counted when it is applied with the rest.
    if FREES and value then later = false end
    if later then
      replace(keys, id, old, mark, value, expires, now)
      mix(deltas, id, old)
      if not deleted then mix_live(deltas, id, mark, expires) end
      changed = changed + 1
      number = number + 1
      note(changes, number, id, mark, ARGV[5])
    end
  end
  if origin ~= '' then
    if incarnation > of and sequence == 1 then
      of, position = incarnation, 1
    elseif incarnation == of and sequence == position + 1 then
      position = sequence
    elseif not covered then
      gaps = gaps + 1
    end
  end
end

if origin ~= '' and position > 0 and not FREES then
  redis.call('HSET', applied, origin, integer(of) .. '.' .. integer(position))
end
if ARGV[11] == '1' and not FREES then
  hear(tonumber(ARGV[9]), tonumber(ARGV[10]))
  -- Including the claim for this unit, if others have more of its ops than this store made.
  for name, claim in pairs(claims) do
    local claimed = position_of(claim)
    if claimed <= last_ms and behind(redis.call('HGET', applied, name), claim) then redis.call('HSET', applied, name, claim) end
  end
end
redis.call('HSET', meta, 'ms', integer(clock_ms), 'counter', integer(clock_counter), 'digest',
  settle(meta, deltas, digest), 'changes', integer(number))
return { changed, gaps, lost, refused, too_far }
