-- Purpose: it happened. Stores the result for every later caller.
-- KEYS: effect, inflight
-- ARGV: effect_id, token, result, lost ('' or what to recover a lost grant with), clock_step
-- Replies: status, now_us, record, noted lapsed and recovered — completed (now; without the result), completed_before (the caller
--   compares the results), stale, failed, settled_otherwise (than by this lost grant), or without record: deleted (its
--   remembered token is not older), not_found
-- Never: changes a settled record, or one that another claim or a person has taken over.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, result, lost, clock_step = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]

local packed = redis.call('GET', effect)
local completed = packed and record.complete(packed, token, result, effect, inflight, effect_id)
if completed then
  return record.tell('completed', completed)
end
local r = packed and record.decode(packed)
local found = record.recover(r, token, lost, 'complete')
if found and found.state ~= 'in_progress' then
  return record.reply('settled_otherwise', found)
end
r = found or r
if not r then
  return record.tell('not_found')
elseif r.state == 'deleted' then
  return record.tell(token <= r.token and 'deleted' or 'not_found')
elseif token ~= r.token then
  return record.reply('stale', r)
elseif r.state == 'completed' then
  return record.reply('completed_before', r, r.ended == 'complete+' and ',recovered' or '')
elseif r.state == 'failed' then
  return record.reply('failed', r)
end

local lapsed = record.lease_over(r, clock_step)
if r.history ~= '' or r.state ~= 'in_progress' or lapsed then
  record.step(r, 'completed', r.owner, '')
end
record.settle_claim(r)
r.state, r.body, r.ended, r.entity, r.doubt, r.not_before = 'completed', result, 'complete', '', false, 0
if found then
  r.ended = 'complete+'
end
record.write(r, effect, inflight, effect_id)
return record.receipt('completed', r, (lapsed and ',lapsed' or '') .. (found and ',recovered' or ''))
