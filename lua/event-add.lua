-- Purpose: writes events that the service noticed itself into the stream of a namespace, once each.
-- KEYS: events, sender (the number of the last event that this sender has written)
-- ARGV: entries (JSON: a list of [number, name, data, age_ms]), sender_ms
-- Replies: status, now_us — written
-- Never: writes an event of this sender again after a lost reply.
local events, sender = KEYS[1], KEYS[2]
local entries, sender_ms = ARGV[1], ARGV[2]

local last = tonumber(redis.call('GET', sender) or 0)
for _, entry in ipairs(cjson.decode(entries)) do
  local number, name, data, age_ms = unpack(entry)
  if number > last then
    event.add(events, name, data, age_ms)
    last = number
  end
end
redis.call('SET', sender, string.format('%.0f', last), 'PX', sender_ms)
return { 'written', clock.now_us }
