-- Purpose: heartbeat; extends a living lease, and never shortens it.
-- KEYS: effect, inflight
-- ARGV: effect_id, token, lease_ms ('' for the length it was claimed with), lost ('' or what to recover a lost grant with),
--   clock_step, clock_max_us
-- Replies: status, now_us, record, recovered (0|1) — renewed, stale, lease_expired, already_settled,
--   settled_otherwise (than by this lost grant), or without record: deleted, not_found, clock_unsure
-- Never: revives a lease that has run out.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, lease_ms, lost = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local clock_step, clock_max_us = ARGV[5], tonumber(ARGV[6])

local r = record.read(effect)
local found = record.recover(r, token, lost, 'renew')
if found and found.state ~= 'in_progress' then
  return { 'settled_otherwise', clock.now_us, record.fields(found) }
end
r = found or r
local lapsed = r and record.lease_over(r, clock_step, clock_max_us)
if not r then
  return { 'not_found', clock.now_us }
elseif r.state == 'deleted' then
  return { token <= r.token and 'deleted' or 'not_found', clock.now_us }
elseif token ~= r.token then
  return { 'stale', clock.now_us, record.fields(r) }
elseif lapsed == nil then
  return { 'clock_unsure', clock.now_us }
elseif r.ended == 'lease' or lapsed then
  return { 'lease_expired', clock.now_us, record.fields(r) }
elseif r.state ~= 'in_progress' then
  return { 'already_settled', clock.now_us, record.fields(r) }
end

local before = found and 0 or r.lease_expires_at
r.lease_expires_at = math.max(before, record.now(r) + (lease_ms or r.lease_ms))
record.write(r, effect, inflight, effect_id)
return { 'renewed', clock.now_us, record.fields(r), found and 1 or 0 }
