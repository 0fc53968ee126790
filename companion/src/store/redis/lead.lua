-- Takes the lead, or renews it.
--
-- Atomic, because between the look and the taking another may take it.
--
-- KEYS: leader, term, what all companions must have alike (one slot)
-- ARGV: who asks, for how long in ms, what it has of that or ''
-- Answers: the term, false if another leads, or -1 if the caller differs

if ARGV[3] ~= '' then
  local agreed = redis.call('GET', KEYS[3])
  if not agreed then
    redis.call('SET', KEYS[3], ARGV[3])
  elseif agreed ~= ARGV[3] then
    return -1
  end
end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return false end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if holder then return tonumber(redis.call('GET', KEYS[2])) end
return redis.call('INCR', KEYS[2])
