-- The record of one effect: one packed string. This file writes it; src/effects/record.ts reads what replies tell of it, and
-- nothing else knows its layout.
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
--   ended             how the last attempt ended, or what was decided since: '' | lease | release | complete | exhausted | fail:… |
--                     resolve:… | delete:… (with a digest that tells a repeat of the call); complete and fail:… with '+' at the
--                     end where that report was the first that this store heard of the attempt
--   fingerprint, job_type, durability, metadata, entity
--   body              result (completed) or error (else), opaque bytes
--   history           packed steps, oldest first
--   stored            the record as Redis has it; nil where the table is ahead of it
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
  local CLAIM_UNKNOWN = (' '):rep(CLAIM_LENGTH) -- of a grant that the store has lost: no digest is like it
  -- limits.claimIdsRemembered
  local CLAIMS_REMEMBERED = 8
  -- limits.historyStepsMax
  local STEPS_MAX = 20
  local UNCERTAIN_SCORE = 1e15 -- above every lease: uncertain effects stand behind those in progress
  local NOW = string.format(' %.0f ', clock.now_us)

  -- Whole numbers as Redis takes them, each written once a call: many records of one call have the same times.
  local digits = setmetatable({}, {
    __index = function(known, number)
      local text = string.format('%.0f', number)
      known[number] = text
      return text
    end,
  })

  local STATES = { 'in_progress', 'completed', 'failed', 'released', 'uncertain', 'deleted' }
  local CODES = { in_progress = 1, completed = 2, failed = 3, released = 4, uncertain = 5, deleted = 6 }

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

  -- Most claims are the first of their effect, and most reports complete what is held: these two go from bytes to bytes, since
  -- by way of the table they took Redis 4 µs more, a third of all.

  -- The first grant of an effect, in progress.
  function record.encode_first(token, terms, owner, claim, fingerprint, metadata, entity)
    local now, job_type, durability, rare = clock.now_ms, terms.job_type, terms.durability, ''
    local flags = terms.policy == 'reclaim' and OPEN_FLAG + 1 or OPEN_FLAG
    if job_type ~= '' or durability ~= 'primary' or metadata ~= '' then
      flags = flags + RARE_FLAG
      rare = struct.pack(RARE, 0, '', #job_type, job_type, #durability, durability, #metadata, metadata, 0, '')
    end
    return struct.pack(
      ALWAYS .. OPEN, VERSION, CODES.in_progress, flags, 1, token, now, now, terms.lease_ms, terms.retention_ms,
      #owner, owner, #claim, claim, 0, '', #fingerprint, fingerprint, now, now + terms.lease_ms, 0, #entity, entity
    ) .. rare
  end

  -- What is held with `token` by a living lease, as its holder completes it, without the result; nil where there is more to it.
  -- Answers besides when it may vanish.
  local function encode_completed(packed, token)
    local version, code, flags, attempt, held, created_at, updated_at, lease_ms, retention_ms,
    owner, claim, _, fingerprint, at = struct.unpack(ALWAYS, packed)
    local plain = flags == OPEN_FLAG or flags == OPEN_FLAG + 1
    if version ~= VERSION or code ~= CODES.in_progress or held ~= token or not plain then
      return nil
    end
    local claimed_at, lease_expires_at, not_before = struct.unpack(OPEN, packed, at)
    local now = math.max(clock.now_ms, updated_at)
    if now >= lease_expires_at or not_before ~= 0 or claimed_at ~= granted_at(token) then
      return nil
    end
    return struct.pack(
      ALWAYS, VERSION, CODES.completed, flags - OPEN_FLAG, attempt, token, created_at, now, lease_ms, retention_ms,
      #owner, owner, #claim, claim, 1, 'c', #fingerprint, fingerprint
    ), now + retention_ms
  end

  function record.decode(packed)
    assert(packed:byte(1) == VERSION, 'a record of another version')
    local _, code, flags, attempt, token, created_at, updated_at, lease_ms, retention_ms,
    owner, claim, ended, fingerprint, at = struct.unpack(ALWAYS, packed)
    local claimed_at, lease_expires_at, not_before, entity = granted_at(token), 0, 0, ''
    if flags % RARE_FLAG >= OPEN_FLAG then
      claimed_at, lease_expires_at, not_before, entity, at = struct.unpack(OPEN, packed, at)
    end
    local past_claims, job_type, durability, metadata, history = '', '', 'primary', '', ''
    if flags >= RARE_FLAG then
      past_claims, job_type, durability, metadata, history, at = struct.unpack(RARE, packed, at)
    end
    return {
      state = STATES[code], policy = flags % 2 == 1 and 'reclaim' or 'hold',
      doubt = flags % 4 >= 2, earlier_doubt = flags % 8 >= 4, waited = flags % 16 >= 8,
      attempt = attempt, token = token,
      created_at = created_at, updated_at = updated_at, claimed_at = claimed_at, lease_expires_at = lease_expires_at,
      not_before = not_before, lease_ms = lease_ms, retention_ms = retention_ms, owner = owner, claim = claim,
      past_claims = past_claims, ended = ended == 'c' and 'complete' or ended, fingerprint = fingerprint,
      job_type = job_type, durability = durability, metadata = metadata, entity = entity, body = packed:sub(at),
      history = history, stored = packed,
    }
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
      r.stored = record.encode(r)
      redis.call('SET', key, r.stored)
    end
  end

  -- Tells those who wait, in every process of the service, which record is no longer in progress; the last thing that a
  -- script does. Whoever may not publish has written all the same: those who wait ask again when the lease would end.
  local function wake(key)
    redis.pcall('PUBLISH', key:match('^[^{]*') .. 'wake', key)
  end

  -- Writes the first grant of an effect and its index entry. Answers what is there already.
  function record.write_first(packed, key, inflight, effect_id, lease_expires_at)
    local known = redis.call('SET', key, packed, 'NX', 'GET')
    if not known then
      redis.call('ZADD', inflight, digits[lease_expires_at], effect_id)
    end
    return known
  end

  -- The same of an effect that is reported when it has happened already.
  function record.write_new(r, key)
    r.stored = record.encode(r)
    return redis.call('SET', key, r.stored, 'NX', 'GET', 'PXAT', digits[r.updated_at + r.retention_ms])
  end

  local function write_settled(packed, vanishes_at, key, inflight, effect_id)
    redis.call('SET', key, packed, 'PXAT', digits[vanishes_at])
    redis.call('ZREM', inflight, effect_id)
  end

  -- Completes what is held with `token` by a living lease and has no other story. Answers the record without its result, or
  -- nil where this is not so.
  function record.complete(packed, token, result, key, inflight, effect_id)
    local completed, vanishes_at = encode_completed(packed, token)
    if completed then
      write_settled(completed .. result, vanishes_at, key, inflight, effect_id)
    end
    return completed
  end

  -- Writes a record and its index entry. Only settled, released and deleted records may vanish by themselves.
  function record.write(r, key, inflight, effect_id)
    local woken = r.waited and r.state ~= 'in_progress'
    r.waited = r.waited and not woken
    r.updated_at = record.now(r)
    local packed = record.encode(r)
    r.stored = packed
    if r.state == 'in_progress' then
      redis.call('SET', key, packed)
      redis.call('ZADD', inflight, digits[r.lease_expires_at], effect_id)
    elseif r.state == 'uncertain' then
      redis.call('SET', key, packed)
      redis.call('ZADD', inflight, digits[UNCERTAIN_SCORE + r.updated_at], effect_id)
    else
      write_settled(packed, r.updated_at + r.retention_ms, key, inflight, effect_id)
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
    r.stored = nil
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
    r.owner, r.claim, r.doubt, r.ended, r.body, r.not_before, r.stored = '', CLAIM_UNKNOWN, false, '', '', 0, nil
    r.lease_expires_at = record.now(r) + r.lease_ms
    record.step(r, 'recovered', known.by, call)
    return r
  end

  -- What a script answers, in one string: its word, `notes` (',lapsed' and the like, or none), the clock, and the bytes of the
  -- record, or none; readReply of src/redis/scripts.ts. As a list of fields it took Redis 3 µs, and ioredis longer.
  function record.tell(word, packed, notes)
    return word .. (notes or '') .. NOW .. (packed or '')
  end

  function record.reply(word, r, notes)
    return record.tell(word, r.stored or record.encode(r), notes)
  end

  -- The same without the body, to whoever has just sent it.
  function record.receipt(word, r, notes)
    return record.tell(word, r.stored:sub(1, -1 - #r.body), notes)
  end
end
