-- Purpose: counts what happened to jobs of one type, each event once, for the metrics and the retry budget.
-- KEYS: metrics (of the job type), other_metrics (of all beyond the bound), job_types, seen, budget
-- ARGV: job_type, job_types_max, with_metrics (1 or ''), slice_ms (of the budget; 0: none),
--   events (JSON [[kind, attempt_number, reason, id, remember_ms]]; kind: attempt|success|failure|blocked|first_attempt)
-- Replies: status, now_us, counted — recorded; counted is the number of events that were new
-- Never: counts an event twice while it is remembered.
local metrics, other_metrics, job_types, seen, budget = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local job_type, job_types_max, with_metrics, slice_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local events = cjson.decode(ARGV[5])

local fresh = {}
for _, happened in ipairs(events) do
  if not retry.seen(seen, happened[4]) then
    retry.remember(seen, happened[4], happened[5], '')
    fresh[#fresh + 1] = happened
  end
end
if #fresh == 0 then
  return { 'recorded', clock.now_us, 0 }
end

if with_metrics then
  local place = retry.place(job_types, metrics, other_metrics, job_type, job_types_max)
  local state = retry.load(place)
  for _, happened in ipairs(fresh) do
    retry.count(state, happened[1], happened[2], happened[3])
  end
  retry.save(place, state)
end
if slice_ms > 0 then
  local loaded = retry.load_budget(budget, slice_ms)
  for _, happened in ipairs(fresh) do
    if happened[1] == 'first_attempt' then
      retry.add_to_budget(loaded, 1, 0)
    elseif happened[1] == 'attempt' and happened[2] > 1 then
      retry.add_to_budget(loaded, 0, 1)
    end
  end
  retry.save_budget(budget, loaded)
end
return { 'recorded', clock.now_us, #fresh }
