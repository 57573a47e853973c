-- Purpose: it happened. Stores the result for every later caller.
-- KEYS: effect, inflight
-- ARGV: effect_id, token, result
-- Replies: status, now_us, record, lapsed (0|1, of completed) — completed (now), completed_before (the caller compares the
--   results), stale, failed, or without record: deleted (its remembered token is not older), not_found
-- Never: changes a settled record, or one that another claim or a person has taken over.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, result = ARGV[1], tonumber(ARGV[2]), ARGV[3]

local r = record.read(effect)
if not r then
  return { 'not_found', clock.now_us }
elseif r.state == 'deleted' then
  return { token <= r.token and 'deleted' or 'not_found', clock.now_us }
elseif token ~= r.token then
  return { 'stale', clock.now_us, record.fields(r) }
elseif r.state == 'completed' then
  return { 'completed_before', clock.now_us, record.fields(r) }
elseif r.state == 'failed' then
  return { 'failed', clock.now_us, record.fields(r) }
end

local lapsed = record.lease_over(r)
if r.history ~= '' or r.state ~= 'in_progress' or lapsed then
  record.step(r, 'completed', r.owner, '')
end
record.settle_claim(r)
r.state, r.body, r.ended, r.entity, r.doubt, r.not_before = 'completed', result, 'complete', '', false, 0
record.write(r, effect, inflight, effect_id)
return { 'completed', clock.now_us, record.fields(r), lapsed and 1 or 0 }
