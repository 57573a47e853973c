-- Purpose: gives a claim back unused; the attempt does not count.
-- KEYS: effect, inflight
-- ARGV: effect_id, token, reason, clock_step, clock_max_us
-- Replies: status, now_us, replayed (0|1), record — released, stale, lease_expired, already_settled,
--   or without record: deleted, not_found, clock_unsure
-- Never: releases what is not held with this token by a living lease.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local clock_step, clock_max_us = ARGV[4], tonumber(ARGV[5])

local r = record.read(effect)
local lapsed = r and record.lease_over(r, clock_step, clock_max_us)
if not r then
  return { 'not_found', clock.now_us }
elseif r.state == 'deleted' then
  return { token <= r.token and 'deleted' or 'not_found', clock.now_us }
elseif token ~= r.token then
  return { 'stale', clock.now_us, 0, record.fields(r) }
elseif r.ended == 'release' then
  return { 'released', clock.now_us, 1, record.fields(r) }
elseif lapsed == nil then
  return { 'clock_unsure', clock.now_us }
elseif r.ended == 'lease' or lapsed then
  return { 'lease_expired', clock.now_us, 0, record.fields(r) }
elseif r.state ~= 'in_progress' then
  return { 'already_settled', clock.now_us, 0, record.fields(r) }
end

r.state, r.ended, r.attempt = 'released', 'release', r.attempt - 1
record.retire_claim(r)
record.step(r, 'released', r.owner, reason)
record.write(r, effect, inflight, effect_id)
return { 'released', clock.now_us, 0, record.fields(r) }
