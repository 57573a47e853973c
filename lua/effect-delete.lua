-- Purpose: forgets a settled or released record; its token is remembered for the retention, so a late holder stays stale.
-- KEYS: effect, inflight
-- ARGV: effect_id, token ('' where none was sent), call (a nonce, to know our own repeat), clock_step, clock_max_us
-- Replies: status, now_us, record — deleted, not_settled, stale, or without record: not_found, clock_unsure
-- Never: forgets what is in progress or uncertain.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, call = ARGV[1], tonumber(ARGV[2]), 'delete:' .. ARGV[3]
local clock_step, clock_max_us = ARGV[4], tonumber(ARGV[5])

local r = record.read(effect)
if r and r.ended == call then
  return record.reply('deleted', r)
elseif not r or r.state == 'deleted' then
  return record.tell('not_found')
elseif token and token ~= r.token then
  return record.reply('stale', r)
end
local lapsed = record.lease_over(r, clock_step, clock_max_us)
if lapsed == nil then
  return record.tell('clock_unsure')
elseif lapsed then
  record.lapse(r)
end
if r.state == 'in_progress' or r.state == 'uncertain' then
  return record.reply('not_settled', r)
end

local reply = record.reply('deleted', r)
record.retire_claim(r)
local remembered = record.new()
remembered.state, remembered.token, remembered.past_claims = 'deleted', r.token, r.past_claims
remembered.retention_ms, remembered.updated_at, remembered.ended = r.retention_ms, r.updated_at, call
record.write(remembered, effect, inflight, effect_id)
return reply
