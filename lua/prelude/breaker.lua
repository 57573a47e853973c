-- The circuit breaker of one job type. Only this file knows its layout; times are Redis milliseconds, 0 for "none".
--
-- A breaker in Lua is a table `b`: its `keys`, its `settings` (from the configuration), and its state `r`:
--   seq            place in the order of all changes of the namespace's breakers, microseconds
--   state          closed | open | half_open
--   version        +1 with each transition
--   since          only later failures count, microseconds: the last closing
--   opened_at      0 while closed;  last_opened  stays
--   reason         word for why it is not closed
--   forced         a person opened it
--   ends_at        when open becomes half_open by itself
--   hold_until     nothing goes before, because the exchange named a time
--   successes      of probes in this half-open time
--   seen           digests of the last events that are not in reports, 22 characters each, oldest first
--   override       {user, on_behalf_of, reason, action, at, expires_at} of the last person, or absent
-- Beside it stand sorted sets that expire: reports (failures that counted, also before the last closing: event ->
-- microseconds, the newest failures_kept), owners (owner -> its newest failure, as many as min_distinct_owners needs) and
-- permits (-> expiry).
local breaker = {}
do
  local EVENT_LENGTH = 22
  local EVENT_NAMES = { closed = 'breaker.closed', open = 'breaker.opened', half_open = 'breaker.half_opened' }

  local function fresh()
    return {
      seq = 0, state = 'closed', version = 0, since = 0, opened_at = 0, last_opened = 0, reason = '', forced = false,
      ends_at = 0, hold_until = 0, successes = 0, seen = '',
    }
  end

  local function exact(number)
    return string.format('%.0f', number)
  end

  -- The state as stored, or nil.
  function breaker.read(key)
    local packed = redis.call('GET', key)
    return packed and cmsgpack.unpack(packed)
  end

  -- When the newest failure was counted; later than now where the clock has stepped back, as with a new primary.
  local function newest_failure(keys)
    local newest = redis.call('ZREVRANGE', keys.reports, 0, 0, 'WITHSCORES')
    return tonumber(newest[2] or 0)
  end

  -- What a transition says, in the history and to listeners.
  local function told(b, from, cause, at, extra)
    local entry = { at = at, from = from, to = b.r.state, version = b.r.version, cause = cause }
    for name, value in pairs(extra) do
      entry[name] = value ~= '' and value or nil
    end
    return entry
  end

  -- A transition: version +1, a line of history, an event; the permits of a half-open time that is over end with it.
  -- `cause` is a word. `act` is what a person did: {user, on_behalf_of, reason, action}, else nil.
  function breaker.move(b, to, cause, at, act)
    local r, from = b.r, b.r.state
    r.state, r.version, r.successes, r.ends_at = to, r.version + 1, 0, 0
    r.forced = to == 'open' and act ~= nil
    r.reason = to == 'closed' and '' or cause
    if to == 'closed' then
      r.since, r.opened_at = math.max(b.now_us, newest_failure(b.keys)), 0
    elseif to == 'open' and from ~= 'open' then
      r.opened_at, r.last_opened = at, at
    end
    local entry = told(b, from, cause, at, act or {})
    b.history[#b.history + 1] = entry
    if from ~= to then
      b.told[#b.told + 1] = { EVENT_NAMES[to], entry, at }
    end
    if act then
      b.told[#b.told + 1] = { 'breaker.overridden', entry, at }
    end
    b.changed, b.permits_ended = true, true
  end

  -- Reads the breaker as of now: an open one whose time is over becomes half_open here.
  function breaker.load(keys, settings)
    local stored = breaker.read(keys.breaker)
    local r = stored or fresh()
    local b = { keys = keys, settings = cjson.decode(settings), r = r, new = not stored, history = {}, told = {} }
    b.now_us = math.max(clock.now_us, r.since + 1)
    if r.state == 'open' and r.ends_at > 0 and clock.now_ms >= r.ends_at then
      breaker.move(b, 'half_open', r.forced and 'override_expired' or 'auto_recovery', r.ends_at)
    end
    return b
  end

  -- Whether this event was counted already.
  function breaker.known(b, event_id)
    local seen = b.r.seen
    for at = 1, #seen, EVENT_LENGTH do
      if seen:sub(at, at + EVENT_LENGTH - 1) == event_id then
        return true
      end
    end
    return redis.call('ZSCORE', b.keys.reports, event_id) ~= false
  end

  function breaker.remember(b, event_id)
    b.r.seen = (b.r.seen .. event_id):sub(-EVENT_LENGTH * b.settings.events_remembered)
    b.changed = true
  end

  -- Microseconds after which a failure is in the window, as ZCOUNT takes it.
  local function window_start(b)
    return '(' .. exact(math.max(b.r.since, b.now_us - b.settings.window_ms * 1000))
  end

  -- Failures in the window.
  function breaker.failures(b)
    return redis.call('ZCOUNT', b.keys.reports, window_start(b), '+inf')
  end

  -- Counts a failure of a closed breaker, and opens it where that is one too many.
  function breaker.count(b, event_id, owner)
    local settings, start = b.settings, window_start(b)
    local failures = redis.call('ZCOUNT', b.keys.reports, start, '+inf') + 1
    local owners = redis.call('ZCOUNT', b.keys.owners, start, '+inf')
    local last = tonumber(redis.call('ZSCORE', b.keys.owners, owner) or 0)
    if last <= tonumber(start:sub(2)) then
      owners = owners + 1
    end
    b.failure = { event_id, owner }
    b.changed = b.changed or b.new
    if failures >= settings.failure_threshold and owners >= settings.min_distinct_owners then
      breaker.open(b, 'failure_threshold')
    end
  end

  function breaker.open(b, cause)
    breaker.move(b, 'open', cause, clock.now_ms)
    b.r.ends_at = b.settings.auto_recovery_ms > 0 and clock.now_ms + b.settings.auto_recovery_ms or 0
  end

  -- Whether this permit is alive.
  function breaker.permitted(b, permit)
    local expiry = not b.permits_ended and redis.call('ZSCORE', b.keys.permits, permit)
    return expiry and tonumber(expiry) > clock.now_ms
  end

  -- Living permits.
  function breaker.permits(b)
    return b.permits_ended and 0 or redis.call('ZCOUNT', b.keys.permits, '(' .. exact(clock.now_ms), '+inf')
  end

  -- Why nothing goes at all, or nil.
  function breaker.refusal(b)
    local r = b.r
    if r.state == 'open' then
      return r.forced and 'forced_open' or 'open'
    end
    return r.hold_until > clock.now_ms and 'hold' or nil
  end

  local function save_failure(b)
    local keys, settings, at = b.keys, b.settings, exact(b.now_us)
    local kept_ms = math.max(settings.window_ms, settings.events_ms)
    redis.call('ZADD', keys.reports, at, b.failure[1])
    redis.call('ZREMRANGEBYSCORE', keys.reports, '-inf', exact(b.now_us - kept_ms * 1000))
    redis.call('ZREMRANGEBYRANK', keys.reports, 0, -settings.failures_kept - 1)
    redis.call('ZADD', keys.owners, at, b.failure[2])
    redis.call('ZREMRANGEBYRANK', keys.owners, 0, -settings.min_distinct_owners - 1)
    redis.call('PEXPIRE', keys.reports, exact(kept_ms))
    redis.call('PEXPIRE', keys.owners, exact(settings.window_ms))
  end

  local function save_history(b)
    for _, entry in ipairs(b.history) do
      redis.call('LPUSH', b.keys.history, cjson.encode(entry))
    end
    redis.call('LTRIM', b.keys.history, 0, b.settings.history_max - 1)
  end

  -- A closed breaker that nothing happens to is forgotten after `idle_ms`; one that is not closed never is.
  local function save_state(b)
    local keys, idle_ms = b.keys, exact(b.settings.idle_ms)
    local top = redis.call('ZREVRANGE', keys.index, 0, 0, 'WITHSCORES')
    b.r.seq = math.max(clock.now_us, tonumber(top[2] or 0) + 1)
    redis.call('ZADD', keys.index, exact(b.r.seq), b.settings.job_type)
    if b.r.state == 'closed' then
      redis.call('SET', keys.breaker, cmsgpack.pack(b.r), 'PX', idle_ms)
      redis.call('PEXPIRE', keys.history, idle_ms)
    else
      redis.call('SET', keys.breaker, cmsgpack.pack(b.r))
      redis.call('PERSIST', keys.history)
    end
  end

  -- Writes what has changed, and nothing where nothing has. `add_event` is event.add.
  function breaker.save(b, add_event)
    if b.permits_ended then
      redis.call('DEL', b.keys.permits)
    end
    if b.failure then
      save_failure(b)
    end
    if #b.history > 0 then
      save_history(b)
    end
    if b.changed then
      save_state(b)
    end
    for _, said in ipairs(b.told) do
      local name, facts, at = unpack(said)
      facts.job_type, facts.failure_count, facts.at = b.settings.job_type, breaker.failures(b), nil
      add_event(b.keys.events, name, cjson.encode(facts), clock.now_ms - at)
    end
  end

  -- The state as replies carry it.
  function breaker.fields(r)
    local override = r.override and cjson.encode(r.override) or ''
    local forced = r.forced and 1 or 0
    return { r.seq, r.state, r.version, r.opened_at, r.reason, forced, r.ends_at, r.hold_until, override }
  end

  -- The breaker after a script: its state, the failures in its window, and the events that were written.
  function breaker.reply(b)
    local events = {}
    for position, said in ipairs(b.told) do
      events[position] = { said[1], cjson.encode(said[2]) }
    end
    return { breaker.fields(b.r), breaker.failures(b), events }
  end
end
