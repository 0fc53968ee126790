-- Recomputes the digests of a bucket. Rows that no unitring wrote are in none.
--
-- Atomic, because the digests must match the records. It reads all versions of the bucket: 1/256 of all.
--
-- KEYS: versions, meta (one bucket, so one slot)
-- Answers: 1 if they were wrong

local deltas, wrong = {}, false
local versions = redis.call('HGETALL', KEYS[1])
for at = 1, #versions, 2 do
  if parse(versions[at + 1]) then mix(deltas, versions[at], versions[at + 1]) end
end
local meta = redis.call('HGETALL', KEYS[2])
for at = 1, #meta, 2 do
  local field = meta[at]
  if string.sub(field, 1, 6) == 'digest' then
    local counted = deltas[field] or ZERO
    if counted ~= meta[at + 1] then
      wrong = true
      if counted == ZERO then redis.call('HDEL', KEYS[2], field) else redis.call('HSET', KEYS[2], field, counted) end
    end
    deltas[field] = nil
  end
end
for field, digest in pairs(deltas) do
  if digest ~= ZERO then
    wrong = true
    redis.call('HSET', KEYS[2], field, digest)
  end
end
return wrong and 1 or 0
