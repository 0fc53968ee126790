-- Takes the lease of the leader, or renews it.
--
-- Atomic, because another companion may take it between the check and the write.
--
-- KEYS: leader, term, the settings that all companions must share (one slot)
-- ARGV: the caller, the lease in ms, the caller's settings or '', where in them begins what earlier versions did not
--       have
-- Answers: the term, false if another leads, or -1 if the caller's settings differ

if ARGV[3] ~= '' then
  local agreed = redis.call('GET', KEYS[3])
  if not agreed then
    redis.call('SET', KEYS[3], ARGV[3])
  elseif agreed ~= ARGV[3] and string.sub(ARGV[3], 1, #agreed + #ARGV[4]) ~= agreed .. ARGV[4] then
    return -1
  end
end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return false end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if holder then return tonumber(redis.call('GET', KEYS[2])) end
return redis.call('INCR', KEYS[2])
