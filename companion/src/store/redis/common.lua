-- Shared by write.lua and apply.lua, in front of which it is put.
--
-- Milliseconds, counters and sequences are apart, so that each stays under 2^53 and no double
-- rounds it.

-- Whether the unit name `a` sorts before `b`, by bytes: Lua's `<` follows the server's locale.
local function unit_before(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- `<ms>.<counter>@<unit>`, with `!` behind it for a tombstone or `~<ms>` for what expires then.
local function parse(mark)
  local ms, counter, unit, rest = string.match(mark, '^(%d+)%.(%d+)@([^!~]+)(.*)$')
  return tonumber(ms), tonumber(counter), unit, rest == '!', tonumber(string.match(rest, '^~(%d+)$'))
end

local function integer(number)
  return string.format('%.0f', number)
end

-- XORs two digests of 16 hex digits.
local function xor(a, b)
  local high = bit.bxor(tonumber(string.sub(a, 1, 8), 16), tonumber(string.sub(b, 1, 8), 16))
  local low = bit.bxor(tonumber(string.sub(a, 9, 16), 16), tonumber(string.sub(b, 9, 16), 16))
  return bit.tohex(high) .. bit.tohex(low)
end

-- What a record adds to its bucket's digest.
local function share(id, mark)
  return string.sub(redis.sha1hex(id .. ' ' .. mark), 1, 16)
end

-- The digest with `mark` in place of `old`, either of which may be nil.
local function moved(digest, id, old, mark)
  if old then digest = xor(digest, share(id, old)) end
  if mark then digest = xor(digest, share(id, mark)) end
  return digest
end

-- Puts a record in place of what is there. Without a mark nothing of it is kept.
local function replace(keys, id, old, mark, value, expires)
  if mark then
    redis.call('HSET', keys.versions, id, mark)
  else
    redis.call('HDEL', keys.versions, id)
  end
  if value and expires then
    redis.call('SET', keys.record, value, 'PXAT', integer(expires))
  elseif value then
    redis.call('SET', keys.record, value)
  else
    redis.call('DEL', keys.record)
  end
  if expires and mark then
    redis.call('ZADD', keys.expiring, integer(expires), id)
  elseif old and string.find(old, '~', 1, true) then
    redis.call('ZREM', keys.expiring, id)
  end
end

-- Appends to the log of changes, as this number.
local function note(changes, number, id, mark, max)
  redis.call('XADD', changes, 'MAXLEN', '~', max, integer(number) .. '-0', 'id', id, 'mark', mark)
end
