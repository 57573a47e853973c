/** The audit: who did what, when and why, one chain of entries for each namespace. */
import { randomUUID } from 'node:crypto'
import type { Logger } from 'pino'
import type { Actor } from '../auth.ts'
import { type JsonObject, RawJson, stringifyWithRaw } from '../json.ts'
import { limits } from '../limits.ts'
import { invalidRequest, Problem } from '../problems.ts'
import type { Store } from '../redis/client.ts'
import type { Keys } from '../redis/keys.ts'
import { stateDigest, statementDigest } from './chain.ts'
import type { AuditFiles } from './files.ts'
import { type AppendedEntry, auditAppend, auditPage, type StoredEntry } from './scripts.ts'
import { type ChainHead, type ChainReader, createVerify, verifyChain } from './verify.ts'

export const auditActions = [
  ...(['breaker.override', 'breaker.reset', 'effect.resolve', 'effect.delete', 'effect.late_completion'] as const),
  ...(['jobs.metrics.reset', 'store.acknowledge'] as const),
]
export type AuditAction = (typeof auditActions)[number]

/** What is said of an act. `before` and `after` are small states; `evidence` is kept byte for byte. */
export type AuditEntry = Actor & {
  action: AuditAction
  /** What it was done to: an effect_id, `breaker:<job_type>`, … */
  subject: string
  reason: string | null
  before?: JsonObject | null
  after?: JsonObject | null
  evidence?: RawJson | null
}

export type AuditDependencies = {
  store: Store
  keys: Keys
  /** `audit.entries_max`: so many are kept for each namespace. */
  entriesMax: number
  log: Logger
  files: Pick<AuditFiles, 'write'>
  /** Whose heads are logged. */
  namespaces: readonly string[]
}

export type ListRequest = {
  action?: string | undefined
  subject?: string | undefined
  /** RFC 3339. */
  since?: string | undefined
  limit: number
  cursor?: string | undefined
}

const orNull = (text: string): string | null => (text === '' ? null : text)
const raw = (text: string): RawJson | null => (text === '' ? null : new RawJson(text))
/** What Redis will give back: a lone surrogate cannot be kept. */
const kept = (text: string): string => Buffer.from(text).toString()
const stateText = (state: JsonObject | null | undefined): string =>
  state === null || state === undefined ? '' : kept(stringifyWithRaw(state, JSON.stringify))

/** An entry as callers and the JSON lines see it. */
export const entryBody = (entry: StoredEntry) => ({
  seq: entry.seq,
  at: new Date(Number(entry.at) || 0).toISOString(),
  action: entry.action,
  subject: entry.subject,
  user: entry.user,
  on_behalf_of: orNull(entry.on_behalf_of),
  reason: orNull(entry.reason),
  before: raw(entry.before),
  after: raw(entry.after),
  evidence: raw(entry.evidence),
  previous_hash: entry.previous_hash,
  hash: entry.hash,
})

export type AuditBody = ReturnType<typeof entryBody>

/** Whether an act that failed was surely not done: refused by its script, or never run. */
const wasRefused = (error: unknown): error is Problem =>
  error instanceof Problem &&
  (error.status < 500 || (error.slug === 'store-unavailable' && error.members['reason'] !== 'outcome_unknown'))

function readCursor(cursor: string | undefined): string {
  if (cursor === undefined) return '+'
  if (/^\d{1,16}-\d{1,16}$/.test(cursor)) return `(${cursor}`
  throw invalidRequest([{ pointer: '?cursor', message: 'is not a cursor of this list' }])
}

/** What a script hands to `audit.append` of the prelude, beside the `before` and `after` that it finds itself. */
function entryArguments(entry: AuditEntry, entriesMax: number) {
  const said = {
    action: entry.action as string,
    subject: kept(entry.subject),
    user: kept(entry.user),
    on_behalf_of: kept(entry.on_behalf_of ?? ''),
    reason: kept(entry.reason ?? ''),
    evidence: entry.evidence?.text ?? '',
  }
  return { ...said, statement: statementDigest(said), entries_max: entriesMax }
}

type EntryArgs = ReturnType<typeof entryArguments>

/** Appending, and acts that are not without their entry. */
function createAppending({ store, keys, entriesMax, log, files }: AuditDependencies) {
  const entryArgs = (entry: AuditEntry): EntryArgs => entryArguments(entry, entriesMax)

  /** Writes the JSON line of an entry that a script has appended. */
  function tell(
    namespace: string,
    { statement: _, entries_max: __, ...said }: EntryArgs,
    appended: AppendedEntry,
  ): void {
    const [id = '', at = '', previous_hash = '', hash = '', before = '', after = ''] = appended
    const body = entryBody({ ...said, ...{ id, seq: Number(id), at, previous_hash, hash, before, after } })
    files.write('audit', { namespace, ...body })
  }

  /** Appends an entry, once although Redis may be asked again; never in conflict with others. `store-unavailable`. */
  async function append(namespace: string, entry: AuditEntry): Promise<void> {
    const args = entryArgs(entry)
    const [before, after] = [stateText(entry.before), stateText(entry.after)]
    const nonce = keys.auditNonce(namespace, randomUUID())
    const appended = await store.run(auditAppend, [keys.audit(namespace), keys.auditHead(namespace), nonce], {
      ...args,
      ...{ before, after },
      before_digest: stateDigest(before),
      after_digest: stateDigest(after),
    })
    tell(namespace, args, appended)
  }

  async function appendRefused(namespace: string, entry: AuditEntry, problem: Problem): Promise<void> {
    const refused = { ...entry, action: `${entry.action}.refused` as AuditAction, evidence: null }
    await append(namespace, { ...refused, after: { problem: problem.slug } }).catch((error: unknown) =>
      log.error({ err: error, action: refused.action, subject: entry.subject }, 'a refused act stays in the audit'),
    )
  }

  /**
   * Does what lies in another slot than the audit: the entry comes first and the act follows, so that no act is without
   * one. If the act is refused after all, a second entry `<action>.refused` says so. Whether an act happened whose answer
   * was lost is not known, and gets none. Throws what `perform` throws, and `store-unavailable` before it.
   */
  async function act<Result>(namespace: string, entry: AuditEntry, perform: () => Promise<Result>): Promise<Result> {
    await append(namespace, entry)
    try {
      return await perform()
    } catch (error) {
      if (wasRefused(error)) await appendRefused(namespace, entry, error)
      throw error
    }
  }

  return { append, act, entryArgs, tell }
}

