-- Purpose: heartbeat; extends a living lease, and never shortens it.
-- KEYS: effect, inflight
-- ARGV: effect_id, token, lease_ms ('' for the length it was claimed with), lost ('' or what to recover a lost grant with),
--   clock_step, clock_max_us
-- Replies: status, now_us, record, noted recovered — renewed, stale, lease_expired, already_settled,
--   settled_otherwise (than by this lost grant), or without record: deleted, not_found, clock_unsure
-- Never: revives a lease that has run out.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, lease_ms, lost = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local clock_step, clock_max_us = ARGV[5], tonumber(ARGV[6])

local r = record.read(effect)
local found = record.recover(r, token, lost, 'renew')
if found and found.state ~= 'in_progress' then
  return record.reply('settled_otherwise', found)
end
r = found or r
local lapsed = r and record.lease_over(r, clock_step, clock_max_us)
if not r then
  return record.tell('not_found')
elseif r.state == 'deleted' then
  return record.tell(token <= r.token and 'deleted' or 'not_found')
elseif token ~= r.token then
  return record.reply('stale', r)
elseif lapsed == nil then
  return record.tell('clock_unsure')
elseif r.ended == 'lease' or lapsed then
  return record.reply('lease_expired', r)
elseif r.state ~= 'in_progress' then
  return record.reply('already_settled', r)
end

local before = found and 0 or r.lease_expires_at
r.lease_expires_at = math.max(before, record.now(r) + (lease_ms or r.lease_ms))
record.write(r, effect, inflight, effect_id)
return record.reply('renewed', r, found and ',recovered' or '')
