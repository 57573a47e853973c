-- Purpose: learns which server this is, compares it with the record kept here and with what the caller knew, and writes down
--   what is new, for all processes and for those that start later.
-- KEYS: witness
-- ARGV: process, known_id ('' where the caller knows nothing of this key), known_run_id, known_changed_us, silent_us (since the
--   caller last heard of known_run_id), fresh_id (for a new record), always (1 or '': the append-only file is fsynced before
--   each answer), floor_us, others (run ids of the other primaries, a comma behind each), fallback (JSON: the record as the caller
--   knew it), jump_us (of the clock, that the caller has found; 0: none), jump_at_us, known_step (number of the last one it knows)
-- Replies: status, now_us, record (names and values in turn) — same, first, changed, flushed (emptied while it ran),
--   reset (it came back empty)
-- Never: takes a change for harmless unless that is shown, or forgets a refusal that is in force.
local witness = KEYS[1]
local process, known_id, known_run_id, known_changed_us = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local silent_us, fresh_id, always, floor_us = tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1', tonumber(ARGV[8])
local others, fallback = ARGV[9], ARGV[10]
local jump_us, jump_at_us, known_step = tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13]
local NO_REPLID = ('0'):rep(40)
local UPTIME_SLACK_US = 2 * 1000000 -- uptime_in_seconds is rounded, and read apart from the clock
-- limits.leaseSecondsMax
local LEASE_MAX_US = 3600 * 1000000 -- a step from before that moves no lease any more
local SAME_STEP_US = 5 * 1000000 -- two processes that find a step within this have found the same one

local server = {}
for name, value in redis.call('INFO', 'server', 'replication', 'persistence'):gmatch('([%w_]+):([^\r\n]*)') do
  server[name] = value
end

local function text(number)
  return string.format('%.0f', number)
end

local function read()
  local flat, r = redis.call('HGETALL', witness), {}
  for position = 1, #flat, 2 do
    r[flat[position]] = flat[position + 1]
  end
  return flat[1] and r or nil
end

local function begin(id)
  local r = cjson.decode(fallback)
  local defaults = {
    replicas = '0', changed_us = '0', change = '', changed_by = '',
    restarted_us = '0', promoted_us = '0', unknown_us = '0', reset_us = '0', previous_id = '',
    step = '0', step_at_us = '0', step_us = '0', step_by = '',
  }
  for name, value in pairs(defaults) do
    r[name] = r[name] or value
  end
  r.id, r.run_id, r.replid = id, server.run_id, server.master_replid
  return r
end

-- The same data came back from its own append-only file: no replica was ever seen that could have taken its place.
local function from_own_file(r)
  return r.replicas == '0' and server.master_replid2 == NO_REPLID and server.aof_enabled == '1'
end

-- A replica that was running while the caller still heard of the primary that it followed.
local function promoted(r)
  local uptime_us = tonumber(server.uptime_in_seconds) * 1000000
  return server.master_replid2 == r.replid and known_run_id == r.run_id and uptime_us > silent_us + UPTIME_SLACK_US
end

-- What is sure about a change, by what the contract of each durability can be judged.
local function kind_of(r)
  if r.run_id == server.run_id and server.master_replid2 == r.replid then
    return 'kept' -- the same process stopped taking writes for a while, and took no other's data
  elseif tonumber(r.changed_us) < known_changed_us then
    return 'unknown' -- the caller has seen a later record: this data is older
  elseif from_own_file(r) then
    return r.always == '1' and 'kept' or 'restarted'
  end
  return promoted(r) and 'promoted' or 'unknown'
end

local function note(r, kind)
  r.changed_us = text(math.max(clock.now_us, floor_us, known_changed_us + 1, tonumber(r.changed_us) + 1))
  r.change, r.changed_by = kind, process
end

local function change(r)
  local kind = kind_of(r)
  note(r, kind)
  r.run_id, r.replid = server.run_id, server.master_replid
  if kind ~= 'kept' then
    r[kind .. '_us'] = r.changed_us
  end
end

local function reset(r)
  note(r, 'reset')
  r.reset_us, r.previous_id = r.changed_us, known_id
end

-- Somebody else's server, or this one after a restart, or after it has followed another for a while.
local function has_changed(r)
  if r.run_id ~= server.run_id then
    return not others:find(r.run_id .. ',', 1, true)
  elseif r.replid ~= server.master_replid and server.master_replid2 ~= NO_REPLID then
    return true
  end
  return known_run_id ~= '' and known_run_id ~= server.run_id and tonumber(r.changed_us) <= known_changed_us
end

local function without_record()
  if known_id == '' then
    return 'first', begin(fresh_id)
  elseif known_run_id == server.run_id then
    return 'flushed', begin(known_id)
  end
  local r = begin(fresh_id)
  reset(r)
  return 'reset', r
end

local function with_record(r)
  local changed = has_changed(r)
  if changed then
    change(r)
  end
  local other_store = known_id ~= '' and known_id ~= r.id and known_id ~= r.previous_id
  if other_store and known_run_id == server.run_id then
    r.previous_id = known_id
    return 'flushed', r
  elseif other_store then
    reset(r)
    return 'reset', r
  end
  return changed and 'changed' or 'same', r
end

-- How far leases from before the last step must be moved: the greatest sum of the steps that any of them has met.
local function take_jump(r)
  local at_us, moved_us = tonumber(r.step_at_us), tonumber(r.step_us)
  local found_before = r.step ~= known_step and math.abs(jump_at_us - at_us) < SAME_STEP_US
  if jump_us == 0 or found_before then
    return
  elseif jump_at_us > at_us + moved_us + LEASE_MAX_US then
    moved_us = 0
  end
  r.step, r.step_by = text(tonumber(r.step) + 1), process
  r.step_at_us, r.step_us = text(jump_at_us), text(math.max(0, moved_us + jump_us))
end

local before = read()
local status, r
if before then
  status, r = with_record(read())
else
  status, r = without_record()
end
take_jump(r)
r.run_id, r.replid = server.run_id, server.master_replid
r.replicas = text(math.max(tonumber(r.replicas), tonumber(server.connected_slaves)))
r.always = (always and server.aof_enabled == '1' and server.aof_last_write_status == 'ok') and '1' or '0'

local flat, news = {}, not before
for name, value in pairs(r) do
  flat[#flat + 1] = name
  flat[#flat + 1] = value
  news = news or before[name] ~= value
end
if news then
  redis.call('HSET', witness, unpack(flat))
end
return { status, clock.now_us, flat }
