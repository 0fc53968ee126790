-- Recomputes the digests of a bucket. Rows that no unitring wrote are in none. A record whose value is gone is
-- forgotten: then the digests of the peers differ, and their repair brings it again. So is one where another client
-- put another type than a string.
--
-- Atomic, because the digests must match the records. It reads all versions of the bucket: 1/256 of all.
--
-- KEYS: versions, meta, gone (one bucket, so one slot)
-- ARGV: what the key of a record of this bucket begins with; the moment up to which what expires may be gone
-- Answers: {1 if the digests were wrong, how many records had lost their value}

local deltas, wrong, lost = {}, false, 0
local versions, meta = redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])
redis.call('ZCARD', KEYS[3])
for at = 1, #versions, 2 do
  local id, ms, _, _, deleted, expires = versions[at], parse(versions[at + 1])
  local lasts = ms and not deleted and not (expires and expires <= tonumber(ARGV[2]))
  if lasts and redis.call('TYPE', ARGV[1] .. id).ok ~= 'string' then
    redis.call('HDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[3], id)
    lost = lost + 1
  elseif ms then
    mix(deltas, id, versions[at + 1])
  end
end
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
return {wrong and 1 or 0, lost}
