/** Settles silent holders within a second of the end of their lease. One process of many does it for a namespace. */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import { limits } from '../limits.ts'
import { leaseHold } from '../redis/lease.ts'
import { leaseClock } from '../redis/witness.ts'
import type { Context } from './context.ts'
import { parseEffectId } from './identity.ts'
import { effectDue, effectExpire } from './scripts.ts'

export type Sweep = {
  /** One round over all namespaces; answers how many holders it settled. */
  once: () => Promise<number>
  /** Rounds every `limits.sweepIntervalMs` until `stop`, which waits for the running one. */
  start: () => void
  stop: () => Promise<void>
}

/** Effects whose lease is over, the first of each index. In a Cluster each bucket may lie on another server. */
async function silentHolders({ store, keys }: Context, namespace: string): Promise<string[]> {
  const indexes = keys.allInflight(namespace)
  const groups = store.clustered ? indexes.map((index) => [index]) : [indexes]
  const look = (group: string[]) => store.run(effectDue, group, { count: limits.sweepBatchMax })
  return whatAnswered(await Promise.allSettled(groups.map(look))).flat()
}

/** What came of those that were answered: one shard's trouble leaves no holder of another one unnoticed. */
function whatAnswered<T>(looks: readonly PromiseSettledResult<T>[]): T[] {
  const answered = looks.flatMap((look) => (look.status === 'fulfilled' ? [look.value] : []))
  const refused = looks.find((look) => look.status === 'rejected')
  if (refused && answered.length === 0) throw refused.reason
  return answered
}

export function createSweep(context: Context, namespaces: readonly string[], log: Logger): Sweep {
  const { store, keys } = context
  const holder = randomUUID()
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  let running: Promise<unknown> = Promise.resolve()

  async function settle(namespace: string, effectId: string): Promise<boolean> {
    const parts = parseEffectId(effectId)
    if (!parts) return false
    const { effect, inflight } = keys.effect(namespace, parts.bucket, effectId)
    const reply = await store.run(effectExpire, [effect, inflight], { effect_id: effectId, ...leaseClock })
    if (reply.status !== 'expired') return false
    if (reply.record.state === 'uncertain') {
      const subject = { namespace, effectId, nowMs: reply.nowUs / 1000 }
      context.tellUncertain(subject, reply.record, 'lease_expired')
    }
    return true
  }

  async function sweepNamespace(namespace: string): Promise<number> {
    const lease = { holder, lease_ms: limits.sweepLeaseMs }
    const { held } = await store.run(leaseHold, [keys.sweepLease(namespace)], lease)
    if (!held) return 0
    const due = await silentHolders(context, namespace)
    const settled = await Promise.allSettled(due.map((effectId) => settle(namespace, effectId)))
    return whatAnswered(settled).filter(Boolean).length
  }

  async function once(): Promise<number> {
    const counts = await Promise.all(namespaces.map(sweepNamespace))
    return counts.reduce((total, count) => total + count, 0)
  }

  /** A full batch means that more are waiting: go on at once. */
  function round(): void {
    running = once().then(
      (settled) => schedule(settled >= limits.sweepBatchMax ? 0 : limits.sweepIntervalMs),
      (error: unknown) => {
        log.debug({ err: error }, 'the sweep could not reach the store')
        schedule(limits.sweepIntervalMs)
      },
    )
  }

  function schedule(delayMs: number): void {
    if (!stopped) timer = setTimeout(round, delayMs)
  }

  return {
    once,
    start: () => schedule(0),
    async stop() {
      stopped = true
      clearTimeout(timer)
      await running
    },
  }
}
