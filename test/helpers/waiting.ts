/** Claims that wait, and how to know that they do. */
import { randomUUID } from 'node:crypto'
import type { Answer, TestApp } from './app.ts'
import { effectCalls } from './effects.ts'
import { redisCli, waitFor } from './redis-server.ts'

/** Bit 8 of the third byte; lua/prelude/record.lua. */
const mark = 8

/** Whether the record says that somebody waits. `effect_id` of namespace `default`. */
async function isMarked({ redis }: Pick<TestApp, 'redis'>, effectId: string): Promise<boolean> {
  const bucket = effectId.split('.')[1]?.slice(0, 2)
  const key = `idempotency:{default:${bucket}}:effect:${effectId}`
  const flags = (await redisCli(redis.port, 'GETRANGE', key, 2, 2)) as string
  return flags.charCodeAt(0) >= mark
}

export type Settled = { answer: Answer; tookMs: number }

export function waitingCalls(app: TestApp, headers: Record<string, string> = {}) {
  const { claim } = effectCalls(app, headers)

  /** A duplicate that waits, with a claim_id of its own. */
  async function attach(effect: object, members: object = {}): Promise<Settled> {
    const startMs = performance.now()
    const answer = await claim({ ...effect, claim_id: randomUUID(), wait_seconds: 20, ...members })
    return { answer, tookMs: performance.now() - startMs }
  }

  return {
    attach,
    /** Resolves when so many wait, and the effect is marked. */
    async waiting(count: number, effectId: string): Promise<void> {
      await waitFor(() => app.services.waiting.count() === count)
      await waitFor(() => isMarked(app, effectId))
    },
    /** One after the other, so that their order is known. */
    async attachInOrder(effect: object, count: number, effectId: string): Promise<Promise<Settled>[]> {
      const waiters: Promise<Settled>[] = []
      for (let index = 0; index < count; index++) {
        const already = app.services.waiting.count()
        waiters.push(attach(effect, { owner: `waiter-${index}` }))
        await waitFor(() => app.services.waiting.count() === already + 1)
      }
      await waitFor(() => isMarked(app, effectId))
      return waiters
    },
  }
}
