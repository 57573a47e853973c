-- Purpose: reads a breaker as of now; whoever looks first at one whose time is over writes that transition.
-- KEYS: breaker, reports, owners, permits, history, index, events
-- ARGV: settings (JSON)
-- Replies: status, now_us, breaker — known, unknown (nothing is remembered of this job type)
-- Never: changes anything but what the clock alone decides.
local keys = { breaker = KEYS[1], reports = KEYS[2], owners = KEYS[3], permits = KEYS[4],
  history = KEYS[5], index = KEYS[6], events = KEYS[7] }
local settings = ARGV[1]

local b = breaker.load(keys, settings)
breaker.save(b, event.add)
if b.new then
  redis.call('ZREM', keys.index, b.settings.job_type) -- it was forgotten after idle_ms
end
return { b.new and 'unknown' or 'known', clock.now_us, breaker.reply(b) }
