-- Purpose: counts the outcome of a job: a failure in the window of a closed breaker, or what a probe of a half-open one found.
-- KEYS: breaker, reports, owners, permits, history, index, events
-- ARGV: settings (JSON), outcome (success or failure), permit ('' for none), event_id, owner, counts ('1' or ''), hold_ms, begun_us
-- Replies: status, now_us, breaker — counted, ignored
-- Never: counts an event twice, anything while open, or in half open without a living permit.
local keys = { breaker = KEYS[1], reports = KEYS[2], owners = KEYS[3], permits = KEYS[4],
  history = KEYS[5], index = KEYS[6], events = KEYS[7] }
local settings, outcome, permit, event_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local owner, counts, hold_ms, begun_us = ARGV[5], ARGV[6] == '1', tonumber(ARGV[7]), tonumber(ARGV[8])

local b = breaker.load(keys, settings)
local r = b.r
local probe, counted = false, false
if b.settings.mode ~= 'disabled' and not breaker.known(b, event_id) then
  if hold_ms > 0 then
    r.hold_until = math.max(r.hold_until, clock.now_ms + hold_ms)
    breaker.remember(b, event_id)
  end
  if r.state == 'half_open' then
    probe = permit ~= '' and breaker.permitted(b, permit)
    counted = probe and (outcome == 'success' or counts)
    if counted and hold_ms == 0 then
      breaker.remember(b, event_id)
    end
    if counted and outcome == 'failure' then
      breaker.open(b, 'probe_failed')
    elseif counted then
      r.successes = r.successes + 1
      if r.successes >= b.settings.half_open_successes then
        breaker.move(b, 'closed', 'probes_succeeded', clock.now_ms)
      end
    end
  elseif r.state == 'closed' and outcome == 'failure' and counts then
    -- A job that began before the last opening says nothing about now.
    counted = begun_us == 0 or math.floor(begun_us / 1000) >= r.last_opened
    if counted then
      breaker.count(b, event_id, owner)
    end
  end
end

breaker.save(b, event.add)
if probe and not b.permits_ended then
  redis.call('ZREM', keys.permits, permit)
end
return { counted and 'counted' or 'ignored', clock.now_us, breaker.reply(b) }
