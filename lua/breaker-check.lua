-- Purpose: may a job go now? While half open it takes a permit, or keeps the living one of this name.
-- KEYS: breaker, reports, owners, permits, history, index, events
-- ARGV: settings (JSON), permit, earlier (a permit that becomes this one, or ''), permit_ms
-- Replies: status, now_us, breaker, reason — allowed, refused; reason is a word
-- Never: lets more permits live at a time than half_open_max_probes, or shortens one.
local keys = { breaker = KEYS[1], reports = KEYS[2], owners = KEYS[3], permits = KEYS[4],
  history = KEYS[5], index = KEYS[6], events = KEYS[7] }
local settings, permit, earlier, permit_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local b = breaker.load(keys, settings)
local refusal = breaker.refusal(b)
local reason, taken = refusal or 'closed', false
if not refusal and b.r.state == 'half_open' then
  local own = breaker.permitted(b, permit) or (earlier ~= '' and breaker.permitted(b, earlier))
  taken = own or breaker.permits(b) < b.settings.half_open_max_probes
  reason = taken and 'probe' or 'no_probe_left'
end

breaker.save(b, event.add)
if taken then
  local expiry = string.format('%.0f', clock.now_ms + permit_ms)
  if earlier ~= '' and earlier ~= permit then
    redis.call('ZREM', keys.permits, earlier)
  end
  redis.call('ZREMRANGEBYSCORE', keys.permits, '-inf', string.format('%.0f', clock.now_ms))
  redis.call('ZADD', keys.permits, 'GT', expiry, permit)
  local last = redis.call('ZREVRANGE', keys.permits, 0, 0, 'WITHSCORES')
  redis.call('PEXPIRE', keys.permits, string.format('%.0f', last[2] - clock.now_ms))
end
local allowed = reason == 'closed' or reason == 'probe'
return { allowed and 'allowed' or 'refused', clock.now_us, breaker.reply(b), reason }
