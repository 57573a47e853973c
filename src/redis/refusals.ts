/** How a call is refused that the store could not serve: the problems, and when to come back. */
import { limits } from '../limits.ts'
import { Problem } from '../problems.ts'
import type { StoreReason } from './errors.ts'
import type { Durability } from './group-commit.ts'
import type { AbsentRefusal } from './witness.ts'

/** Detail texts of `store-unavailable`, by reason. Sources: Redis 7 error replies. */
const details: Record<StoreReason, string> = {
  loading: 'Redis is loading its data.',
  failing_over: 'Redis is read-only or without a primary.',
  resharding: 'The slot of this effect is moving.',
  busy: 'Redis is busy with a script.',
  out_of_memory: 'Redis has no memory left.',
  not_persisting: 'Redis cannot persist and refuses writes.',
  not_replicated: 'Redis has too few replicas and refuses writes.',
  misconfigured: 'Redis refuses the user name, the password, the database or the command.',
  unavailable: 'Redis cannot be reached.',
  outcome_unknown: 'Redis did not answer: send the same claim_id again; do not execute.',
}

/** So that those who were refused together do not come back together. */
const retryAfterSeconds = (): number => 1 + Math.floor(Math.random() * limits.storeRetryAfterSpreadSeconds)

/** 503: nothing was executed, or with `outcome_unknown` nobody knows. `detail` where the call itself knows better why. */
export const storeUnavailable = (reason: StoreReason, detail: string = details[reason]): Problem =>
  new Problem('store-unavailable', detail, { reason, retry_after_seconds: retryAfterSeconds() })

/** 503: the effect is absent, and may have been granted before the store changed. */
export function absentRefused(refusal: AbsentRefusal | undefined): Problem {
  const { cause = 'changed', leftMs = 0 } = refusal ?? {}
  const seconds = cause === 'reset' ? limits.storeResetRetryAfterSeconds : Math.ceil(leftMs / 1000)
  const members = { reason: 'failing_over', retry_after_seconds: seconds + retryAfterSeconds() }
  const detail =
    cause === 'reset'
      ? 'The store came back empty, so this effect may have happened: an operator must look and acknowledge that.'
      : 'The server of the store has changed, so this effect may be held by somebody although it has no record.'
  return new Problem('store-unavailable', detail, members)
}

/** 503: the script ran, and too few copies of what it wrote are known. */
export function durabilityNotReached(durability: Durability): Problem {
  const onDisk = typeof durability === 'string'
  const where = onDisk ? 'the disk' : `${durability.replicated} replicas`
  const reason: StoreReason = onDisk ? 'not_persisting' : 'not_replicated'
  const detail = `The write was not confirmed by ${where} in time; send the same call again.`
  return new Problem('durability-not-reached', detail, { reason, retry_after_seconds: retryAfterSeconds() })
}
