-- Purpose: reads one page of the effects of one bucket that are in progress or uncertain, in the order of the index.
-- KEYS: inflight
-- ARGV: prefix (of the bucket's record keys), after_score, after_id (the last one seen, '' at the start), count
-- Replies: status, now_us, entries — page; an entry is effect_id, score, record
-- Never: writes, or reads more than count records.
local inflight = KEYS[1]
local prefix, after_score, after_id, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local TIES_MAX = 1000

-- A page after (score, id) finds whoever stays where it was, and no promise is made of the others: what moves meanwhile may be
-- missed or come twice. Backwards moves what was uncertain or had a longer lease, and is resolved or released and claimed again.
local ties = after_id == '' and 0 or math.min(redis.call('ZCOUNT', inflight, after_score, after_score), TIES_MAX)
local found = redis.call('ZRANGEBYSCORE', inflight, after_score, '+inf', 'WITHSCORES', 'LIMIT', 0, count + ties)
local entries = {}
for position = 1, #found, 2 do
  local effect_id, score = found[position], found[position + 1]
  if #entries == count then
    break
  end
  local seen = tonumber(score) == tonumber(after_score) and effect_id <= after_id
  local stored = not seen and redis.call('GET', prefix .. effect_id)
  if stored then
    entries[#entries + 1] = { effect_id, score, stored }
  end
end
return { 'page', clock.now_us, entries }
