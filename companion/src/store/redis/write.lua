-- Puts or deletes a record, if what is there is what the writer expects.
--
-- Atomic, because a record without its outbox entry would never reach the other units, an entry
-- without its record would undo itself at the next repair, and a digest must always be that of
-- what is there.
--
-- KEYS: record, versions, meta, outbox, gone, changes, applied (one bucket, so one slot)
-- ARGV: id, this unit, now in ms, 1 to put, 0 to delete or 2 to leave it as it is with a new version, value,
--       1 if there are peers, what must be there: '' for anything, '*' for a live record, '-' for none, or
--       versions of a live one with spaces between them; when it expires in ms or '', how many changes are
--       kept, how far the clock may be ahead of now
-- Answers: {version, 1 if there was no live record}, {the version that is there or '', 2} if that is not
--          the one that must be, {by how much the clock is too far ahead, 3}, or false if there is nothing
--          to delete.

local keys = { record = KEYS[1], versions = KEYS[2], gone = KEYS[5] }
local meta, outbox, changes = KEYS[3], KEYS[4], KEYS[6]
local id, unit, now, puts, again = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[4] == '2'
local has_peers, expires, value = ARGV[6] == '1', tonumber(ARGV[8]), nil
if puts and not (expires and expires <= now) then value = ARGV[5] end

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
  value = puts and redis.call('GET', keys.record) or nil
elseif not puts and not live then
  return false
end

local stored = redis.call('HMGET', meta, 'ms', 'counter', 'digest', 'sequence', 'changes', 'incarnation')
local ms, counter = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
-- What is written by a clock so far ahead no other unit would take.
if has_peers and ms > now + tonumber(ARGV[10]) then return { integer(ms - now), 3 } end
local sequence, number = tonumber(stored[4] or '0') + 1, tonumber(stored[5] or '0') + 1
local incarnation = tonumber(stored[6] or '0')
-- What others have of this unit beyond what is here was made by a store that is lost. Its numbers are not
-- used again: they are those of other ops.
local of, lost = string.match(redis.call('HGET', KEYS[7], unit) or '0.0', '^(%d+)%.(%d+)$')
of, lost = tonumber(of), tonumber(lost)
local restarts = false
if incarnation == 0 or of > incarnation or (of == incarnation and lost >= sequence) then
  incarnation = math.max(now, of + 1)
  restarts = redis.call('XLEN', outbox) == 0
  if restarts then sequence = 1 end
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
-- Where nobody else has to learn of a deletion, nothing of it is kept.
local kept = mark
if not puts and not has_peers then kept = nil end
-- The first command that writes: a full Redis refuses a script there or not at all, and it refuses those only
-- that take memory. Nothing that frees some may stand before it.
replace(keys, id, old, kept, value, expires, now)
-- The stream would not take numbers below its last.
if restarts then redis.call('DEL', outbox) end
local deltas = {}
mix(deltas, id, old)
mix(deltas, id, kept)
redis.call('HSET', meta, 'ms', integer(ms), 'counter', integer(counter), 'sequence', integer(sequence),
  'changes', integer(number), 'digest', settle(meta, deltas, stored[3] or ZERO),
  'incarnation', integer(incarnation))
if has_peers then
  redis.call('XADD', outbox, integer(sequence) .. '-0', 'id', id, 'mark', mark,
    'value', again and value or puts and not again and ARGV[5] or '', 'over', before)
end
note(changes, number, id, mark, ARGV[9])
return { version, live and 0 or 1 }
