-- The audit of a namespace: a stream whose ids are the sequence numbers, each entry chained to the one before by SHA-256.
local audit = {}
do
  -- SHA-256 (FIPS 180-4) over the `bit` library, for Redis offers its scripts SHA-1 only. Measured: 45 µs for each 64
  -- bytes, so what may be long comes as a digest.
  local band, bxor, ror, rshift, tobit = bit.band, bit.bxor, bit.ror, bit.rshift, bit.tobit
  local K, H = {}, {}

  -- The constants are the first 32 bits of the fractions of the cube and square roots of the first primes.
  local function fraction(root)
    return math.floor((root - math.floor(root)) * 4294967296)
  end

  local candidate = 2
  while #K < 64 do
    local prime = true
    for divisor = 2, math.floor(math.sqrt(candidate)) do
      prime = prime and candidate % divisor ~= 0
    end
    if prime then
      K[#K + 1] = fraction(candidate ^ (1 / 3))
      H[#K] = #K <= 8 and fraction(math.sqrt(candidate)) or nil
    end
    candidate = candidate + 1
  end

  local function schedule(text, at)
    local w = {}
    for i = 1, 16 do
      local a, b, c, d = text:byte(at + 4 * i - 4, at + 4 * i - 1)
      w[i] = ((a * 256 + b) * 256 + c) * 256 + d
    end
    for i = 17, 64 do
      local x, y = w[i - 15], w[i - 2]
      local s0, s1 = bxor(ror(x, 7), ror(x, 18), rshift(x, 3)), bxor(ror(y, 17), ror(y, 19), rshift(y, 10))
      w[i] = tobit(w[i - 16] + s0 + w[i - 7] + s1)
    end
    return w
  end

  local function compress(state, w)
    local a, b, c, d, e, f, g, h = unpack(state)
    for i = 1, 64 do
      local t1 = h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(g, band(e, bxor(f, g))) + K[i] + w[i]
      local t2 = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + band(a, b) + band(c, bxor(a, b))
      h, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + t2)
    end
    for i, part in ipairs({ a, b, c, d, e, f, g, h }) do
      state[i] = tobit(state[i] + part)
    end
  end

  -- 64 hex digits. `text` is shorter than 2^29 bytes.
  local function sha256_hex(text)
    local padding = string.char(128) .. string.rep('\0', (55 - #text) % 64) .. '\0\0\0\0'
    local bits = #text * 8
    local length = string.char(
      math.floor(bits / 16777216) % 256,
      math.floor(bits / 65536) % 256,
      math.floor(bits / 256) % 256,
      bits % 256
    )
    local padded = text .. padding .. length
    local state = { unpack(H) }
    for at = 1, #padded, 64 do
      compress(state, schedule(padded, at))
    end
    for i = 1, 8 do
      state[i] = bit.tohex(state[i])
    end
    return table.concat(state)
  end

  -- Days since 1970 as a date of the Gregorian calendar. A year begins in March here, so that a leap day is its last.
  -- Source: Howard Hinnant, chrono-Compatible Low-Level Date Algorithms, civil_from_days.
  local function date(days)
    local floor = math.floor
    local since = days + 719468
    local era = floor(since / 146097)
    local day_of_era = since - era * 146097
    local leaps = floor(day_of_era / 1460) - floor(day_of_era / 36524) + floor(day_of_era / 146096)
    local year = floor((day_of_era - leaps) / 365)
    local day_of_year = day_of_era - (365 * year + floor(year / 4) - floor(year / 100))
    local month = floor((5 * day_of_year + 2) / 153)
    local day = day_of_year - floor((153 * month + 2) / 5) + 1
    return year + era * 400 + (month < 10 and 0 or 1), month < 10 and month + 3 or month - 9, day
  end

  -- Milliseconds as the contract writes an instant, for states: RFC 3339, UTC, milliseconds. Redis offers scripts no os.date.
  function audit.instant(ms)
    local seconds = math.floor(ms / 1000)
    local days = math.floor(seconds / 86400)
    local year, month, day = date(days)
    local of_day = seconds - days * 86400
    local hour, minute = math.floor(of_day / 3600), math.floor(of_day / 60) % 60
    local text = '%04d-%02d-%02dT%02d:%02d:%02d.%03dZ'
    return text:format(year, month, day, hour, minute, of_day % 60, ms - seconds * 1000)
  end

  local GENESIS = string.rep('0', 64)
  -- limits.auditNonceMs
  local NONCE_MS = 120000
  -- limits.auditChainedBytesMax
  local CHAINED_MAX = 256
  local TRIM_MAX = 100

  -- What stands for a state in the chain: the text itself if it is short, else its digest (`digest` if known already).
  local function chained(text, digest)
    if #text <= CHAINED_MAX then
      return text
    end
    return digest or sha256_hex(text)
  end

  -- Keeps the newest entries; of many too many (the bound was lowered) some with each append. Returns how many went.
  local function trim(log, entries_max)
    local over = redis.call('XLEN', log) - entries_max
    if over <= 0 then
      return 0
    elseif over <= TRIM_MAX then
      return redis.call('XTRIM', log, 'MAXLEN', '=', entries_max)
    end
    return redis.call('XTRIM', log, 'MAXLEN', '~', entries_max, 'LIMIT', TRIM_MAX)
  end

  -- The entry that this nonce has appended already, as audit.append returned it, or nil.
  function audit.appended(keys)
    local seq = redis.call('GET', keys.nonce)
    local found = seq and redis.call('XRANGE', keys.log, seq, seq)[1]
    if not found then
      return nil
    end
    local by_name = {}
    for i = 1, #found[2], 2 do
      by_name[found[2][i]] = found[2][i + 1]
    end
    return { seq, by_name.at, by_name.previous_hash, by_name.hash, by_name.before, by_name.after }
  end

  -- Appends one entry, once for each nonce. `keys`: log, head, nonce. `entry`: action, subject, user, on_behalf_of, reason,
  -- evidence ('' for none), statement (their digest), entries_max; before and after (JSON or ''; at most 256 bytes each, so
  -- that the chain costs less than 1 ms), or longer with before_digest and after_digest.
  -- Returns seq, at (ms), previous_hash, hash, before, after: all text.
  function audit.append(keys, entry)
    local repeated = audit.appended(keys)
    if repeated then
      return repeated
    end
    local last = redis.call('HMGET', keys.head, 'seq', 'at', 'hash')
    local seq = string.format('%.0f', (tonumber(last[1]) or 0) + 1)
    local at = string.format('%.0f', math.max(clock.now_ms, tonumber(last[2]) or 0))
    local previous_hash = last[3] or GENESIS
    local before, after = entry.before or '', entry.after or ''
    local states = chained(before, entry.before_digest) .. '\n' .. chained(after, entry.after_digest)
    local hash = sha256_hex(table.concat({ previous_hash, seq, at, entry.statement, states }, '\n'))
    local what = { 'at', at, 'action', entry.action, 'subject', entry.subject, 'user', entry.user }
    local why = { 'on_behalf_of', entry.on_behalf_of, 'reason', entry.reason, 'evidence', entry.evidence }
    local states_said = { 'before', before, 'after', after, 'previous_hash', previous_hash, 'hash', hash }
    local fields = {}
    for _, part in ipairs({ what, why, states_said }) do
      for _, text in ipairs(part) do
        fields[#fields + 1] = text
      end
    end
    -- First, since it alone can fail: where the head has been set back by hand.
    redis.call('XADD', keys.log, seq, unpack(fields))
    redis.call('HSET', keys.head, 'seq', seq, 'at', at, 'hash', hash)
    redis.call('HINCRBY', keys.head, 'trimmed', trim(keys.log, tonumber(entry.entries_max)))
    redis.call('SET', keys.nonce, seq, 'PX', NONCE_MS)
    return { seq, at, previous_hash, hash, before, after }
  end
end
