-- Purpose: a write that reaches replicas and disk behind everything that was answered before it, so that waiting for it is
--   waiting for all of that, whoever wrote it.
-- KEYS: mark
-- ARGV: mark_ms (the key vanishes after it)
-- Replies: status, now_us — marked
-- Never: tells anybody anything; its value means nothing.
local mark = KEYS[1]
local mark_ms = ARGV[1]

redis.call('SET', mark, '', 'PX', mark_ms)
return { 'marked', clock.now_us }
