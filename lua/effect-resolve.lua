-- Purpose: a person, or a worker with evidence, settles an effect.
-- KEYS: effect, inflight
-- ARGV: effect_id, token ('' where none was sent), call (digest of this call, to know a repeat), floor_us,
--   resolution (executed|not_executed|abandoned), uncertain_only (1 or ''), by, reason, body (result or error JSON),
--   clock_step, clock_max_us
-- Replies: status, now_us, record, noted replayed and lapsed — resolved, stale, already_settled, in_progress (only an uncertain
--   effect may be resolved by this caller), or without record: not_found, clock_unsure
-- Never: touches a completed effect, or one that has moved on since it was looked at.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, call, floor_us = ARGV[1], tonumber(ARGV[2]), 'resolve:' .. ARGV[3], tonumber(ARGV[4])
local resolution, uncertain_only, by, reason, body = ARGV[5], ARGV[6] == '1', ARGV[7], ARGV[8], ARGV[9]
local clock_step, clock_max_us = ARGV[10], tonumber(ARGV[11])

local r = record.read(effect)
if not r or r.state == 'deleted' then
  return record.tell('not_found')
end
if r.ended == call then
  return record.reply('resolved', r, ',replayed')
elseif token and token ~= r.token then
  return record.reply('stale', r)
elseif r.state == 'completed' then
  return record.reply('already_settled', r)
end
local lapsed = record.lease_over(r, clock_step, clock_max_us)
if lapsed == nil then
  return record.tell('clock_unsure')
elseif lapsed then
  record.lapse(r)
end
if uncertain_only and r.state ~= 'uncertain' then
  return record.reply(r.state == 'in_progress' and 'in_progress' or 'already_settled', r)
end

r.token = record.next_token(r.token, floor_us)
r.doubt, r.not_before, r.ended = false, 0, call
if resolution == 'executed' then
  record.settle_claim(r)
  r.state, r.body, r.entity = 'completed', body, ''
elseif resolution == 'abandoned' then
  record.settle_claim(r)
  r.state, r.body, r.entity = 'failed', body, ''
else
  r.state, r.attempt, r.earlier_doubt, r.body = 'released', 0, false, ''
  record.retire_claim(r)
end
record.step(r, 'resolved', by, resolution .. ': ' .. reason)
record.write(r, effect, inflight, effect_id)
return record.reply('resolved', r, lapsed and ',lapsed' or '')
