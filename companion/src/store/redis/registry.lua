-- Reads the registry with its revision; see read.lua for why this is a script.
--
-- KEYS: revision, registry
-- Answers: {revision or false, {name, instance, name, instance, ...}}

return { redis.call('GET', KEYS[1]), redis.call('HGETALL', KEYS[2]) }
