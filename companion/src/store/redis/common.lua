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

-- `<ms>.<counter>@<unit>`, with `!` behind it for a tombstone.
local function parse(mark)
  local ms, counter, unit, deleted = string.match(mark, '^(%d+)%.(%d+)@([^!]+)(!?)$')
  return tonumber(ms), tonumber(counter), unit, deleted == '!'
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

-- Puts a record in place of what is there; answers the new digest.
local function replace(digest, versions, record, id, old, mark, value)
  if old then digest = xor(digest, share(id, old)) end
  redis.call('HSET', versions, id, mark)
  if value then
    redis.call('SET', record, value)
  else
    redis.call('DEL', record)
  end
  return xor(digest, share(id, mark))
end
