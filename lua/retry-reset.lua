-- Purpose: forgets the retry metrics of a namespace, with its audit entry.
-- KEYS: audit, audit_head, audit_nonce, job_types, then the metrics of each job type that has any
-- ARGV: names (of those job types, JSON), audit_entry (JSON)
-- Replies: status, now_us, entry — reset, repeated (done already); without entry: changed (there are other job types by now)
-- Never: forgets without its audit entry, or what event ids and budgets remember.
local audit_keys, job_types = { log = KEYS[1], head = KEYS[2], nonce = KEYS[3] }, KEYS[4]
local metrics = { unpack(KEYS, 5) }
local names, audit_entry = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])

local repeated = audit.appended(audit_keys)
if repeated then
  return { 'repeated', clock.now_us, repeated }
elseif redis.call('SCARD', job_types) ~= #names then
  return { 'changed', clock.now_us }
end
for _, name in ipairs(names) do
  if redis.call('SISMEMBER', job_types, name) == 0 then
    return { 'changed', clock.now_us }
  end
end

audit_entry.before = cjson.encode({ job_types = #names })
audit_entry.after = cjson.encode({ job_types = 0 })
local entry = audit.append(audit_keys, audit_entry)
redis.call('UNLINK', job_types, unpack(metrics))
return { 'reset', clock.now_us, entry }
