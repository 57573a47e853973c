-- Purpose: counts a slice of one bucket's index by effect type and state.
-- KEYS: inflight
-- ARGV: offset, count
-- Replies: status, now_us, scanned, counts — counted; counts is type, state, number, one after the other
-- Never: writes, or looks at more than count entries.
local inflight = KEYS[1]
local offset, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local UNCERTAIN_SCORE = 1e15

local found = redis.call('ZRANGE', inflight, offset, offset + count - 1, 'WITHSCORES')
local totals, counts = { in_progress = {}, uncertain = {} }, {}
for position = 1, #found, 2 do
  local of_state = tonumber(found[position + 1]) >= UNCERTAIN_SCORE and totals.uncertain or totals.in_progress
  local type_name = found[position]:match('^[^.]+')
  of_state[type_name] = (of_state[type_name] or 0) + 1
end
for state, by_type in pairs(totals) do
  for type_name, number in pairs(by_type) do
    counts[#counts + 1] = type_name
    counts[#counts + 1] = state
    counts[#counts + 1] = number
  end
end
return { 'counted', clock.now_us, #found / 2, counts }
