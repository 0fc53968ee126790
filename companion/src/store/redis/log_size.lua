-- The size of the event log.
--
-- Atomic, because the first entry may be trimmed meanwhile. If an older companion wrote last, it
-- recounts the log.
--
-- KEYS: events, their index
-- ARGV: the limits of the log
-- Answers: {its bytes, its entries, its oldest event or ''}

local log = open_log(KEYS[1], KEYS[2], ARGV[1], '0')
close_log(log)
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return { log.bytes, log.entries, first and text_of(first) or '' }
