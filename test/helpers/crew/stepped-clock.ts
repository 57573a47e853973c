/** A seam in the scripts' clock: how far, in microseconds, it is from Redis's own stands in one key. */
export const clockStepKey = 'test:clock_offset_us'

export const steppedClock = `
do
  clock.now_us = clock.now_us + tonumber(redis.call('GET', '${clockStepKey}') or 0)
  clock.now_ms = math.floor(clock.now_us / 1000)
end`
