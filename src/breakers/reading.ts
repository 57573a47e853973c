/** Looking at breakers: one, its history, the list of a namespace. */
import { limits } from '../limits.ts'
import { invalidRequest } from '../problems.ts'
import type { Context } from './context.ts'
import { breakerBody, type BreakerBody, retryWord, settled, transitionBody } from './present.ts'
import { breakerHistory, breakerList, type BreakerState } from './scripts.ts'

export type Page = { limit: number; cursor?: string | undefined }
export type ListRequest = Page & { state?: BreakerState | undefined }
export type NamedState = { jobType: string; state: BreakerState }

/** A cursor is the last place or version that was read. */
function readCursor(cursor: string | undefined): number {
  if (cursor !== undefined && !/^\d{1,16}$/.test(cursor)) {
    throw invalidRequest([{ pointer: '?cursor', message: 'is not a cursor of this list' }])
  }
  return Number(cursor ?? 0)
}

/** Job types and states in the order of changes after `after`, as of now; forgotten ones leave the index. */
async function statesAfter({ store, keys, read }: Context, namespace: string, after: number, count: number) {
  const page = await store.run(breakerList, [keys.breakerIndex(namespace)], {
    prefix: keys.breaker(namespace, '')[0] ?? '',
    ...{ after, seen_job_type: '', seen_seq: 0, count },
  })
  const forgotten = page.entries.filter(({ record }) => record === null)
  await Promise.all(forgotten.map(({ jobType }) => read(namespace, jobType)))
  const states = page.entries.flatMap(({ jobType, record }): NamedState[] =>
    record === null ? [] : [{ jobType, state: settled(record, page.nowMs).state }],
  )
  return { states, next: page.entries.length < count ? null : (page.entries.at(-1)?.seq ?? null) }
}

/** Up to `limit` breakers of one state, or of any, after a place in the order of changes. */
async function find(context: Context, namespace: string, { state, limit, cursor }: ListRequest) {
  const found: NamedState[] = []
  let after: number | null = readCursor(cursor)
  for (let scanned = 0; after !== null && found.length < limit && scanned < limits.breakerListScanMax;) {
    const count = Math.min(limits.breakerChangesMax, limit - found.length)
    const page = await statesAfter(context, namespace, after, count)
    found.push(...page.states.filter((one) => state === undefined || one.state === state))
    after = page.next
    scanned += count
  }
  return { found, next_cursor: after === null ? null : String(after) }
}

export function createReading(context: Context) {
  const { store, keys, read, settings } = context

  /** The breaker as of now; one never seen is `closed` with 0. */
  const get = async (namespace: string, jobType: string): Promise<BreakerBody> =>
    breakerBody(jobType, settings(jobType), await read(namespace, jobType))

  /** What the breaker as of now says to the retry of a failed job. */
  async function word(namespace: string, jobType: string) {
    const { record, nowMs } = await read(namespace, jobType)
    return retryWord(record, settings(jobType).mode, nowMs)
  }

  /** Transitions and overrides, the newest first; `limits.breakerHistoryMax` are kept. */
  async function history(namespace: string, jobType: string, { limit, cursor }: Page) {
    const before = readCursor(cursor)
    await read(namespace, jobType)
    const args = { before, count: limit }
    const found = await store.run(breakerHistory, [keys.breakerHistory(namespace, jobType)], args)
    const last = found.at(-1)
    const next = found.length === limit && last !== undefined && last.version > 1 ? String(last.version) : null
    return { history: found.map(transitionBody), next_cursor: next }
  }

  /** One page of the breakers of a namespace; what changes meanwhile may come again, nothing is left out. */
  async function list(namespace: string, request: ListRequest) {
    const { found, next_cursor } = await find(context, namespace, request)
    const breakers = await Promise.all(found.map(({ jobType }) => get(namespace, jobType)))
    return { breakers, next_cursor }
  }

  /** The state of every breaker of a namespace that is remembered; at most `limits.breakerListScanMax`. */
  const states = async (namespace: string): Promise<NamedState[]> =>
    (await find(context, namespace, { limit: limits.breakerListScanMax })).found

  return { get, word, history, list, states }
}
