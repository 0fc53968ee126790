-- Writes to the event log; it stands in front of each script that does. The rule is that of
-- events/merging.rs: an event is counted with an equal entry, or becomes one.
--
-- An entry of the stream never changes, so what it counts stands beside it, in the index: id →
-- `<count> <latest time in ms>`. There, too, `bytes` and `entries` have the size of the log up to the
-- entry `last`. An older companion writes to the stream alone: then the next script recounts the log, and no
-- event joins an entry up to `foreign`, since a contrary one of that companion may lie between.
--
-- The latest entries of an instance have a key of their own, which expires: `<time in ms of the latest
-- event that is forgotten, or -1>`, then a line for each, `<id> <first ms> <last ms> <kind> <print>`.

-- Nothing after the first write of a script may fail: it opens the log before it writes, which fails if another client
-- put another type there, and takes text that no unitring wrote for nothing.

-- Entries that one command reads or removes.
local ROWS = 500

-- Whether the entry `a` is later than `b`, by their ids.
local function is_later(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if not b_ms then return true end
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  if a_ms ~= b_ms then return a_ms > b_ms end
  return tonumber(a_seq) > tonumber(b_seq)
end

local function text_of(row)
  return row[2] and row[2][2] or ''
end

-- Recounts all entries, and drops the counts of those that are gone.
local function recount(log)
  log.bytes, log.entries = 0, 0
  local from, first = '-', nil
  while true do
    local rows = redis.call('XRANGE', log.stream, from, '+', 'COUNT', ROWS)
    if #rows == 0 then break end
    first = first or rows[1][1]
    for _, row in ipairs(rows) do log.bytes = log.bytes + #text_of(row) end
    log.entries = log.entries + #rows
    from = '(' .. rows[#rows][1]
  end
  local gone = {}
  for _, field in ipairs(redis.call('HKEYS', log.index)) do
    local is_gone = string.find(field, '^%d+-%d+$') and not (first and (field == first or is_later(field, first)))
    if is_gone then gone[#gone + 1] = field end
  end
  for at = 1, #gone, ROWS do
    redis.call('HDEL', log.index, unpack(gone, at, math.min(at + ROWS - 1, #gone)))
  end
end

-- Opens the log. `limits`: `<bytes> <entries trimmed at a time> <window in ms> <latest entries of an
-- instance> <ms that they are remembered> <window of an unsettled instance in ms>`; `room`: bytes that new entries may have.
local function open_log(stream, index, limits, room)
  local log = { stream = stream, index = index, room = tonumber(room), stored = 0, added = 0, counted = 0, left_out = 0 }
  local bytes, trimmed, window, latest, remembered, unsettled =
    string.match(limits, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  log.max, log.trimmed, log.window = tonumber(bytes), tonumber(trimmed), tonumber(window)
  log.latest, log.remembered, log.unsettled = tonumber(latest), remembered, tonumber(unsettled)
  local size = redis.call('HMGET', index, 'bytes', 'entries', 'last', 'foreign')
  local tail = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  log.bytes, log.entries = tonumber(size[1]), tonumber(size[2])
  log.last, log.foreign = tail and tail[1] or '', size[4] or ''
  if not log.bytes or size[3] ~= log.last or log.entries ~= redis.call('XLEN', stream) then
    recount(log)
    log.foreign, log.is_changed = log.last, true
  end
  return log
end

-- Adds an entry; its id, or nothing if it does not fit into the room.
local function add(log, text)
  if #text > log.room then
    log.left_out = log.left_out + 1
    return
  end
  local id = redis.pcall('XADD', log.stream, '*', 'event', text)
  if type(id) == 'table' then
    -- Full, and nothing is written yet: the script ends. Else another client's entry has the last id there is.
    if string.find(id.err, 'OOM', 1, true) then redis.call('XADD', log.stream, '*', 'event', text) end
    log.left_out = log.left_out + 1
    return
  end
  log.stored, log.added, log.room = log.stored + 1, log.added + #text, log.room - #text
  log.bytes, log.entries, log.last, log.is_changed = log.bytes + #text, log.entries + 1, id, true
  return id
end

-- The latest entries of an instance, oldest first.
local function latest_of(key)
  local known, latest = redis.pcall('GET', key), { forgotten = -1 }
  if type(known) ~= 'string' then return latest end
  latest.forgotten = tonumber(string.match(known, '^-?%d+') or '-1')
  for id, first, last, kind, print in string.gmatch(known, '\n(%d+%-%d+) (%d+) (%d+) (%l+) (%x+)') do
    latest[#latest + 1] = { id = id, first = tonumber(first), last = tonumber(last), kind = kind, print = print }
  end
  return latest
end

local function remember(log, key, latest)
  local lines = { string.format('%.0f', latest.forgotten) }
  for _, entry in ipairs(latest) do
    lines[#lines + 1] = string.format('%s %.0f %.0f %s %s', entry.id, entry.first, entry.last, entry.kind, entry.print)
  end
  redis.call('SET', key, table.concat(lines, '\n'), 'PX', log.remembered)
end

-- Whether a contrary event may lie within this time.
local function is_undone(latest, event, from, to)
  if latest.forgotten >= from then return true end
  for _, other in ipairs(latest) do
    local undoes = string.find(event.undone_by, ',' .. other.kind .. ',', 1, true)
    if undoes and other.first <= to and from <= other.last then return true end
  end
  return false
end

-- Whether as many entries as are remembered lie close to the event.
local function is_unsettled(log, latest, event)
  for _, entry in ipairs(latest) do
    if math.abs(entry.first - event.at) > log.window then return false end
  end
  return #latest >= log.latest
end

-- The latest entry that may have this event, within `window`; if it is `settled`, not across contrary ones.
local function entry_within(log, latest, event, window, settled)
  for at = #latest, 1, -1 do
    local entry = latest[at]
    local from, to = math.min(entry.first, event.at), math.max(entry.last, event.at)
    local may = entry.print == event.print and entry.kind == event.kind and to - from <= window
      and is_later(entry.id, log.foreign) and not (settled and is_undone(latest, event, from, to))
    if may and #redis.call('XRANGE', log.stream, entry.id, entry.id) == 1 then return entry end
  end
end

local function entry_for(log, latest, event)
  local entry = entry_within(log, latest, event, log.window, true)
  if not entry and is_unsettled(log, latest, event) then
    entry = entry_within(log, latest, event, log.unsettled, false)
  end
  return entry
end

-- Counts an event with an entry, or adds one. `key`: of its instance's latest entries; `sketch`: `<at in
-- ms> <kind> <print> ,<contrary kind>,…`, or '' for an event that is of no instance.
local function tell(log, key, sketch, text)
  if sketch == '' then
    add(log, text)
    return
  end
  local at, kind, print, undone_by = string.match(sketch, '^(%d+) (%l+) (%x+) (%S+)$')
  local event = { at = tonumber(at), kind = kind, print = print, undone_by = undone_by }
  local latest = latest_of(key)
  local entry = entry_for(log, latest, event)
  if entry then
    entry.first, entry.last = math.min(entry.first, event.at), math.max(entry.last, event.at)
    local count = tonumber(string.match(redis.call('HGET', log.index, entry.id) or '1', '^%d+') or '1') + 1
    redis.call('HSET', log.index, entry.id, string.format('%.0f %.0f', count, entry.last))
    log.counted = log.counted + 1
  else
    local id = add(log, text)
    if not id then return end
    latest[#latest + 1] = { id = id, first = event.at, last = event.at, kind = kind, print = print }
    if #latest > log.latest then
      latest.forgotten = math.max(latest.forgotten, table.remove(latest, 1).last)
    end
  end
  remember(log, key, latest)
end

-- Lets the oldest entries go, and writes the size.
local function close_log(log)
  local trimmed = 0
  while log.bytes > log.max and trimmed < log.trimmed do
    local gone = {}
    for _, row in ipairs(redis.call('XRANGE', log.stream, '-', '+', 'COUNT', ROWS)) do
      if log.bytes <= log.max or trimmed >= log.trimmed then break end
      gone[#gone + 1], trimmed = row[1], trimmed + 1
      log.bytes = log.bytes - #text_of(row)
    end
    if #gone == 0 then break end
    redis.call('XDEL', log.stream, unpack(gone))
    redis.call('HDEL', log.index, unpack(gone))
    log.entries = log.entries - #gone
  end
  if not log.is_changed then return end
  redis.call('HSET', log.index, 'bytes', string.format('%.0f', log.bytes), 'entries', log.entries, 'last', log.last,
    'foreign', log.foreign)
end

