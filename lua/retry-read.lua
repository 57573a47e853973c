-- Purpose: what is kept of one job type for a window that ends now; the caller decodes it.
-- KEYS: metrics
-- ARGV: window_minutes
-- Replies: status, now_us, state (JSON; '' if nothing was ever recorded), chunks (texts; '' for one that is not there) — read
-- Never: writes.
local metrics = KEYS[1]
local window_minutes = tonumber(ARGV[1])

local minute = math.floor(clock.now_ms / 60000)
local fields = { 'state' }
for chunk = math.floor((minute - window_minutes + 1) / 240), math.floor(minute / 240) do
  fields[#fields + 1] = 'c' .. chunk % 7
end
local kept = redis.call('HMGET', metrics, unpack(fields))
for at = 1, #fields do
  kept[at] = kept[at] or ''
end
local state = table.remove(kept, 1)
return { 'read', clock.now_us, state, kept }
