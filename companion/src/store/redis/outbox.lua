-- Reads the first ops of a bucket's outbox, within a bound on their number and bytes.
--
-- A script, because only the server knows the size of an entry before it is sent.
--
-- KEYS: outbox, meta (one bucket, so one slot)
-- ARGV: incarnation and sequence after which to read, how many at most, bytes of values at most (at least
--       one op is returned)
-- Answers: {incarnation, the last sequence of it, 1 if there are more, {sequence, id, mark, value, over,
--          span that made it or '', sequence, id, ...}}

local own = redis.call('HMGET', KEYS[2], 'incarnation', 'sequence')
local incarnation = own[1] or '0'
local from, left, bytes = '-', tonumber(ARGV[3]), tonumber(ARGV[4])
if incarnation == ARGV[1] then from = '(' .. ARGV[2] .. '-0' end
local answer, more = {}, 0
while more == 0 do
  local count = math.min(left + 1, 8)
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', count)
  for _, entry in ipairs(page) do
    local fields = entry[2]
    bytes = bytes - #fields[6]
    if left == 0 or (bytes < 0 and #answer > 0) then
      more = 1
      break
    end
    local sequence = string.match(entry[1], '^(%d+)')
    for _, part in ipairs({ sequence, fields[2], fields[4], fields[6], fields[8] or '', fields[10] or '' }) do
      answer[#answer + 1] = part
    end
    from = '(' .. entry[1]
    left = left - 1
  end
  if #page < count then break end
end
return { incarnation, own[2] or '0', more, answer }
