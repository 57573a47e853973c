-- Purpose: it did not happen, or nobody knows.
-- KEYS: effect, inflight
-- ARGV: effect_id, token, call (digest of this report, to know a repeat), execution (no|unknown|yes|partial), retryable (1 or ''),
--   max_attempts, wait_ms (advice for the next attempt), error (JSON), lost ('' or what to recover a lost grant with),
--   clock_step
-- Replies: status, now_us, record, noted replayed, lapsed (where it settles) and recovered — released, failed, uncertain,
--   stale, already_settled, settled_otherwise (than by this lost grant), or without record: deleted, not_found
-- Never: settles as failed what may have happened.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, token, call = ARGV[1], tonumber(ARGV[2]), 'fail:' .. ARGV[3]
local execution, retryable = ARGV[4], ARGV[5] == '1'
local max_attempts, wait_ms, error_json = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local lost, clock_step = ARGV[9], ARGV[10]

local r = record.read(effect)
-- What surely did not happen needs no record.
local found = execution ~= 'no' and record.recover(r, token, lost, 'fail')
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
elseif r.ended == call or r.ended == call .. '+' then
  return record.reply(r.state, r, r.ended ~= call and ',replayed,recovered' or ',replayed')
end
-- A lease that ran out under reclaim leaves the effect released, swept or not: the holder may still report.
local open = r.state == 'in_progress' or r.state == 'uncertain' or (r.state == 'released' and r.ended == 'lease')
if not open then
  return record.reply('already_settled', r)
end

local lapsed = record.lease_over(r, clock_step)
r.doubt = execution ~= 'no'
if found or execution == 'yes' or execution == 'partial' or (execution == 'unknown' and r.policy == 'hold') then
  r.state = 'uncertain'
elseif retryable and r.attempt < max_attempts then
  r.state, r.not_before = 'released', wait_ms > 0 and record.now(r) + wait_ms or 0
elseif r.doubt or r.earlier_doubt then
  r.state = 'uncertain'
else
  r.state, r.entity = 'failed', ''
end
r.body, r.ended = error_json, found and call .. '+' or call
if r.state == 'failed' then
  record.settle_claim(r)
else
  record.retire_claim(r)
end
record.step(r, r.state, r.owner, 'fail')
record.write(r, effect, inflight, effect_id)
return record.reply(r.state, r, (lapsed and ',lapsed' or '') .. (found and ',recovered' or ''))
