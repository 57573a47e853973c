-- Purpose: it happened. Stores the result for every later caller.
-- KEYS: effect, inflight
-- ARGV: effect_id, token, result, lost ('' or what to recover a lost grant with), clock_step
-- Replies: status, now_us, record, lapsed (0|1, of completed), recovered (0|1) — completed (now), completed_before (the caller
--   compares the results), stale, failed, settled_otherwise (than by this lost grant), or without record: deleted (its
--   remembered token is not older), not_found
-- Never: changes a settled record, or one that another claim or a person has taken over.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, result, lost, clock_step = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]

local r = record.read(effect)
local found = record.recover(r, token, lost, 'complete')
if found and found.state ~= 'in_progress' then
  return { 'settled_otherwise', clock.now_us, record.fields(found) }
end
r = found or r
if not r then
  return { 'not_found', clock.now_us }
elseif r.state == 'deleted' then
  return { token <= r.token and 'deleted' or 'not_found', clock.now_us }
elseif token ~= r.token then
  return { 'stale', clock.now_us, record.fields(r) }
elseif r.state == 'completed' then
  return { 'completed_before', clock.now_us, record.fields(r), 0, r.ended == 'complete+' and 1 or 0 }
elseif r.state == 'failed' then
  return { 'failed', clock.now_us, record.fields(r) }
end

local lapsed = record.lease_over(r, clock_step)
if r.history ~= '' or r.state ~= 'in_progress' or lapsed then
  record.step(r, 'completed', r.owner, '')
end
if not found then
  record.settle_claim(r)
end
r.state, r.body, r.ended, r.entity, r.doubt, r.not_before = 'completed', result, 'complete', '', false, 0
if found then
  r.ended = 'complete+'
end
record.write(r, effect, inflight, effect_id)
return { 'completed', clock.now_us, record.fields(r), lapsed and 1 or 0, found and 1 or 0 }
