-- Purpose: gives a claim back unused; the attempt does not count.
-- KEYS: effect, inflight
-- ARGV: effect_id, token, reason, clock_step, clock_max_us
-- Replies: status, now_us, record, noted replayed — released, stale, lease_expired, already_settled,
--   or without record: deleted, not_found, clock_unsure
-- Never: releases what is not held with this token by a living lease.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, reason = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local clock_step, clock_max_us = ARGV[4], tonumber(ARGV[5])

local r = record.read(effect)
local lapsed = r and record.lease_over(r, clock_step, clock_max_us)
if not r then
  return record.tell('not_found')
elseif r.state == 'deleted' then
  return record.tell(token <= r.token and 'deleted' or 'not_found')
elseif token ~= r.token then
  return record.reply('stale', r)
elseif r.ended == 'release' then
  return record.reply('released', r, ',replayed')
elseif lapsed == nil then
  return record.tell('clock_unsure')
elseif r.ended == 'lease' or lapsed then
  return record.reply('lease_expired', r)
elseif r.state ~= 'in_progress' then
  return record.reply('already_settled', r)
end

r.state, r.ended, r.attempt = 'released', 'release', r.attempt - 1
record.retire_claim(r)
record.step(r, 'released', r.owner, reason)
record.write(r, effect, inflight, effect_id)
return record.reply('released', r)
