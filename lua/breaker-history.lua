-- Purpose: reads transitions and overrides of a breaker, the newest first.
-- KEYS: history
-- ARGV: before (only versions below it are read; 0 for all), count
-- Replies: status, now_us, entries — page; an entry is JSON
-- Never: writes.
local history = KEYS[1]
local before, count = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Each version has one entry, so that a page's place is told by the difference of versions.
local newest = redis.call('LINDEX', history, 0)
local from = 0
if newest and before > 0 then
  from = math.max(0, cjson.decode(newest).version - before + 1)
end
return { 'page', clock.now_us, redis.call('LRANGE', history, from, from + count - 1) }
