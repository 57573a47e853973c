-- The event stream of a namespace. It keeps the newest 10,000 events, and up to a hundred more: Redis drops whole nodes.
local event = {}
do
  -- limits.eventsKept
  local EVENTS_KEPT = 10000

  -- `data` is a JSON object, '{}' at the least; `age_ms`, 0 if absent, is how long ago it happened. Returns the entry's id.
  function event.add(stream, name, data, age_ms)
    local at_ms = clock.now_ms - math.floor(age_ms or 0)
    local fields = { 'event', name, 'at', string.format('%.0f', at_ms), 'data', data }
    return redis.call('XADD', stream, 'MAXLEN', '~', EVENTS_KEPT, '*', unpack(fields))
  end
end
