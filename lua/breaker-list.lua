-- Purpose: reads one page of the breakers of a namespace in the order of their changes, as stored.
-- KEYS: index
-- ARGV: prefix (of the breakers' keys), after (seq of the last one read), seen_job_type ('' or one whose change was seen), seen_seq (of
--   that change), count
-- Replies: status, now_us, top, top_job_type, entries — page, lost (the change that was seen is gone); an entry is job_type, seq, breaker
-- Never: writes, or reads more than count breakers.
local index = KEYS[1]
local prefix, after, seen_job_type, seen_seq, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local top = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')
local top_seq, top_job_type = tonumber(top[2] or 0), top[1] or ''
if seen_job_type ~= '' and tonumber(redis.call('ZSCORE', index, seen_job_type) or 0) < seen_seq then
  return { 'lost', clock.now_us, top_seq, top_job_type, {} }
end
local entries = {}
local found = redis.call('ZRANGEBYSCORE', index, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
for at = 1, #found, 2 do
  local r = breaker.read(prefix .. found[at])
  -- A breaker that was forgotten leaves its place in the order, for the cursor.
  entries[#entries + 1] = { found[at], tonumber(found[at + 1]), r and breaker.fields(r) or {} }
end
return { 'page', clock.now_us, top_seq, top_job_type, entries }
