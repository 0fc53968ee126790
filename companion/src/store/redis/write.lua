-- Puts or deletes a record, if the present one meets the writer's condition.
--
-- Atomic, because a record without its outbox entry would never reach the other units, an entry
-- without its record would undo itself at the next repair, and a digest must always match the records.
--
-- KEYS: record, versions, meta, outbox, gone, changes, applied, for a data update also stamps (one bucket, so one
--       slot)
-- ARGV: id, this unit, now in ms, 1 to put, 0 to delete or 2 to keep the record with a new version, value,
--       1 if there are peers, the condition: '' for none, '*' for a live record, '-' for no record, or
--       versions of a live one with spaces between them; when it expires in ms or '', how many changes are
--       kept, how far the clock may be ahead of now, the span that writes or ''; for a data update also its
--       stamp (source, sequence, VM), for how many ms stamps are kept, of how many sources
-- Answers: {version, 1 if there was no live record}, {the present version or '', 2} if the condition does
--          not hold, {by how many ms the clock is ahead, 3} if that is too far, {'', 4} if the update or a later
--          one of its source was applied, or false if there is nothing to delete

local keys = { record = KEYS[1], versions = KEYS[2], gone = KEYS[5] }
local meta, outbox, changes = KEYS[3], KEYS[4], KEYS[6]
local id, unit, now, puts, again = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[4] == '2'
local has_peers, expires, value = ARGV[6] == '1', tonumber(ARGV[8]), nil
-- Also one that has expired by the caller's clock: that may be wrong, and Redis frees it by its own.
if puts then value = ARGV[5] end

-- What replica/stamps.rs does: `stamps` are those of the record after this update.
local stamps
if KEYS[8] then
  local source, sequence, vm = ARGV[12], tonumber(ARGV[13]), ARGV[14]
  local before, applied = redis.call('GET', KEYS[8]), {}
  if before and tonumber(string.match(before, '^%d+') or '0') > now then
    for stamp, of, number, by in string.gmatch(before, '((%x+)%.(%d+)%.(%x+))') do
      number = tonumber(number)
      if of ~= source then
        table.insert(applied, stamp)
      elseif sequence < number or (sequence == number and not bytes_before(by, vm)) then
        -- A write, so that a caller who waits for replicas waits for the update that was applied; it changes
        -- nothing, and a full Redis takes it.
        redis.call('PEXPIRE', KEYS[8], redis.call('PTTL', KEYS[8]))
        return { '', 4 }
      end
    end
  end
  table.insert(applied, source .. '.' .. integer(sequence) .. '.' .. vm)
  while #applied > tonumber(ARGV[16]) do table.remove(applied, 1) end
  stamps = integer(now + tonumber(ARGV[15])) .. ' ' .. table.concat(applied, ' ')
end
local function keep_stamps()
  if stamps then redis.call('SET', KEYS[8], stamps, 'PX', ARGV[15]) end
end

local old = mark_of(keys.versions, id)
local live, before = false, ''
if old then
  local _, _, _, deleted, until_ms = parse(old)
  live = not deleted and not (until_ms and until_ms <= now)
  before = string.match(old, '^[^!~]+')
end
local must, there = ARGV[7], live and before or ''
if (must == '*' and not live) or (must == '-' and live)
  or (must ~= '' and must ~= '*' and must ~= '-'
    and (there == '' or not string.find(' ' .. must .. ' ', ' ' .. there .. ' ', 1, true))) then
  return { there, 2 }
end
if again then
  if not old then return false end
  local _, _, _, deleted, until_ms = parse(old)
  puts, expires = not deleted, until_ms
  if puts and not (until_ms and until_ms <= now) then value = value_of(keys.record) end
elseif not puts and not live then
  -- Else an earlier update that arrives later would bring back what this one deletes.
  keep_stamps()
  return false
end

local stored = redis.call('HMGET', meta, 'ms', 'counter', 'digest', 'sequence', 'changes', 'incarnation')
local ms, counter = number_of(stored[1]), number_of(stored[2])
-- No other unit would take a change with a clock so far ahead.
if has_peers and ms > now + tonumber(ARGV[10]) then return { integer(ms - now), 3 } end
-- Its value was lost, which differs from an empty value: nothing is written again.
if again and puts and not value then return false end
local sequence, number = number_of(stored[4]) + 1, number_of(stored[5]) + 1
local incarnation = number_of(stored[6])
-- Ops of this unit that others have beyond its own position come from a store that is lost. Their
-- numbers belong to other ops and are not used again.
local of, lost = position_of(redis.call('HGET', KEYS[7], unit))
-- Read here only where its first write is not the script's.
if not puts or expires or (old and string.find(old, '[~!]')) then redis.call('ZCARD', keys.gone) end
local frees, restarts = stamps and not puts, false
if incarnation == 0 or of > incarnation or (of == incarnation and lost >= sequence) then
  incarnation = math.max(now, of + 1)
  restarts = redis.call('XLEN', outbox) == 0
  if restarts then sequence = 1 end
elseif frees then
  redis.call('XLEN', outbox)
end
if now > ms then
  ms, counter = now, 0
elseif counter < 4294967295 then
  counter = counter + 1
else
  ms, counter = ms + 1, 0
end

local version = integer(ms) .. '.' .. integer(counter) .. '@' .. unit
local mark = version
if not puts then
  mark = version .. '!'
elseif expires then
  mark = version .. '~' .. integer(expires)
end
-- Where no other unit must learn of a deletion, no tombstone is kept.
local kept = mark
if not puts and not has_peers then kept = nil end
-- The op in the outbox, whose number is known last.
local entry = { 'XADD', outbox, '', 'id', id, 'mark', mark,
  'value', again and value or puts and not again and ARGV[5] or '', 'over', before }
if ARGV[11] ~= '' then
  entry[#entry + 1], entry[#entry + 2] = 'trace', ARGV[11]
end
local function push()
  if not has_peers then return end
  entry[3] = integer(sequence) .. '-0'
  return error_of(redis.pcall(unpack(entry)))
end
-- An entry of another client may be beyond our numbers, or our number may be lost: they go on behind all entries, and
-- the other units are told that some are missing.
local function push_behind()
  local why = push()
  if not why or not string.find(why, 'XADD', 1, true) then return why end
  local stream = redis.call('XINFO', 'STREAM', outbox)
  for at = 1, #stream, 2 do
    if stream[at] == 'last-generated-id' then sequence = number_of(string.match(stream[at + 1], '^%d+')) + 1 end
  end
  return push()
end

-- Only a deletion of a live record frees memory, so it alone is made although Redis is full; a script that has
-- written is not refused any more. Without an update another script is called.
if frees then redis.call('DEL', keys.record) end
-- The first command that writes: a full Redis refuses a script here or not at all, and only for
-- commands that take memory. No command that frees memory may stand before it.
if not restarts then
  local why = push_behind()
  -- A deletion that is made stays made: without its op the other units see that it is missing.
  if why and not frees then return redis.error_reply(why) end
end
replace(keys, id, old, kept, value, expires, now)
if restarts then
  -- The stream would refuse numbers below its last.
  redis.call('DEL', outbox)
  push()
end
local deltas = {}
mix(deltas, id, old)
if puts then mix_live(deltas, id, mark, expires) end
redis.call('HSET', meta, 'ms', integer(ms), 'counter', integer(counter), 'sequence', integer(sequence),
  'changes', integer(number), 'digest', settle(meta, deltas, stored[3] or ZERO),
  'incarnation', integer(incarnation))
note(changes, number, id, mark, ARGV[9])
keep_stamps()
return { version, live and 0 or 1 }
