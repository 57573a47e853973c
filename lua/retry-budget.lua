-- Purpose: whether a retry now would be over the budget of the fleet.
-- KEYS: budget
-- ARGV: slice_ms, ratio, spare (retries)
-- Replies: status, now_us — spent, left
-- Never: writes.
local budget = KEYS[1]
local slice_ms, ratio, spare = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local spent = retry.is_spent(retry.load_budget(budget, slice_ms), ratio, spare)
return { spent and 'spent' or 'left', clock.now_us }
