-- Purpose: asks to execute an effect. Grants it to at most one live holder, or tells why not.
-- KEYS: effect, inflight
-- ARGV: effect_id, deadline_us (no grant later than this), floor_us, clock_max_us, owner, claim (digest), fingerprint, metadata,
--   entity, result, terms (what many claims of one call share, JSON: lease_ms, retention_ms, policy, max_attempts, job_type,
--   durability, clock_step, and true or absent: has_result; absent_refused: without a record it may have been granted by a
--   server before; over_budget; gate: grant nothing, tell what would be granted; wait: the caller waits for the end of what
--   is in progress)
-- Replies: status, now_us, record, noted lapsed, in_doubt and deleted (of what was there only its token and past claims are
--   known) — claimed, gated (no record if it is new),
--   completed_now, replayed, completed_again, completed, failed, in_progress, uncertain, claim_ended, fingerprint_mismatch,
--   exhausted, or without record: late, absent_refused, over_budget, clock_unsure
-- Never: grants after deadline_us, or while another lease is alive, or where somebody must look first.
local effect, inflight, effect_id, floor_us, clock_max_us
local owner, claim, fingerprint, metadata, entity, result, terms

-- Each is read once, however many claims of this call share it.
local terms_read = setmetatable({}, {
  __index = function(known, text)
    local read = cjson.decode(text)
    known[text] = read
    return read
  end,
})

local function grant(r)
  r.token = record.next_token(r.token, floor_us)
  r.earlier_doubt = r.earlier_doubt or r.doubt
  r.doubt, r.ended, r.not_before = false, '', 0
  r.attempt = r.attempt + 1
  r.claimed_at = record.now(r)
  r.lease_ms, r.retention_ms, r.policy = terms.lease_ms, terms.retention_ms, terms.policy
  r.owner, r.claim = owner, claim
  r.job_type, r.durability, r.body = terms.job_type, terms.durability, ''
  r.fingerprint = fingerprint ~= '' and fingerprint or r.fingerprint
  r.metadata = metadata ~= '' and metadata or r.metadata
  r.entity = entity ~= '' and entity or r.entity
  r.state, r.lease_expires_at = 'in_progress', r.claimed_at + terms.lease_ms
  if terms.has_result then
    r.state, r.body, r.ended, r.entity = 'completed', result, 'complete', ''
  end
  return r
end

-- The commonest claim by far: the effect is new, and one SET decides. Answers what is there already, or what was written.
local function claim_new()
  if terms.absent_refused or terms.over_budget or terms.gate then
    return redis.call('GET', effect)
  elseif terms.has_result then
    local r = grant(record.new())
    return record.write_new(r, effect), r.stored
  end
  local token = record.next_token(0, floor_us)
  local packed = record.encode_first(token, terms, owner, claim, fingerprint, metadata, entity)
  return record.write_first(packed, effect, inflight, effect_id, clock.now_ms + terms.lease_ms), packed
end

-- Why a known effect is not granted, or nil.
local function refusal(r)
  if r.fingerprint ~= '' and fingerprint ~= '' and r.fingerprint ~= fingerprint then
    return 'fingerprint_mismatch'
  elseif r.state == 'in_progress' and r.claim == claim then
    return 'replayed'
  elseif r.state == 'completed' and r.claim == claim and terms.has_result then
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
  r.ended, r.not_before = 'exhausted', 0
  record.step(r, r.state, owner, 'attempts_exhausted')
  record.write(r, effect, inflight, effect_id)
end

local function claim_known(r)
  local lapsed = record.lease_over(r, terms.clock_step, clock_max_us)
  if lapsed == nil then
    return record.tell('clock_unsure')
  elseif lapsed then
    record.lapse(r)
  end
  local noted = lapsed and ',lapsed' or ''
  if r.state == 'deleted' then
    local fresh = record.new()
    fresh.token, fresh.past_claims, fresh.updated_at = r.token, r.past_claims, r.updated_at
    r, noted = fresh, ',deleted'
  end
  local status = refusal(r) or (terms.gate and 'gated')
  if status then
    if lapsed then
      record.write(r, effect, inflight, effect_id)
    elseif terms.wait and status == 'in_progress' then
      record.await(r, effect)
    end
    return record.reply(status, r, noted)
  end
  if r.attempt + 1 > terms.max_attempts then
    exhaust(r)
    return record.reply('exhausted', r, noted)
  end
  local in_doubt = r.doubt
  grant(r)
  if r.attempt > 1 or r.history ~= '' then
    record.step(r, 'claimed', owner, '')
  end
  record.write(r, effect, inflight, effect_id)
  return record.reply(terms.has_result and 'completed_now' or 'claimed', r, noted .. (in_doubt and ',in_doubt' or ''))
end

effect, inflight = KEYS[1], KEYS[2]
local deadline_us = tonumber(ARGV[2])
effect_id, floor_us, clock_max_us = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
owner, claim, fingerprint, metadata, entity, result = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
terms = terms_read[ARGV[11]]

if clock.now_us > deadline_us then
  return record.tell('late')
end
local packed, granted = claim_new()
local known = packed and record.decode(packed)
if terms.absent_refused and (not known or known.state == 'deleted') then
  return record.tell('absent_refused')
elseif known then
  return claim_known(known)
elseif terms.over_budget then
  return record.tell('over_budget')
elseif terms.gate then
  return record.tell('gated')
end
return record.tell(terms.has_result and 'completed_now' or 'claimed', granted)
