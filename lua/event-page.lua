-- Purpose: reads the next events after one that a reader has seen, and says whether some between have gone.
-- KEYS: events
-- ARGV: after (an id `<ms>-<n>`; '' for the newest: nothing is read), count
-- Replies: status, now_us, last_id, entries — page, gap (events after `after` are gone); an entry is id, [field, value, …]
-- Never: writes.
local events = KEYS[1]
local after, count = ARGV[1], ARGV[2]

local function is_before(a, b)
  local a_ms, a_n = a:match('^(%d+)-(%d+)$')
  local b_ms, b_n = b:match('^(%d+)-(%d+)$')
  if a_ms == b_ms then
    return tonumber(a_n) < tonumber(b_n)
  end
  return tonumber(a_ms) < tonumber(b_ms)
end

local info = {}
if redis.call('EXISTS', events) == 1 then
  local fields = redis.call('XINFO', 'STREAM', events)
  for i = 1, #fields, 2 do
    info[fields[i]] = fields[i + 1]
  end
end
local last_id = info['last-generated-id'] or '0-0'
if after == '' then
  return { 'page', clock.now_us, last_id, {} }
end

-- An id that the stream has not reached is of a store that has been emptied since.
local status = 'page'
if is_before(last_id, after) then
  status, after = 'gap', '0-0'
end
local entries = redis.call('XRANGE', events, '(' .. after, '+', 'COUNT', count)
local trimmed = (info['entries-added'] or 0) > (info['length'] or 0)
if trimmed and (#entries == 0 and after ~= last_id or #entries > 0 and is_before(after, info['first-entry'][1])) then
  status = 'gap'
end
return { status, clock.now_us, last_id, entries }
