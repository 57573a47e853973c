-- Purpose: reads one record with its history.
-- KEYS: effect
-- ARGV: none
-- Replies: status, now_us, record, history — found, or without record: not_found
-- Never: writes.
local effect = KEYS[1]

local r = record.read(effect)
if not r or r.state == 'deleted' then
  return { 'not_found', clock.now_us }
end
return { 'found', clock.now_us, record.fields(r), record.steps(r) }
