-- What Redis gives a script, and nothing else.
std = 'lua51'
read_globals = { 'redis', 'cjson', 'cmsgpack', 'struct', 'bit', 'KEYS', 'ARGV' }
not_globals = { 'print', 'io', 'os', 'require', 'module', 'package', 'debug', 'dofile', 'loadfile', 'math.randomseed' }
max_line_length = 120
max_comment_line_length = 140

-- One table per prelude: a local that the prelude defines, and that the scripts behind it use.
local preludes = { 'clock', 'record', 'audit', 'event', 'breaker', 'retry' }
for _, name in ipairs(preludes) do
  read_globals[#read_globals + 1] = name
end
files['lua/prelude'] = { ignore = { '211', '241' } }
