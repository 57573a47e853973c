/** Redis's clock as this process knows it, from the replies of one server. */

/** The highest Redis time that this process has seen on any server, microseconds: tokens stay above it. */
export type Floor = { us: number }

export function createClock(floor: Floor) {
  let lastUs = 0
  let readAtMs = 0
  return {
    saw(nowUs: number): void {
      lastUs = nowUs
      readAtMs = performance.now()
      floor.us = Math.max(floor.us, nowUs)
    },
    known: () => lastUs > 0,
    /** Microseconds; at most the true time, since the way back of the reply is left out. */
    nowUs: () => lastUs + Math.floor((performance.now() - readAtMs) * 1000),
    floorUs: () => floor.us,
  }
}

export type RedisClock = ReturnType<typeof createClock>
