/**
 * What was told of completed effects a moment ago, to be told again without asking Redis: a worker that repeats itself does so
 * at once. A result never changes, so such an answer is wrong only where the record has gone: at the end of its retention,
 * which it tells, or by an operator's word. Who deletes it here clears it at once; other processes have forgotten it after
 * `limits.replayMs`, which no lost message can prolong.
 */
import { limits } from '../limits.ts'
import type { RedisClock } from '../redis/clock.ts'
import type { EffectRecord } from './record.ts'

type Replay = { record: EffectRecord; chars: number; untilMs: number }

/** What a claim must know to be answered so: its fingerprint as it is stored, `''` for none. */
export type Repeat = { key: string; fingerprint: string; clock: RedisClock }

/** A claim that has ended is told so, whatever became of the effect; and a large result would push out many small ones. */
const mayBeKept = ({ pastClaims, body }: EffectRecord): boolean =>
  pastClaims === 0 && body.length <= limits.replayCharsMax

const differ = (one: string, other: string): boolean => one !== '' && other !== '' && one !== other

export function createReplays() {
  /** By the effect's key, the oldest first. */
  const replays = new Map<string, Replay>()
  let charsHeld = 0
  let forgottenMs = -Infinity

  function drop(key: string): void {
    charsHeld -= replays.get(key)?.chars ?? 0
    replays.delete(key)
  }

  /** What is over, and the oldest of what is too much. */
  function makeRoom(nowMs: number): void {
    for (const [key, { untilMs }] of replays) {
      const full = replays.size > limits.replaysMax || charsHeld > limits.replaysCharsMax
      if (untilMs > nowMs && !full) return
      drop(key)
    }
  }

  return {
    /** The record of an effect that is completed. */
    find({ key, fingerprint, clock }: Repeat): EffectRecord | undefined {
      const replay = replays.get(key)
      if (!replay || replay.untilMs <= performance.now()) return undefined
      const { record } = replay
      const vanished = clock.nowUs() / 1000 >= record.updatedAt + record.retentionMs
      return vanished || differ(record.fingerprint, fingerprint) ? undefined : record
    },

    /** `askedMs`: before Redis was asked, of this process's clock. What was asked before a deletion may be of before it. */
    keep(key: string, record: EffectRecord, askedMs: number): void {
      if (askedMs <= forgottenMs || !mayBeKept(record)) return
      drop(key)
      const chars = key.length + record.body.length + record.metadata.length
      charsHeld += chars
      replays.set(key, { record, chars, untilMs: askedMs + limits.replayMs })
      makeRoom(performance.now())
    },

    /** It is deleted, or may be. */
    forget(key: string): void {
      forgottenMs = performance.now()
      drop(key)
    },
  }
}
