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

/**
 * Indexes that are looked at together. `skip`: so many that stand first in them are alive, as was found in the last rounds: a
 * step of the clock makes leases seem over that are not, and others must not wait behind them.
 */
type Group = { indexes: string[]; skip: number }

/** In a Cluster each bucket may lie on another server. */
function groupsOf({ store, keys }: Context, namespace: string): Group[] {
  const indexes = keys.allInflight(namespace)
  return (store.clustered ? indexes.map((index) => [index]) : [indexes]).map((group) => ({ indexes: group, skip: 0 }))
}

/** What came of those that were answered: one shard's trouble leaves no holder of another one unnoticed. */
function whatAnswered<T>(looks: readonly PromiseSettledResult<T>[]): T[] {
  const answered = looks.flatMap((look) => (look.status === 'fulfilled' ? [look.value] : []))
  const refused = looks.find((look) => look.status === 'rejected')
  if (refused && answered.length === 0) throw refused.reason
  return answered
}

/** What came of one whose lease seems to be over. */
async function settle(
  { store, keys, tellUncertain }: Context,
  namespace: string,
  effectId: string,
): Promise<'settled' | 'alive' | 'gone'> {
  const parts = parseEffectId(effectId)
  if (!parts) return 'gone'
  const { effect, inflight } = keys.effect(namespace, parts.bucket, effectId)
  const reply = await store.run(effectExpire, [effect, inflight], { effect_id: effectId, ...leaseClock })
  if (reply.status !== 'expired') return reply.status === 'current' ? 'alive' : 'gone'
  if (reply.record.state === 'uncertain') {
    const subject = { namespace, effectId, nowMs: reply.nowUs / 1000 }
    tellUncertain(subject, reply.record, 'lease_expired')
  }
  return 'settled'
}

/** Effects whose lease seems to be over, and what came of them. Answers how many were settled. */
async function sweepGroup(context: Context, namespace: string, group: Group): Promise<number> {
  const { indexes, skip } = group
  const due = await context.store.run(effectDue, indexes, { count: limits.sweepBatchMax, skip })
  const outcomes = whatAnswered(await Promise.allSettled(due.map((effectId) => settle(context, namespace, effectId))))
  const alive = outcomes.filter((outcome) => outcome === 'alive').length
  group.skip = due.length < limits.sweepBatchMax ? 0 : skip + alive
  return outcomes.filter((outcome) => outcome === 'settled').length
}

export function createSweep(context: Context, namespaces: readonly string[], log: Logger): Sweep {
  const { store, keys } = context
  const holder = randomUUID()
  let stopped = false
  let timer: NodeJS.Timeout | undefined
  let running: Promise<unknown> = Promise.resolve()
  const places = namespaces.map((namespace) => ({ namespace, groups: groupsOf(context, namespace) }))

  /** False where another process is known to sweep. Where that cannot be asked all do: the lease only saves them work. */
  async function isOurs(namespace: string): Promise<boolean> {
    const lease = { holder, lease_ms: limits.sweepLeaseMs }
    try {
      return (await store.run(leaseHold, [keys.sweepLease(namespace)], lease)).held
    } catch (error) {
      log.debug({ err: error, namespace }, 'the lease of the sweep could not be asked for')
      return true
    }
  }

  async function sweepNamespace({ namespace, groups }: (typeof places)[number]): Promise<number> {
    if (!(await isOurs(namespace))) return 0
    const sweeps = groups.map((group) => sweepGroup(context, namespace, group))
    return whatAnswered(await Promise.allSettled(sweeps)).reduce((sum, settled) => sum + settled, 0)
  }

  async function once(): Promise<number> {
    const sweeps = places.map(sweepNamespace)
    // What fails waits for the others: a round that ends before would run beside the next one, and `stop` would not wait for it.
    await Promise.allSettled(sweeps)
    const counts = await Promise.all(sweeps)
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
