-- Purpose: reads entries of the audit in the order of their numbers or against it.
-- KEYS: log
-- ARGV: from (the first id), order (newest | oldest, first), count, bytes_max
-- Replies: status, now_us, entries — page; an entry is id, [field, value, …]
-- Never: writes, or reads on after the entry that exceeds bytes_max.
local log = KEYS[1]
local from, order, count, bytes_max = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local command, to = 'XRANGE', '+'
if order == 'newest' then
  command, to = 'XREVRANGE', '-'
end
local entries, bytes = {}, 0
while #entries < count and bytes < bytes_max do
  local found = redis.call(command, log, from, to, 'COUNT', 1)[1]
  if not found then
    break
  end
  entries[#entries + 1] = found
  from = '(' .. found[1]
  for _, text in ipairs(found[2]) do
    bytes = bytes + #text
  end
end
return { 'page', clock.now_us, entries }