/** Looking at entries, and at whether the chain is whole. */
function createReading({ store, keys }: Pick<AuditDependencies, 'store' | 'keys'>) {
  const page = (namespace: string, from: string, order: 'newest' | 'oldest', count: number) =>
    store.run(auditPage, [keys.audit(namespace)], { from, order, count, bytes_max: limits.auditBatchBytesMax })

  /**
   * One page, newest first. `since` is inclusive. A page may hold fewer than `limit` although more follow: it ends after
   * `limits.auditScanMax` entries or `limits.auditPageBytesMax` bytes, and `next_cursor` goes on.
   */
  async function list(namespace: string, request: ListRequest) {
    const sinceMs = request.since === undefined ? 0 : Date.parse(request.since)
    const entries: AuditBody[] = []
    const chosen = (entry: StoredEntry): boolean =>
      (request.action === undefined || entry.action === request.action) &&
      (request.subject === undefined || entry.subject === request.subject)
    let from = readCursor(request.cursor)
    let bytes = 0
    for (let scanned = 0; scanned < limits.auditScanMax && bytes < limits.auditPageBytesMax;) {
      const batch = await page(namespace, from, 'newest', limits.auditBatchMax)
      if (batch.length === 0) return { entries, next_cursor: null }
      for (const entry of batch) {
        if (Number(entry.at) < sinceMs) return { entries, next_cursor: null }
        from = `(${entry.id}`
        if (!chosen(entry)) continue
        entries.push(entryBody(entry))
        bytes += entry.evidence.length + entry.before.length + entry.after.length
        if (entries.length === request.limit) return { entries, next_cursor: entry.id }
      }
      scanned += batch.length
    }
    return { entries, next_cursor: from.slice(1) }
  }

  async function head(namespace: string): Promise<ChainHead | null> {
    const reply = await store.read('HMGET', keys.auditHead(namespace), 'seq', 'hash', 'trimmed')
    const [seq, hash, trimmed] = reply as (string | null)[]
    return typeof seq !== 'string' || typeof hash !== 'string'
      ? null
      : { seq: Number(seq), hash, trimmed: Number(trimmed ?? 0) }
  }

  /** Finds any edited, dropped or reordered entry. One that takes longer than a call may be asked for again: it goes on. */
  const verify = createVerify((namespace) => {
    const from: ChainReader['from'] = (seq, count) => page(namespace, `${seq}-0`, 'oldest', count)
    return verifyChain({ head: () => head(namespace), from })
  }, limits.handlerDeadlineMs)

  return { list, head, verify }
}

export function createAudit(dependencies: AuditDependencies) {
  const { head, ...reading } = createReading(dependencies)
  return { ...createAppending(dependencies), ...reading, ...createHeads({ ...dependencies, head }) }
}

export type Audit = ReturnType<typeof createAudit>

type HeadsDependencies = Pick<AuditDependencies, 'log' | 'files' | 'namespaces'> & {
  head: (namespace: string) => Promise<ChainHead | null>
}

/** Logs the head of each chain every minute: against it shows what was cut from the end. */
function createHeads({ head, log, files, namespaces }: HeadsDependencies) {
  const seen = new Map<string, ChainHead>()
  let timer: NodeJS.Timeout | undefined

  async function logHead(namespace: string): Promise<void> {
    const now = await head(namespace)
    const before = seen.get(namespace)
    if (before && (!now || now.seq < before.seq || (now.seq === before.seq && now.hash !== before.hash))) {
      log.error({ namespace, seq: now?.seq ?? 0, seen_seq: before.seq }, 'the audit has lost entries at its end')
    }
    if (!now) return void seen.delete(namespace)
    seen.set(namespace, now)
    log.info({ namespace, seq: now.seq, hash: now.hash }, 'audit head')
    files.write('audit_head', { namespace, seq: now.seq, hash: now.hash })
  }

  async function logHeads(): Promise<void> {
    for (const namespace of namespaces) {
      await logHead(namespace).catch((error: unknown) => log.debug({ err: error }, 'the audit head could not be read'))
    }
  }

  return {
    /** Logs the heads now, and tells at `error` of one that has gone back since the last time. */
    logHeads,
    start(): void {
      timer = setInterval(() => void logHeads(), limits.auditHeadsIntervalMs)
      timer.unref()
    },
    stop: (): void => clearInterval(timer),
  }
}
