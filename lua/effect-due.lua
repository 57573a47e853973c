-- Purpose: finds effects whose lease has run out, in all the buckets given.
-- KEYS: any number of inflight indexes
-- ARGV: count (at the most), skip (so many that stand before them)
-- Replies: status, now_us, effect_ids — due
-- Never: writes; the lease is read again by whoever settles one.
local count, skip = tonumber(ARGV[1]), tonumber(ARGV[2])

local due = {}
for _, inflight in ipairs(KEYS) do
  local before = skip > 0 and math.min(skip, redis.call('ZCOUNT', inflight, '-inf', clock.now_ms)) or 0
  skip = skip - before
  local found = redis.call('ZRANGEBYSCORE', inflight, '-inf', clock.now_ms, 'LIMIT', before, count - #due)
  for _, effect_id in ipairs(found) do
    due[#due + 1] = effect_id
  end
  if #due >= count then
    break
  end
end
return { 'due', clock.now_us, due }
