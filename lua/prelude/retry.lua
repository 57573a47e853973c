-- Retry metrics and budgets of a job type. Only this file knows how they are kept, and src/retries/window.ts how they are read.
--
-- The metrics are one hash. Its field `state` is JSON:
--   minute     the running minute since 1970
--   packed     the last minute that was packed
--   reasons    names of reasons; a place in the list never changes its name
--   now        counters of the running minute: attempts, numbers (sum of the attempt numbers), successes, failures, blocked {reason: n}
--   total      the same counters since the last reset
-- The fields c0 to c6 are a ring of chunks of 240 minutes: `<chunk>:` (minute / 240), then an entry for each minute in which
-- something happened. All of it is ASCII, so that no client has to know about binary replies. Measured, with something
-- of everything in each of 1,440 minutes: 11.7 KB a job type, 19 KB with 300 of everything a minute; 1 KB if seldom used.
local retry = {}
do
  local CHUNK_MINUTES, CHUNKS = 240, 7
  local SEEN_MAX, FORGET_MAX = 10000, 16
  local REASONS_MAX = 22 -- `other`, the five below, and sixteen of callers
  local SLICES = 10
  local OUTCOMES = {
    'retry', 'reconcile_first', 'not_retryable', 'attempts_exhausted', 'circuit_open', 'budget_exhausted',
  }
  local CODES = {}
  for code, outcome in ipairs(OUTCOMES) do
    CODES[outcome] = code
  end
  local minute_now = math.floor(clock.now_ms / 60000)

  -- Six bits a character, the lowest first; the seventh says that more follow.
  local function number(n)
    local text = ''
    while n > 63 do
      text = text .. string.char(64 + n % 64)
      n = math.floor(n / 64)
    end
    return text .. string.char(n)
  end

  local function counters()
    return { attempts = 0, numbers = 0, successes = 0, failures = 0, blocked = {} }
  end

  -- The reasons in the order of the list, place * 2 (+ 1 if another follows) and count.
  local function packed_reasons(state)
    local places = {}
    for place, reason in ipairs(state.reasons) do
      if state.now.blocked[reason] then
        places[#places + 1] = place
      end
    end
    local text = ''
    for at, place in ipairs(places) do
      text = text .. number(place * 2 + (at < #places and 1 or 0)) .. number(state.now.blocked[state.reasons[place]])
    end
    return text
  end

  -- A character that says which of these follow: minutes since the entry before if it is not 1, attempts and numbers,
  -- successes, failures, reasons. Empty for a minute in which nothing happened.
  local function entry(state, since)
    local now, reasons = state.now, packed_reasons(state)
    local head, body = 0, ''
    local function add(bit_value, present, text)
      if present then
        head, body = head + bit_value, body .. text
      end
    end
    add(2, now.attempts > 0, number(now.attempts) .. number(now.numbers))
    add(4, now.successes > 0, number(now.successes))
    add(8, now.failures > 0, number(now.failures))
    add(16, reasons ~= '', reasons)
    if head == 0 then
      return ''
    elseif since == 1 then
      return string.char(head) .. body
    end
    return string.char(head + 1) .. number(since) .. body
  end

  -- Packs the running minute once it is over. A clock that runs backwards stays in its minute.
  local function roll(metrics, state)
    if minute_now <= state.minute then
      return
    end
    local chunk = math.floor(state.minute / CHUNK_MINUTES)
    local since = state.minute - math.max(state.packed, chunk * CHUNK_MINUTES - 1)
    local packed = entry(state, since)
    if packed ~= '' then
      local field, mark = 'c' .. chunk % CHUNKS, string.format('%.0f:', chunk)
      local kept = redis.call('HGET', metrics, field)
      if not kept or kept:sub(1, #mark) ~= mark then
        kept = mark
      end
      redis.call('HSET', metrics, field, kept .. packed)
      state.packed = state.minute
    end
    state.minute, state.now = minute_now, counters()
  end

  -- The hash in which the job type is counted: its own, or, once `job_types_max` have one, that of all others. `job_types`
  -- is the set of those that have one.
  function retry.place(job_types, own, other, job_type, job_types_max)
    if redis.call('SISMEMBER', job_types, job_type) == 1 then
      return own
    elseif redis.call('SCARD', job_types) < job_types_max then
      redis.call('SADD', job_types, job_type)
      return own
    end
    redis.call('SADD', job_types, '_other')
    return other
  end

  function retry.load(metrics)
    local kept = redis.call('HGET', metrics, 'state')
    if not kept then
      local reasons = { 'other', unpack(OUTCOMES, 2) }
      return { minute = minute_now, packed = 0, reasons = reasons, now = counters(), total = counters() }
    end
    local state = cjson.decode(kept)
    roll(metrics, state)
    return state
  end

  function retry.save(metrics, state)
    redis.call('HSET', metrics, 'state', cjson.encode(state))
  end

  local function known_reason(state, reason)
    for _, known in ipairs(state.reasons) do
      if known == reason then
        return reason
      end
    end
    if #state.reasons >= REASONS_MAX then
      return 'other'
    end
    state.reasons[#state.reasons + 1] = reason
    return reason
  end

  -- Counts one event: attempt (with its number), success, failure, or blocked (with its reason).
  function retry.count(state, kind, attempt_number, reason)
    local word = kind == 'blocked' and known_reason(state, reason)
    for _, sum in ipairs({ state.now, state.total }) do
      if kind == 'attempt' then
        sum.attempts, sum.numbers = sum.attempts + 1, sum.numbers + attempt_number
      elseif kind == 'success' then
        sum.successes = sum.successes + 1
      elseif kind == 'failure' then
        sum.failures = sum.failures + 1
      elseif word then
        sum.blocked[word] = (sum.blocked[word] or 0) + 1
      end
    end
  end

  -- Events that were counted, in a sorted set: the score is when one is forgotten (ms) * 8, plus the code of a decision.
  -- Answers nil for one not seen, else the decision ('' for an event without one).
  function retry.seen(seen, id)
    local score = tonumber(redis.call('ZSCORE', seen, id) or nil)
    if not score or math.floor(score / 8) <= clock.now_ms then
      return nil
    end
    return OUTCOMES[score % 8] or ''
  end

  -- The newest 10,000 at most: those that would be forgotten first go first.
  function retry.remember(seen, id, remember_ms, outcome)
    local score = (clock.now_ms + remember_ms) * 8 + (CODES[outcome] or 0)
    redis.call('ZADD', seen, string.format('%.0f', score), id)
    local past = string.format('%.0f', clock.now_ms * 8)
    local forgotten = redis.call('ZRANGE', seen, '-inf', past, 'BYSCORE', 'LIMIT', 0, FORGET_MAX)
    if #forgotten > 0 then
      redis.call('ZREM', seen, unpack(forgotten))
    end
    local over = redis.call('ZCARD', seen) - SEEN_MAX
    if over > 0 then
      redis.call('ZREMRANGEBYRANK', seen, 0, math.min(over, FORGET_MAX) - 1)
    end
    if redis.call('PTTL', seen) < remember_ms then
      redis.call('PEXPIRE', seen, remember_ms)
    end
  end

  -- A budget: first attempts and retries in slices of a tenth of the window, JSON {slice_ms, slices {{slice, firsts, retries}}}.
  -- The window is the running slice and the ten before it, so no stretch as long as the window is left out.
  function retry.load_budget(budget, slice_ms)
    local kept = redis.call('GET', budget)
    local past = kept and cjson.decode(kept) or {}
    local loaded = { slice_ms = slice_ms, slices = {} }
    if past.slice_ms ~= slice_ms then
      return loaded
    end
    local oldest = math.floor(clock.now_ms / slice_ms) - SLICES
    for _, slice in ipairs(past.slices) do
      if slice[1] >= oldest then
        loaded.slices[#loaded.slices + 1] = slice
      end
    end
    return loaded
  end

  function retry.add_to_budget(loaded, firsts, retries)
    local running = math.floor(clock.now_ms / loaded.slice_ms)
    local last = loaded.slices[#loaded.slices]
    if not last or last[1] < running then
      last = { running, 0, 0 }
      loaded.slices[#loaded.slices + 1] = last
    end
    last[2], last[3] = last[2] + firsts, last[3] + retries
  end

  function retry.save_budget(budget, loaded)
    if #loaded.slices > 0 then
      redis.call('SET', budget, cjson.encode(loaded), 'PX', loaded.slice_ms * (SLICES + 2))
    end
  end

  -- Whether one retry more would be over `ratio` of the first attempts, plus `spare` (a thousandth of slack for fractions).
  function retry.is_spent(loaded, ratio, spare)
    local firsts, retries = 0, 0
    for _, slice in ipairs(loaded.slices) do
      firsts, retries = firsts + slice[2], retries + slice[3]
    end
    return retries + 1 > ratio * firsts + spare + 0.001
  end
end
