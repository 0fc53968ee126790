-- Reads the event log.
--
-- Atomic, because an entry may be trimmed between its own read and that of its count.
--
-- KEYS: events, their index
-- ARGV: after this entry, or '' for the latest, how many at most
-- Answers: {id, the event, what the index has of it or ''} of each, oldest first

local rows
if ARGV[1] == '' then
  rows = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[2])
else
  rows = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
end
local ids = {}
for at, row in ipairs(rows) do ids[at] = row[1] end
local counts = #ids > 0 and redis.call('HMGET', KEYS[2], unpack(ids)) or {}
local events = {}
for at, row in ipairs(rows) do
  events[ARGV[1] == '' and #rows + 1 - at or at] = { row[1], row[2][2], counts[at] or '' }
end
return events
