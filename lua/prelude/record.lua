-- The record of one effect: one packed string. Only this file knows its layout.
--
-- A record in Lua is a table with these fields; times are Redis milliseconds, 0 for "none", and text is '' for "none".
--   state             in_progress | completed | failed | released | uncertain | deleted (only its token is remembered)
--   policy            hold | reclaim: what a silent end of the lease means
--   doubt             the current attempt ended without anybody knowing whether the effect happened
--   earlier_doubt     an earlier attempt since the last resolve did
--   waited            somebody waits for the end of what is in progress, and is told of it
--   attempt           grants since the last resolve that did not end by release
--   token             fencing token, microseconds, < 2^53
--   created_at, updated_at, claimed_at, lease_expires_at, not_before
--   lease_ms, retention_ms
--   owner, claim      who holds or held it; digest of owner and claim_id, 22 characters
--   past_claims       digests of the last claims that ended without settling, 22 characters each, oldest first
--   ended             how the last attempt ended: '' | lease | release:… | fail:… | complete | resolve:… (with a digest of the call);
--                     with '+' at its end where that report was the first that this store heard of the attempt
--   fingerprint, job_type, durability, metadata, entity
--   body              result (completed) or error (else), opaque bytes
--   history           packed steps, oldest first
local record = {}
do
  -- version, state, flags, attempt, token, created_at, updated_at, lease_ms, retention_ms, owner, claim, ended, fingerprint;
  -- then the parts that the flags tell of, and the body. A completed effect has neither part: 110 bytes beside its result and
  -- its owner, where all of it took 165, and Redis takes memory in steps of 64.
  local ALWAYS = '<BBBHI7I6I6I3I5Hc0Bc0Bc0Hc0'
  local OPEN, OPEN_FLAG = '<I6I6I6Hc0', 16 -- claimed_at, lease_expires_at, not_before, entity
  local RARE, RARE_FLAG = '<Bc0Bc0Bc0Hc0Hc0', 32 -- past_claims, job_type, durability, metadata, history
  local STEP = '<dHBc0Hc0Hc0'
  local VERSION = 2
  local CLAIM_LENGTH = 22
  local CLAIMS_REMEMBERED = 8
  local STEPS_MAX = 20
  local UNCERTAIN_SCORE = 1e15 -- above every lease: uncertain effects stand behind those in progress

  local STATES = { 'in_progress', 'completed', 'failed', 'released', 'uncertain', 'deleted' }
  local CODES = {}
  for code, state in ipairs(STATES) do
    CODES[state] = code
  end

  function record.new()
    return {
      state = 'released', policy = 'hold', doubt = false, earlier_doubt = false, waited = false, attempt = 0, token = 0,
      created_at = clock.now_ms, updated_at = clock.now_ms, claimed_at = 0, lease_expires_at = 0, not_before = 0,
      lease_ms = 0, retention_ms = 0, owner = '', claim = '', past_claims = '', ended = '', fingerprint = '',
      job_type = '', durability = '', metadata = '', entity = '', body = '', history = '',
    }
  end

  -- When the token says that it was granted; claimed_at is another time only where a clock went backwards.
  local function granted_at(token)
    return math.floor(token / 1000)
  end

  local function is_open(r)
    local settled = r.state == 'completed' or r.state == 'failed'
    return not settled or r.entity ~= '' or r.not_before ~= 0 or r.claimed_at ~= granted_at(r.token)
  end

  local function is_rare(r)
    local unusual = r.durability ~= 'primary' or r.job_type ~= '' or r.metadata ~= ''
    return unusual or r.past_claims ~= '' or r.history ~= ''
  end

  function record.encode(r)
    local open, rare = '', ''
    local flags = (r.policy == 'reclaim' and 1 or 0) + (r.doubt and 2 or 0) + (r.earlier_doubt and 4 or 0)
      + (r.waited and 8 or 0)
    if is_open(r) then
      flags = flags + OPEN_FLAG
      open = struct.pack(OPEN, r.claimed_at, r.lease_expires_at, r.not_before, #r.entity, r.entity)
    end
    if is_rare(r) then
      flags = flags + RARE_FLAG
      rare = struct.pack(
        RARE, #r.past_claims, r.past_claims, #r.job_type, r.job_type, #r.durability, r.durability,
        #r.metadata, r.metadata, #r.history, r.history
      )
    end
    local ended = r.ended == 'complete' and 'c' or r.ended
    local always = struct.pack(
      ALWAYS, VERSION, CODES[r.state], flags, r.attempt, r.token,
      r.created_at, r.updated_at, r.lease_ms, r.retention_ms,
      #r.owner, r.owner, #r.claim, r.claim, #ended, ended, #r.fingerprint, r.fingerprint
    )
    return always .. open .. rare .. r.body
  end

  function record.decode(packed)
    assert(packed:byte(1) == VERSION, 'a record of another version')
    local r = {
      lease_expires_at = 0, not_before = 0, entity = '',
      past_claims = '', job_type = '', durability = 'primary', metadata = '', history = '',
    }
    local _, code, flags, at
    _, code, flags, r.attempt, r.token, r.created_at, r.updated_at, r.lease_ms, r.retention_ms,
    r.owner, r.claim, r.ended, r.fingerprint, at = struct.unpack(ALWAYS, packed)
    r.state, r.policy = STATES[code], flags % 2 == 1 and 'reclaim' or 'hold'
    r.doubt, r.earlier_doubt, r.waited = flags % 4 >= 2, flags % 8 >= 4, flags % 16 >= 8
    r.claimed_at = granted_at(r.token)
    if flags % RARE_FLAG >= OPEN_FLAG then
      r.claimed_at, r.lease_expires_at, r.not_before, r.entity, at = struct.unpack(OPEN, packed, at)
    end
    if flags >= RARE_FLAG then
      r.past_claims, r.job_type, r.durability, r.metadata, r.history, at = struct.unpack(RARE, packed, at)
    end
    if r.ended == 'c' then
      r.ended = 'complete'
    end
    r.body = packed:sub(at)
    return r
  end

  -- A record's time never runs backwards, even if the clock of a new primary is behind.
  function record.now(r)
    return math.max(clock.now_ms, r.updated_at)
  end

  function record.read(key)
    local packed = redis.call('GET', key)
    return packed and record.decode(packed) or nil
  end

  -- Remembers that somebody waits for the end of what is in progress. Nothing else of the record changes.
  function record.await(r, key)
    if not r.waited then
      r.waited = true
      redis.call('SET', key, record.encode(r))
    end
  end

  -- Tells those who wait, in every process of the service, which record is no longer in progress; the last thing that a
  -- script does. Whoever may not publish has written all the same: those who wait ask again when the lease would end.
  local function wake(key)
    redis.pcall('PUBLISH', key:match('^[^{]*') .. 'wake', key)
  end

  -- Writes a record and its index entry. Only settled, released and deleted records may vanish by themselves.
  function record.write(r, key, inflight, effect_id)
    local woken = r.waited and r.state ~= 'in_progress'
    r.waited = r.waited and not woken
    r.updated_at = record.now(r)
    local packed = record.encode(r)
    if r.state == 'in_progress' then
      redis.call('SET', key, packed)
      redis.call('ZADD', inflight, r.lease_expires_at, effect_id)
    elseif r.state == 'uncertain' then
      redis.call('SET', key, packed)
      redis.call('ZADD', inflight, UNCERTAIN_SCORE + r.updated_at, effect_id)
    else
      redis.call('SET', key, packed, 'PXAT', string.format('%.0f', r.updated_at + r.retention_ms))
      redis.call('ZREM', inflight, effect_id)
    end
    if woken then
      wake(key)
    end
  end

  function record.next_token(previous, floor_us)
    return math.max(previous + 1, clock.now_us, floor_us + 1)
  end

  -- Remembers a step other than plain claim and complete; the oldest of more than STEPS_MAX is dropped.
  function record.step(r, name, by, detail)
    r.history = r.history .. struct.pack(STEP, record.now(r), r.attempt, #name, name, #by, by, #detail, detail)
    local steps, position, second = 0, 1, 1
    while position <= #r.history do
      position = select(6, struct.unpack(STEP, r.history, position))
      steps = steps + 1
      if steps == 1 then
        second = position
      end
    end
    if steps > STEPS_MAX then
      r.history = r.history:sub(second)
    end
  end

  function record.steps(r)
    local steps, position = {}, 1
    while position <= #r.history do
      local at, attempt, name, by, detail, following = struct.unpack(STEP, r.history, position)
      steps[#steps + 1] = { at, attempt, name, by, detail }
      position = following
    end
    return steps
  end

  -- The current claim has ended without settling: a late repeat of it must not be granted.
  function record.retire_claim(r)
    if r.claim ~= '' then
      r.past_claims = (r.past_claims .. r.claim):sub(-CLAIM_LENGTH * CLAIMS_REMEMBERED)
      r.claim = ''
    end
  end

  -- The last claim has settled the effect after all: whoever repeats it is told the outcome, for as long as it is known.
  function record.settle_claim(r)
    if r.claim == '' then
      r.claim = r.past_claims:sub(-CLAIM_LENGTH)
      r.past_claims = r.past_claims:sub(1, -CLAIM_LENGTH - 1)
    end
  end

  function record.is_past_claim(r, claim)
    for position = 1, #r.past_claims, CLAIM_LENGTH do
      if r.past_claims:sub(position, position + CLAIM_LENGTH - 1) == claim then
        return true
      end
    end
    return false
  end

  -- Whether the lease is over; nil where that cannot be told. `clock_step` is '' or 'at_ms:moved_ms': leases from before the last
  -- step of the clock end so much later. `clock_max_us`: later than this the clock can only be if it has stepped, or if this
  -- script comes late; nil where the answer takes nothing from anybody.
  function record.lease_over(r, clock_step, clock_max_us)
    if r.state ~= 'in_progress' or record.now(r) < r.lease_expires_at then
      return false
    elseif clock_max_us and clock.now_us > clock_max_us then
      return nil
    end
    local at_ms, moved_ms = clock_step:match('^(%d+):(%d+)$')
    return not at_ms or r.updated_at > tonumber(at_ms) or record.now(r) >= r.lease_expires_at + tonumber(moved_ms)
  end

  -- Settles a silent holder as its policy says. Changes only the table.
  function record.lapse(r)
    r.state = r.policy == 'hold' and 'uncertain' or 'released'
    r.doubt = true
    r.ended = 'lease'
    record.retire_claim(r)
    record.step(r, 'lease_expired', r.owner, r.state)
  end

  -- A report of a grant that the store has lost. `lost` is '' unless the token is from before the last change of the server
  -- and came with its reference; else JSON: by, retention_ms, lease_ms, durability, entity. Answers nil where nothing was
  -- lost, the record where it has settled without that grant, else the record of that grant as far as it is known.
  function record.recover(r, token, lost, call)
    if lost == '' or (r and token <= r.token) then
      return nil
    elseif r and (r.state == 'completed' or r.state == 'failed') then
      return r
    end
    local known = cjson.decode(lost)
    if r and r.state ~= 'deleted' then
      r.earlier_doubt = r.earlier_doubt or r.doubt or r.state == 'in_progress'
      record.retire_claim(r)
    else
      -- Whatever it was granted with: under hold nobody gets it silently.
      local fresh = record.new()
      fresh.past_claims = r and r.past_claims or ''
      fresh.retention_ms, fresh.lease_ms = known.retention_ms, known.lease_ms
      fresh.durability, fresh.entity = known.durability, known.entity
      fresh.created_at = math.floor(token / 1000)
      r = fresh
    end
    r.state, r.token, r.attempt, r.claimed_at = 'in_progress', token, r.attempt + 1, math.floor(token / 1000)
    r.owner, r.claim, r.doubt, r.ended, r.body, r.not_before = '', '', false, '', '', 0
    r.lease_expires_at = record.now(r) + r.lease_ms
    record.step(r, 'recovered', known.by, call)
    return r
  end

  -- What a reply tells of a record: fields in the order that src/effects/scripts.ts decodes.
  function record.fields(r)
    return {
      r.state, r.policy, r.doubt and 1 or 0, r.earlier_doubt and 1 or 0, r.attempt, r.token,
      r.created_at, r.updated_at, r.claimed_at, r.lease_expires_at, r.not_before, r.lease_ms, r.retention_ms,
      r.owner, r.ended, r.fingerprint, r.job_type, r.durability, r.metadata, r.entity, r.body,
    }
  end
end
