-- Purpose: settles a silent holder as its policy says, once: the caller who is told expired tells the world.
-- KEYS: effect, inflight
-- ARGV: effect_id, clock_step, clock_max_us
-- Replies: status, now_us, record — expired, current, or without record: gone, clock_unsure
-- Never: touches a lease that is alive now, whatever was read before.
local effect, inflight = KEYS[1], KEYS[2]
local effect_id, clock_step, clock_max_us = ARGV[1], ARGV[2], tonumber(ARGV[3])

local r = record.read(effect)
if not r then
  redis.call('ZREM', inflight, effect_id)
  return record.tell('gone')
end
local lapsed = record.lease_over(r, clock_step, clock_max_us)
if lapsed == nil then
  return record.tell('clock_unsure')
elseif not lapsed then
  return record.reply('current', r)
end
record.lapse(r)
record.write(r, effect, inflight, effect_id)
return record.reply('expired', r)
