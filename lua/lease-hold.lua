-- Purpose: takes or keeps a lease that one process of many may hold.
-- KEYS: lease
-- ARGV: holder, lease_ms
-- Replies: status, now_us — held, taken (somebody else holds it)
-- Never: takes a lease from a living holder.
local lease = KEYS[1]
local holder, lease_ms = ARGV[1], ARGV[2]

local current = redis.call('GET', lease)
if current and current ~= holder then
  return { 'taken', clock.now_us }
end
redis.call('SET', lease, holder, 'PX', lease_ms)
return { 'held', clock.now_us }
