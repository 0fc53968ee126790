-- Shared by the scripts that change records; it stands in front of each.
--
-- Nothing after the first write of a script may fail: half of a change would stay. So a script reads each key before
-- that, which fails if another client put another type there, and takes text that no unitring wrote for nothing.
--
-- Milliseconds, counters and sequences are separate, so that each stays under 2^53 and no double
-- rounds it.

local ZERO = '0000000000000000'
-- How long an epoch of the digests is, in ms.
local EPOCH = 600000

-- Whether the text `a` sorts before `b`, by bytes: Lua's `<` follows the server's locale.
local function bytes_before(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Parses `<ms>.<counter>@<unit>`, with `!` behind it for a tombstone or `~<ms>` for a record that
-- expires then. Nothing if no unitring wrote it.
local function parse(mark)
  local ms, counter, unit, rest = string.match(mark, '^(%d+)%.(%d+)@([^!~]+)(.*)$')
  if not ms then return end
  if rest == '' or rest == '!' then return tonumber(ms), tonumber(counter), unit, rest == '!' end
  local expires = string.match(rest, '^~(%d+)$')
  if expires then return tonumber(ms), tonumber(counter), unit, false, tonumber(expires) end
end

-- The mark of a record; false if there is none, or no unitring wrote it.
local function mark_of(versions, id)
  local mark = redis.call('HGET', versions, id)
  return mark and parse(mark) and mark
end

-- Whether version `a` is earlier than `b`, each with or without the suffix of its mark.
local function earlier(a, b)
  local a_ms, a_counter, a_unit = parse(a)
  local b_ms, b_counter, b_unit = parse(b)
  if a_ms ~= b_ms then return a_ms < b_ms end
  if a_counter ~= b_counter then return a_counter < b_counter end
  return bytes_before(a_unit, b_unit)
end

-- The number of a text that unitring wrote: below 2^53. Anything else counts as none.
local function number_of(text)
  local number = tonumber(text or '0')
  if number and number >= 0 and number < 9007199254740992 and number % 1 == 0 then return number end
  return 0
end

-- An incarnation and a sequence of it; 0.0 is before the first.
local function position_of(text)
  if not text then return 0, 0 end
  local of, sequence = string.match(text, '^(%d+)%.(%d+)$')
  return number_of(of), number_of(sequence)
end

-- The value of a record; nothing if another client put another type there.
local function value_of(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value or nil
end

local function integer(number)
  return string.format('%d', number)
end

-- XORs two digests of 16 hex digits. A text that is none is nothing: the digests of the peers differ then, and a recount
-- follows.
local function xor(a, b)
  local high = bit.bxor(tonumber(string.sub(a, 1, 8), 16) or 0, tonumber(string.sub(b, 1, 8), 16) or 0)
  local low = bit.bxor(tonumber(string.sub(a, 9, 16), 16) or 0, tonumber(string.sub(b, 9, 16), 16) or 0)
  return bit.tohex(high) .. bit.tohex(low)
end

-- Mixes the share of a live record into `deltas`, under the field of its digest.
local function mix_live(deltas, id, mark, expires)
  local field = 'digest'
  if expires then field = 'digest:' .. integer(math.floor(expires / EPOCH)) end
  local share, before = string.sub(redis.sha1hex(id .. ' ' .. mark), 1, 16), deltas[field]
  deltas[field] = before and xor(before, share) or share
end

-- Mixes a record's share into `deltas`; a tombstone has none.
local function mix(deltas, id, mark)
  if not mark then return end
  local _, _, _, deleted, expires = parse(mark)
  if not deleted then mix_live(deltas, id, mark, expires) end
end

-- Mixes `deltas` into the digests of a bucket; returns that of lasting records, which is not stored
-- here.
local function settle(meta, deltas, digest)
  for field, delta in pairs(deltas) do
    if field == 'digest' then
      digest = xor(digest, delta)
    else
      local mixed = xor(redis.call('HGET', meta, field) or ZERO, delta)
      if mixed == ZERO then redis.call('HDEL', meta, field) else redis.call('HSET', meta, field, mixed) end
    end
  end
  return digest
end

-- Replaces a record; `now` is when. Without a mark nothing of it is kept.
local function replace(keys, id, old, mark, value, expires, now)
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
  if mark and (expires or not value) then
    redis.call('ZADD', keys.gone, integer(math.max(expires or now, now)), id)
  elseif old and string.find(old, '[~!]') then
    redis.call('ZREM', keys.gone, id)
  end
end

-- The text of an error, if this is one.
local function error_of(done)
  return type(done) == 'table' and done.err or nil
end

-- Appends to a log. One that is ahead of its counter, or is not a stream, starts over, and its watchers notice.
local function append(log, max, entry, ...)
  local why = error_of(redis.pcall('XADD', log, 'MAXLEN', '~', max, entry, ...))
  if not why then return end
  -- Nothing is written yet, and the log is as it should be: the script ends.
  if string.find(why, 'OOM', 1, true) then redis.call('XADD', log, entry, ...) end
  redis.call('DEL', log)
  redis.call('XADD', log, entry, ...)
end

-- Appends to the log of changes, with this number.
local function note(changes, number, id, mark, max)
  append(changes, max, integer(number) .. '-0', 'id', id, 'mark', mark)
end
