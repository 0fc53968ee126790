-- Reads the first ops of a bucket's outbox, within a bound on their number and bytes.
--
-- A script, because only here is the size of an entry known before it is sent.
--
-- KEYS: outbox
-- ARGV: first sequence, how many at most, bytes of values at most (at least one op is answered)
-- Answers: {sequence, id, mark, value, sequence, id, mark, value, ...}

local from, left, bytes = ARGV[1] .. '-0', tonumber(ARGV[2]), tonumber(ARGV[3])
local answer = {}
while left > 0 do
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', math.min(left, 8))
  if #page == 0 then break end
  for _, entry in ipairs(page) do
    local fields = entry[2]
    bytes = bytes - #fields[6]
    if bytes < 0 and #answer > 0 then return answer end
    local sequence = string.match(entry[1], '^(%d+)')
    for _, part in ipairs({ sequence, fields[2], fields[4], fields[6] }) do
      answer[#answer + 1] = part
    end
    from = '(' .. entry[1]
    left = left - 1
  end
end
return answer
