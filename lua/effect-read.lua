-- Purpose: reads one record with its history.
-- KEYS: effect
-- ARGV: none
-- Replies: status, now_us, record — found, or without record: not_found
-- Never: writes.
local effect = KEYS[1]

local r = record.read(effect)
if not r or r.state == 'deleted' then
  return record.tell('not_found')
end
return record.reply('found', r)
