-- Reads the first ops of a bucket's outbox, within a bound on their number and bytes.
--
-- A script, because only the server knows the size of an entry before it is sent.
--
-- KEYS: outbox, meta (one bucket, so one slot)
-- ARGV: incarnation and sequence after which to read, how many at most, bytes of values at most (at least
--       one op is returned)
-- Answers: {incarnation, the last sequence of it, 1 if there are more, {sequence, id, mark, value, over,
--          span that made it or '', sequence, id, ...}}; of an entry that no unitring wrote all but the sequence is ''

local own = redis.call('HMGET', KEYS[2], 'incarnation', 'sequence')
local incarnation = integer(number_of(own[1]))
local from, left, bytes = '-', tonumber(ARGV[3]), tonumber(ARGV[4])
if incarnation == ARGV[1] then from = '(' .. ARGV[2] .. '-0' end
local answer, more = {}, 0
while more == 0 do
  local count = math.min(left + 1, 8)
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', count)
  for _, entry in ipairs(page) do
    local fields = entry[2]
    if fields[1] ~= 'id' or fields[3] ~= 'mark' or fields[5] ~= 'value' then fields = {} end
    bytes = bytes - #(fields[6] or '')
    if left == 0 or (bytes < 0 and #answer > 0) then
      more = 1
      break
    end
    local sequence = string.match(entry[1], '^(%d+)')
    for _, part in ipairs({ sequence, fields[2] or '', fields[4] or '', fields[6] or '', fields[8] or '', fields[10] or '' }) do
      answer[#answer + 1] = part
    end
    from = '(' .. entry[1]
    left = left - 1
  end
  if #page < count then break end
end
return { incarnation, integer(number_of(own[2])), more, answer }
