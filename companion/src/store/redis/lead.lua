-- Takes the lease of the leader, or renews it.
--
-- Atomic, because another companion may take it between the check and the write.
--
-- KEYS: leader, term, the settings that all companions must share (one slot)
-- ARGV: the caller, the lease in ms, the caller's settings or '', where in them begins what earlier versions did not
--       have
-- Answers: the term, false if another leads, or -1 if the caller's settings differ

-- All is read before anything is written: a key of another type must not take the lease from everyone for ever.
local holder, agreed, known = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[3]), redis.call('GET', KEYS[2])
local term = tonumber(string.match(known or '', '^%d+$') or '0')
if ARGV[3] ~= '' then
  if not agreed then
    redis.call('SET', KEYS[3], ARGV[3])
  elseif agreed ~= ARGV[3] and string.sub(ARGV[3], 1, #agreed + #ARGV[4]) ~= agreed .. ARGV[4] then
    return -1
  end
end
if holder and holder ~= ARGV[1] then return false end
if not holder or term == 0 then
  term = term + 1
  redis.call('SET', KEYS[2], string.format('%d', term))
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return term
