-- Purpose: a person decides: half_open, close, open (for a while, if ends_ms says so), or reset; with its audit entry.
-- KEYS: breaker, reports, owners, permits, history, index, events, audit, audit_head, audit_nonce
-- ARGV: settings (JSON), action, version ('' for any), ends_ms (0 for no end), audit_entry (JSON)
-- Replies: status, now_us, breaker, entry — overridden, repeated (done already, nothing changed); without entry: conflict (another version)
-- Never: acts without its audit entry, or twice for one nonce.
local keys = { breaker = KEYS[1], reports = KEYS[2], owners = KEYS[3], permits = KEYS[4],
  history = KEYS[5], index = KEYS[6], events = KEYS[7] }
local audit_keys = { log = KEYS[8], head = KEYS[9], nonce = KEYS[10] }
local settings, action, version = ARGV[1], ARGV[2], ARGV[3]
local ends_ms, audit_entry = tonumber(ARGV[4]), cjson.decode(ARGV[5])
local STATES = { half_open = 'half_open', close = 'closed', open = 'open', reset = 'closed' }
local CAUSES = { half_open = 'override', close = 'override', open = 'forced_open', reset = 'reset' }

local b = breaker.load(keys, settings)
local r = b.r
local repeated = audit.appended(audit_keys)
if repeated then
  breaker.save(b, event.add)
  return { 'repeated', clock.now_us, breaker.reply(b), repeated }
elseif version ~= '' and tonumber(version) ~= r.version then
  breaker.save(b, event.add)
  return { 'conflict', clock.now_us, breaker.reply(b) }
end

-- As the breaker is told to callers: what has no value is null.
local function snapshot()
  local reason = r.reason ~= '' and r.reason or cjson.null
  local hold_until = r.hold_until > clock.now_ms and audit.instant(r.hold_until) or cjson.null
  return cjson.encode({ state = r.state, version = r.version, reason = reason, hold_until = hold_until })
end

audit_entry.before = snapshot()
local person = { user = audit_entry.user, on_behalf_of = audit_entry.on_behalf_of, action = action }
person.reason = audit_entry.reason
breaker.move(b, STATES[action], CAUSES[action], clock.now_ms, person)
r.ends_at = ends_ms > 0 and clock.now_ms + ends_ms or 0
if action ~= 'open' then
  r.hold_until = 0 -- a person's word lifts what the exchange asked for
end
if action == 'reset' then
  r.override = nil
else
  person.at, person.expires_at = clock.now_ms, r.ends_at
  r.override = person
end
audit_entry.after = snapshot()
local entry = audit.append(audit_keys, audit_entry)
breaker.save(b, event.add)
return { 'overridden', clock.now_us, breaker.reply(b), entry }
