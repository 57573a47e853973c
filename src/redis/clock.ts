/** Redis's clock as this process knows it, from the replies of one server, and the steps that it makes. */

/** The highest Redis time that this process has seen on any server, microseconds: tokens stay above it. */
export type Floor = { us: number }

/** A jump of Redis's clock that nobody has been told of yet: by how much, and Redis's time when it was found. */
export type Jump = { us: number; atUs: number }

/** Between which bounds Redis's clock is ahead of this process's own, milliseconds, as of `atMs` of the latter. */
type Offset = { lowMs: number; highMs: number; atMs: number }

/** Two clocks drift apart by so much at the most while nobody looks, and a clock that is being corrected by more. */
const driftMax = 0.001

/**
 * `stepMs`: a jump by more is a step; Infinity where time is moved on purpose. A reply tells Redis's clock at some moment
 * between the call and its answer, however long it hung, so only what both ends exclude counts.
 */
export function createClock(floor: Floor, stepMs: number) {
  let known = false
  let offset: Offset | undefined
  let jump: Jump = { us: 0, atUs: 0 }

  function compare(nowUs: number, sentMs: number): void {
    const readAtMs = performance.now()
    const seen = { lowMs: nowUs / 1000 - readAtMs, highMs: nowUs / 1000 - sentMs, atMs: readAtMs }
    const before = offset
    offset = seen
    if (before === undefined) return
    const driftMs = Math.max(0, readAtMs - before.atMs) * driftMax
    const [lowMs, highMs] = [before.lowMs - driftMs, before.highMs + driftMs]
    if (seen.lowMs > highMs + stepMs || seen.highMs < lowMs - stepMs) {
      // The most that it can have been: a lease that gets too long is the smaller harm.
      jump = { us: jump.us + Math.round((seen.highMs - lowMs) * 1000), atUs: nowUs }
    } else if (seen.lowMs <= highMs && seen.highMs >= lowMs) {
      offset = { lowMs: Math.max(seen.lowMs, lowMs), highMs: Math.min(seen.highMs, highMs), atMs: readAtMs }
    }
  }

  return {
    /** What a script answered that was sent at `sentMs` of this process's clock. */
    saw(nowUs: number, sentMs: number): void {
      known = true
      floor.us = Math.max(floor.us, nowUs)
      compare(nowUs, sentMs)
    },
    known: () => known,
    /** Microseconds; at most the true time, also right after a reply that waited long for its WAIT. */
    nowUs: () => Math.floor((performance.now() + (offset?.lowMs ?? 0)) * 1000),
    /** Another server's clock has been seen to be at least here. */
    atLeast: (us: number): void => void (floor.us = Math.max(floor.us, us)),
    floorUs: () => floor.us,
    /** A jump that is still to be told; its `us` is 0 where there is none. */
    jump: (): Readonly<Jump> => jump,
    /** `told` has been taken down. */
    jumpTold: (told: Readonly<Jump>): void => void (jump = { us: jump.us - told.us, atUs: jump.atUs }),
    /** Goes on from what another server's clock was last compared with: it may be ahead of it. */
    follow: (before: RedisClock): void => void (offset ??= before.offset()),
    offset: () => offset,
  }
}

export type RedisClock = {
  saw: (nowUs: number, sentMs: number) => void
  known: () => boolean
  nowUs: () => number
  atLeast: (us: number) => void
  floorUs: () => number
  jump: () => Readonly<Jump>
  jumpTold: (told: Readonly<Jump>) => void
  follow: (before: RedisClock) => void
  offset: () => Offset | undefined
}
