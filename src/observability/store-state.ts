/** Whether the store may have lost something, for people; and their word that they have looked. */
import type { Actor } from '../auth.ts'
import type { AuditEntry } from '../audit/audit.ts'
import type { Store } from '../redis/client.ts'
import type { WitnessRecord } from '../redis/witness-scripts.ts'

export type StoreStateDependencies = {
  store: Pick<Store, 'witnesses' | 'acknowledge'>
  /** `redis.failover_grace_seconds`. */
  graceSeconds: number
  /** The entry comes first, then the act. */
  audit: { act: <Result>(namespace: string, entry: AuditEntry, perform: () => Promise<Result>) => Promise<Result> }
}

const instant = (us: number): string | null => (us === 0 ? null : new Date(us / 1000).toISOString())

const remedies = {
  reset:
    'The store came back empty, and claims of effects without a record get 503. Find out why and restore it, or make sure ' +
    'that nothing that was in flight runs twice; then POST /api/v1/store/acknowledge.',
  grace: 'Claims of effects without a record get 503 where they may be held by somebody. That ends by itself.',
}

export function createStoreState({ store, graceSeconds, audit }: StoreStateDependencies) {
  /** Of several primaries the last change, and whatever refuses somewhere. */
  function read() {
    const witnesses = store.witnesses()
    const records = witnesses.flatMap((witness) => witness.known()?.record ?? [])
    const last = (of: (record: WitnessRecord) => number): number => Math.max(0, ...records.map(of))
    const refusing = witnesses.flatMap((witness) => witness.refusesAbsent('primary')?.cause ?? [])
    const acknowledge_needed = refusing.includes('reset')
    const inGrace = refusing.includes('changed')
    const changedUs = last(({ changedUs: us }) => us)
    return {
      changed_at: instant(changedUs),
      change: records.find((record) => record.changedUs === changedUs)?.change || null,
      grace_until: inGrace
        ? instant(last(({ lossyUs }) => Math.max(...Object.values(lossyUs))) + graceSeconds * 1_000_000)
        : null,
      reset_at: instant(last(({ resetUs }) => resetUs)),
      acknowledge_needed,
      remedy: acknowledge_needed ? remedies.reset : inGrace ? remedies.grace : null,
    }
  }

  return {
    read,
    /** Absent effects are granted again after a reset, by all processes within a second. Problem `store-unavailable`. */
    async acknowledge(namespace: string, reason: string, actor: Actor) {
      const { reset_at } = read()
      const said = { reason, before: { reset_at }, after: { reset_at: null } }
      const entry = { action: 'store.acknowledge' as const, subject: 'store', ...actor, ...said }
      await audit.act(namespace, entry, () => store.acknowledge())
      return read()
    },
  }
}

export type StoreState = ReturnType<typeof createStoreState>
