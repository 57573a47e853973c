-- Purpose: heartbeat; extends a living lease, and never shortens it.
-- KEYS: effect, inflight
-- ARGV: effect_id, token, lease_ms ('' for the length it was claimed with)
-- Replies: status, now_us, record — renewed, stale, lease_expired, already_settled, or without record: deleted, not_found
-- Never: revives a lease that has run out.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local r = record.read(effect)
if not r then
  return { 'not_found', clock.now_us }
elseif r.state == 'deleted' then
  return { token <= r.token and 'deleted' or 'not_found', clock.now_us }
elseif token ~= r.token then
  return { 'stale', clock.now_us, record.fields(r) }
elseif r.ended == 'lease' or record.lease_over(r) then
  return { 'lease_expired', clock.now_us, record.fields(r) }
elseif r.state ~= 'in_progress' then
  return { 'already_settled', clock.now_us, record.fields(r) }
end

r.lease_expires_at = math.max(r.lease_expires_at, record.now(r) + (lease_ms or r.lease_ms))
record.write(r, effect, inflight, effect_id)
return { 'renewed', clock.now_us, record.fields(r) }
