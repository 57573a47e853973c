-- Redis's clock, read once: TIME is frozen while a script runs.
local clock = {}
do
  local time = redis.call('TIME')
  clock.now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
  clock.now_ms = math.floor(clock.now_us / 1000)
end
