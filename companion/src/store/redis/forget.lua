-- Forgets a reporter that has been silent for long.
--
-- Atomic, because it may have reported again since it was found silent.
--
-- KEYS: loads of the service, reporters, numbers of the loads, standing of reporters
-- ARGV: reporter, `<service>/<reporter>`, now in ms
-- Answers: 1 if it was forgotten

local until_ms = redis.call('ZSCORE', KEYS[2], ARGV[2])
-- Read before anything is written.
redis.call('HLEN', KEYS[1])
for _, key in ipairs({ KEYS[3], KEYS[4] }) do redis.call('ZCARD', key) end
if not until_ms then redis.call('ZREM', KEYS[4], ARGV[2]) end
if not until_ms or tonumber(until_ms) > tonumber(ARGV[3]) then return 0 end
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[2])
return 1
