-- Purpose: appends one entry to the audit of a namespace.
-- KEYS: log, head (of the chain), nonce
-- ARGV: action, subject, user, on_behalf_of, reason, evidence ('' for none), statement (their digest), entries_max,
--   before, after (JSON or ''), before_digest, after_digest ('' unless the text is over 256 bytes)
-- Replies: status, now_us, entry — appended (also when this nonce has appended it before)
-- Never: appends twice for one nonce, refuses because another entry came between, or changes an entry.
local keys = { log = KEYS[1], head = KEYS[2], nonce = KEYS[3] }
local action, subject, user, on_behalf_of, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local evidence, statement, entries_max = ARGV[6], ARGV[7], ARGV[8]
local before, after, before_digest, after_digest = ARGV[9], ARGV[10], ARGV[11], ARGV[12]

local entry = { action = action, subject = subject, user = user, on_behalf_of = on_behalf_of, reason = reason }
entry.evidence, entry.statement, entry.entries_max = evidence, statement, entries_max
entry.before, entry.after, entry.before_digest, entry.after_digest = before, after, before_digest, after_digest
return { 'appended', clock.now_us, audit.append(keys, entry) }
