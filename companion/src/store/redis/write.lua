-- Puts or deletes a record, if what is there is what the writer expects.
--
-- Atomic, because a record without its outbox entry would never reach the other units, an entry
-- without its record would undo itself at the next repair, and a digest must always be that of
-- what is there.
--
-- KEYS: record, versions, meta, outbox (one bucket, so one slot)
-- ARGV: id, this unit, now in ms, 1 to put or 0 to delete, value, 1 if there are peers, and what must
--       be there: '' for anything, '*' for a live record, '-' for none, or the version of a live one
-- Answers: {version, 1 if there was no live record}, {the version that is there or '', 2} if that is not
--          the one that must be, or false if there is nothing to delete.

local record, versions, meta, outbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, unit, now, value = ARGV[1], ARGV[2], tonumber(ARGV[3]), nil
if ARGV[4] == '1' then value = ARGV[5] end

local old = redis.call('HGET', versions, id)
local live = false
if old then
  local _, _, _, deleted = parse(old)
  live = not deleted
end
local must = ARGV[7]
if (must == '*' and not live) or (must == '-' and live)
  or (must ~= '' and must ~= '*' and must ~= '-' and not (live and old == must)) then
  return { live and old or '', 2 }
end
if not value and not live then return false end

local stored = redis.call('HMGET', meta, 'ms', 'counter', 'digest')
local ms, counter = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
if now > ms then
  ms, counter = now, 0
elseif counter < 4294967295 then
  counter = counter + 1
else
  ms, counter = ms + 1, 0
end

local version = integer(ms) .. '.' .. integer(counter) .. '@' .. unit
local mark = version
if not value then mark = version .. '!' end
local digest = replace(stored[3] or '0000000000000000', versions, record, id, old, mark, value)
local sequence = redis.call('HINCRBY', meta, 'sequence', 1)
redis.call('HSET', meta, 'ms', integer(ms), 'counter', integer(counter), 'digest', digest)
if ARGV[6] == '1' then
  redis.call('XADD', outbox, integer(sequence) .. '-0', 'id', id, 'mark', mark, 'value', value or '')
end
return { version, live and 0 or 1 }
