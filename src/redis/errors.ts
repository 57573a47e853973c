/**
 * What an error of the Redis client means for the caller: nothing was executed, nobody knows, or it is our own mistake.
 * The words of `reason` are part of the HTTP contract.
 */

export const storeReasons = [
  'loading',
  'failing_over',
  'resharding',
  'busy',
  'out_of_memory',
  'not_persisting',
  'not_replicated',
  'misconfigured',
  'unavailable',
  'outcome_unknown',
] as const
export type StoreReason = (typeof storeReasons)[number]

export type StoreTrouble =
  { kind: 'not_executed'; reason: Exclude<StoreReason, 'outcome_unknown'> } | { kind: 'unknown' } | { kind: 'bug' }

type Refusal = Exclude<StoreReason, 'outcome_unknown'>

/** First word of Redis's error reply -> reason. Source: redis.conf and server.c of Redis 7, `createSharedObjects`. */
const refusals: Record<string, Refusal> = {
  LOADING: 'loading',
  READONLY: 'failing_over',
  MASTERDOWN: 'failing_over',
  UNBLOCKED: 'failing_over',
  CLUSTERDOWN: 'failing_over',
  TRYAGAIN: 'resharding',
  ASK: 'resharding',
  MOVED: 'resharding',
  BUSY: 'busy',
  OOM: 'out_of_memory',
  MISCONF: 'not_persisting',
  NOREPLICAS: 'not_replicated',
  NOAUTH: 'misconfigured',
  WRONGPASS: 'misconfigured',
  NOPERM: 'misconfigured',
  DENIED: 'misconfigured',
  NOSCRIPT: 'unavailable',
}

/** What the ACL of Redis refuses to a script of ours, 7.0 and later. Source: script.c, `scriptCall`. */
const refusedByAcl = ["The user executing the script can't", 'ACL failure in script']

/** What Redis answers where the database of the address is not to be had. Source: db.c, `selectCommand`. */
const refusedDatabase = ['ERR DB index is out of range', 'ERR SELECT is not allowed', 'ERR invalid DB index']

/** Ours: there was no server to send the call to. */
export class NotSentError extends Error {}

/** Client-side messages (ioredis 6) that tell that no byte of the command has been written. */
const neverWritten = ["Stream isn't writeable", 'connect E']

/**
 * Sorts an error of the client into one of the three classes. A reply of the server is a refusal that we know, or our
 * own mistake; whatever else went wrong may have happened after the bytes were written, unless the client says not.
 */
export function classifyStoreError(error: unknown): StoreTrouble {
  const { name, message } = error instanceof Error ? error : new Error(String(error))
  if (name === 'ReplyError') {
    const reason = [...refusedByAcl, ...refusedDatabase].some((text) => message.includes(text))
      ? 'misconfigured'
      : refusals[message.split(' ', 1)[0] ?? '']
    return reason ? { kind: 'not_executed', reason } : { kind: 'bug' }
  }
  const notSent = error instanceof NotSentError
  if (notSent || neverWritten.some((text) => message.includes(text)))
    return { kind: 'not_executed', reason: 'unavailable' }
  return { kind: 'unknown' }
}
