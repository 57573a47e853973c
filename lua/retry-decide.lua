-- Purpose: takes a retry from the budget of the fleet if one is wanted, and records the retry or the block, once.
-- KEYS: metrics (of the job type), other_metrics (of all beyond the bound), job_types, seen, budget
-- ARGV: job_type, job_types_max, with_metrics (1 or ''), slice_ms (of the budget; 0: none), ratio, spare (retries),
--   id (of this decision), remember_ms, first_id (of the first attempt that failed; '' if it was a later one), first_remember_ms,
--   reason (retry, or why there is none), attempt_number (of the retry)
-- Replies: status, now_us, reason — decided, repeated (this decision was made before: reason is what it was)
-- Never: lets two deciders take the same retry.
local metrics, other_metrics, job_types, seen, budget = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local job_type, job_types_max, with_metrics, slice_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local ratio, spare, id, remember_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local first_id, first_remember_ms, reason, attempt_number = ARGV[9], tonumber(ARGV[10]), ARGV[11], tonumber(ARGV[12])

local before = retry.seen(seen, id)
if before then
  return { 'repeated', clock.now_us, before }
end

if slice_ms > 0 then
  local loaded = retry.load_budget(budget, slice_ms)
  if first_id ~= '' and not retry.seen(seen, first_id) then
    retry.remember(seen, first_id, first_remember_ms, '')
    retry.add_to_budget(loaded, 1, 0)
  end
  if reason == 'retry' and retry.is_spent(loaded, ratio, spare) then
    reason = 'budget_exhausted'
  elseif reason == 'retry' then
    retry.add_to_budget(loaded, 0, 1)
  end
  retry.save_budget(budget, loaded)
end
retry.remember(seen, id, remember_ms, reason)
if with_metrics then
  local place = retry.place(job_types, metrics, other_metrics, job_type, job_types_max)
  local state = retry.load(place)
  retry.count(state, reason == 'retry' and 'attempt' or 'blocked', attempt_number, reason)
  retry.save(place, state)
end
return { 'decided', clock.now_us, reason }
