-- Purpose: asks to execute an effect. Grants it to at most one live holder, or tells why not.
-- KEYS: effect, inflight
-- ARGV: effect_id, deadline_us (no grant later than this), floor_us, absent_refused (1 or '': without a record it may have been
--   granted by a server before), over_budget (1 or ''), gate (1 or '': grant nothing, tell what would be granted),
--   owner, claim (digest), fingerprint, lease_ms, retention_ms, policy, max_attempts, job_type, durability, metadata, entity,
--   has_result (1 or ''), result, wait (1 or '': the caller waits for the end of what is in progress), clock_step, clock_max_us
-- Replies: status, now_us, lapsed (0|1), in_doubt (0|1), record — claimed, gated (no record if it is new),
--   completed_now, replayed, completed_again, completed, failed, in_progress, uncertain, claim_ended, fingerprint_mismatch,
--   exhausted, or without record: late, absent_refused, over_budget, clock_unsure
-- Never: grants after deadline_us, or while another lease is alive, or where somebody must look first.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, deadline_us, floor_us = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local absent_refused, over_budget, gate = ARGV[4] == '1', ARGV[5] == '1', ARGV[6] == '1'
local owner, claim, fingerprint = ARGV[7], ARGV[8], ARGV[9]
local lease_ms, retention_ms = tonumber(ARGV[10]), tonumber(ARGV[11])
local policy, max_attempts, job_type, durability = ARGV[12], tonumber(ARGV[13]), ARGV[14], ARGV[15]
local metadata, entity, has_result, result = ARGV[16], ARGV[17], ARGV[18] == '1', ARGV[19]
local wait, clock_step, clock_max_us = ARGV[20] == '1', ARGV[21], tonumber(ARGV[22])

local function grant(r)
  r.token = record.next_token(r.token, floor_us)
  r.earlier_doubt = r.earlier_doubt or r.doubt
  r.doubt, r.ended, r.not_before = false, '', 0
  r.attempt = r.attempt + 1
  r.claimed_at = record.now(r)
  r.lease_ms, r.retention_ms, r.policy = lease_ms, retention_ms, policy
  r.owner, r.claim = owner, claim
  r.job_type, r.durability, r.body = job_type, durability, ''
  r.fingerprint = fingerprint ~= '' and fingerprint or r.fingerprint
  r.metadata = metadata ~= '' and metadata or r.metadata
  r.entity = entity ~= '' and entity or r.entity
  r.state, r.lease_expires_at = 'in_progress', r.claimed_at + lease_ms
  if has_result then
    r.state, r.body, r.ended, r.entity = 'completed', result, 'complete', ''
  end
  return r
end

-- The commonest claim by far: the effect is new, and one SET decides.
local function claim_new()
  if absent_refused or over_budget or gate then
    return redis.call('GET', effect)
  end
  local r = grant(record.new())
  if r.state == 'completed' then
    local until_ms = string.format('%.0f', clock.now_ms + retention_ms)
    return redis.call('SET', effect, record.encode(r), 'NX', 'GET', 'PXAT', until_ms), r
  end
  local packed = redis.call('SET', effect, record.encode(r), 'NX', 'GET')
  if not packed then
    redis.call('ZADD', inflight, r.lease_expires_at, effect_id)
  end
  return packed, r
end

local function reply(status, r, lapsed, in_doubt)
  return { status, clock.now_us, lapsed and 1 or 0, in_doubt and 1 or 0, record.fields(r) }
end

-- Why a known effect is not granted, or nil.
local function refusal(r)
  if r.fingerprint ~= '' and fingerprint ~= '' and r.fingerprint ~= fingerprint then
    return 'fingerprint_mismatch'
  elseif r.state == 'in_progress' and r.claim == claim then
    return 'replayed'
  elseif r.state == 'completed' and r.claim == claim and has_result then
    return 'completed_again'
  elseif record.is_past_claim(r, claim) then
    return 'claim_ended'
  elseif r.state ~= 'released' then
    return r.state
  end
end

-- One attempt more than allowed: nobody knows, or it has failed for good. The last error stays inside the new one.
local function exhaust(r)
  if r.doubt or r.earlier_doubt then
    r.state = 'uncertain'
  else
    local last = r.body ~= '' and r.body or 'null'
    r.state, r.entity = 'failed', ''
    r.body = '{"message":"No attempt is left.","code":"attempts_exhausted","last":' .. last .. '}'
  end
  r.ended = 'exhausted'
  record.step(r, r.state, owner, 'attempts_exhausted')
  record.write(r, effect, inflight, effect_id)
end

local function claim_known(r)
  local lapsed = record.lease_over(r, clock_step, clock_max_us)
  if lapsed == nil then
    return { 'clock_unsure', clock.now_us }
  elseif lapsed then
    record.lapse(r)
  end
  if r.state == 'deleted' then
    local fresh = record.new()
    fresh.token, fresh.past_claims, fresh.updated_at = r.token, r.past_claims, r.updated_at
    r = fresh
  end
  local status = refusal(r) or (gate and 'gated')
  if status then
    if lapsed then
      record.write(r, effect, inflight, effect_id)
    elseif wait and status == 'in_progress' then
      record.await(r, effect)
    end
    return reply(status, r, lapsed)
  end
  if r.attempt + 1 > max_attempts then
    exhaust(r)
    return reply('exhausted', r, lapsed)
  end
  local in_doubt = r.doubt
  grant(r)
  if r.attempt > 1 or r.history ~= '' then
    record.step(r, 'claimed', owner, '')
  end
  record.write(r, effect, inflight, effect_id)
  return reply(has_result and 'completed_now' or 'claimed', r, lapsed, in_doubt)
end

if clock.now_us > deadline_us then
  return { 'late', clock.now_us }
end
local packed, granted = claim_new()
local known = packed and record.decode(packed)
if absent_refused and (not known or known.state == 'deleted') then
  return { 'absent_refused', clock.now_us }
elseif known then
  return claim_known(known)
elseif over_budget then
  return { 'over_budget', clock.now_us }
elseif gate then
  return { 'gated', clock.now_us, 0, 0 }
end
return reply(has_result and 'completed_now' or 'claimed', granted)
