-- Removes an instance from the registry.
--
-- Atomic, because an instance may be renewed between the check that found it expired and its
-- removal.
--
-- KEYS: registry, expiry, revision, events, their index, the latest entries of the instance
-- ARGV: `<service>/<id>`, only if it expired by this time in ms or '', the limits of the event log, bytes
--       that the event may have, its sketch, the event
-- Answers: 1 if it was removed

local registry, expiry, revision, events = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local expires = redis.call('ZSCORE', expiry, ARGV[1])
if ARGV[2] ~= '' and (not expires or tonumber(expires) > tonumber(ARGV[2])) then return 0 end
-- All is read before anything is written.
local number = tonumber(string.match(redis.call('GET', revision) or '0', '^%d+$') or '0') + 1
local is_there = redis.call('HEXISTS', registry, ARGV[1]) == 1
local log = is_there and open_log(events, KEYS[5], ARGV[3], ARGV[4])
redis.call('ZREM', expiry, ARGV[1])
if not is_there then return 0 end
redis.call('HDEL', registry, ARGV[1])
redis.call('SET', revision, string.format('%d', number))
tell(log, KEYS[6], ARGV[5], ARGV[6])
close_log(log)
return 1
