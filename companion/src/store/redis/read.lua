-- Reads records of one bucket with their versions.
--
-- A script, so that each value belongs to its version; and not a transaction, since the client of a
-- Redis Cluster follows a moved slot for single commands only.
--
-- KEYS: versions, then the record of each id
-- ARGV: the ids
-- Answers: {mark or false, value or false, mark, value, ...}; '?' and the type in place of the mark where another client
--          put something else than a string

local answer = {}
for index, id in ipairs(ARGV) do
  answer[#answer + 1] = redis.call('HGET', KEYS[1], id)
  local value = redis.pcall('GET', KEYS[index + 1])
  if type(value) == 'table' then
    answer[#answer], value = '?' .. redis.call('TYPE', KEYS[index + 1]).ok, false
  end
  answer[#answer + 1] = value
end
return answer
