-- Purpose: finds effects whose lease has run out, in all the buckets given.
-- KEYS: any number of inflight indexes
-- ARGV: count (at the most)
-- Replies: status, now_us, effect_ids — due
-- Never: writes; the lease is read again by whoever settles one.
local count = tonumber(ARGV[1])

local due = {}
for _, inflight in ipairs(KEYS) do
  local found = redis.call('ZRANGEBYSCORE', inflight, '-inf', clock.now_ms, 'LIMIT', 0, count - #due)
  for _, effect_id in ipairs(found) do
    due[#due + 1] = effect_id
  end
  if #due >= count then
    break
  end
end
return { 'due', clock.now_us, due }
