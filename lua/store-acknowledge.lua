-- Purpose: an operator has looked at a store that came back empty: claims of effects without a record are granted again.
-- KEYS: witness
-- ARGV: none
-- Replies: status, now_us — acknowledged, nothing_to_acknowledge
-- Never: ends the grace period after a change of primary, which ends by itself.
local witness = KEYS[1]

if (redis.call('HGET', witness, 'reset_us') or '0') == '0' then
  return { 'nothing_to_acknowledge', clock.now_us }
end
redis.call('HSET', witness, 'reset_us', '0')
return { 'acknowledged', clock.now_us }
