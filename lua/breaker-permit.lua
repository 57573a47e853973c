-- Purpose: extends a living permit, or gives it back.
-- KEYS: permits
-- ARGV: permit, extend_ms (0 gives it back)
-- Replies: status, now_us — extended, given_back, gone (it was not alive)
-- Never: revives a permit that has ended, or shortens one.
local permits = KEYS[1]
local permit, extend_ms = ARGV[1], tonumber(ARGV[2])

local expiry = redis.call('ZSCORE', permits, permit)
if not expiry or tonumber(expiry) <= clock.now_ms then
  return { 'gone', clock.now_us }
elseif extend_ms == 0 then
  redis.call('ZREM', permits, permit)
  return { 'given_back', clock.now_us }
end
redis.call('ZADD', permits, 'GT', string.format('%.0f', clock.now_ms + extend_ms), permit)
local last = redis.call('ZREVRANGE', permits, 0, 0, 'WITHSCORES')
redis.call('PEXPIRE', permits, string.format('%.0f', last[2] - clock.now_ms))
return { 'extended', clock.now_us }
