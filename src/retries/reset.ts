/** Forgets the retry metrics of a namespace. */
import type { Audit } from '../audit/audit.ts'
import type { Actor } from '../auth.ts'
import { limits } from '../limits.ts'
import type { Store } from '../redis/client.ts'
import { storeUnavailable } from '../redis/refusals.ts'
import type { Keys } from '../redis/keys.ts'
import { retryReset } from './scripts.ts'

export type ResetDependencies = {
  store: Store
  keys: Keys
  audit: Pick<Audit, 'entryArgs' | 'tell'>
  /** A name that nobody else has. */
  newId: () => string
}

/**
 * Makes the reset: counts of all job types go, in one step with the audit entry `jobs.metrics.reset`. Event ids stay
 * remembered and budgets stay as they are. Throws `store-unavailable`.
 */
export function createReset({ store, keys, audit, newId }: ResetDependencies) {
  return async function reset(namespace: string, reason: string, actor: Actor): Promise<void> {
    const entry = audit.entryArgs({ action: 'jobs.metrics.reset', subject: 'jobs:metrics', ...actor, reason })
    const auditKeys = [keys.audit(namespace), keys.auditHead(namespace), keys.auditNonce(namespace, newId())]
    const index = keys.retryJobTypes(namespace)
    // The script refuses if a job type came between the list and the reset; a new one is rare.
    for (let tries = 0; tries < limits.retryResetTries; tries++) {
      const names = (await store.read('SMEMBERS', index)) as string[]
      const metrics = names.map((name) => keys.retryMetrics(namespace, name))
      const { entry: appended } = await store.run(retryReset, [...auditKeys, index, ...metrics], {
        names: JSON.stringify(names),
        audit_entry: JSON.stringify(entry),
      })
      if (appended !== null) return audit.tell(namespace, entry, appended)
    }
    throw storeUnavailable('busy', 'New job types came during each try, so nothing was forgotten.')
  }
}
