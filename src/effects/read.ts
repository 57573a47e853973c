/** Looking at effects: one record, the list of those in flight, and how many there are. */
import { leaseClock } from '../redis/witness.ts'
import { limits } from '../limits.ts'
import { invalidRequest } from '../problems.ts'
import { type Context, type EffectName, notFound } from './context.ts'
import { historyBody, recordBody, type Subject } from './present.ts'
import { effectCount, effectExpire, effectList, effectRead, type EffectRecord, type IndexEntry } from './scripts.ts'

export const listedStates = ['in_progress', 'uncertain'] as const
type ListedState = (typeof listedStates)[number]

export type ListRequest = {
  state?: ListedState | undefined
  type?: string | undefined
  owner?: string | undefined
  limit: number
  cursor?: string | undefined
}

/** Where a page begins: in a bucket, after the entry with this score and id. */
type Position = { bucket: number; score: string; id: string }

/** Scores are whole milliseconds, written as Redis takes them. */
const scorePattern = /^(-inf|\d{1,16})$/

function isPosition([bucket, score, id]: unknown[]): boolean {
  const inRange = Number.isInteger(bucket) && (bucket as number) >= 0 && (bucket as number) < limits.buckets
  return inRange && typeof score === 'string' && scorePattern.test(score) && typeof id === 'string' && id.length < 200
}

const writeCursor = ({ bucket, score, id }: Position): string =>
  Buffer.from(JSON.stringify([bucket, score, id])).toString('base64url')

function readCursor(cursor: string | undefined): Position {
  if (cursor === undefined) return { bucket: 0, score: '-inf', id: '' }
  try {
    const parts = JSON.parse(Buffer.from(cursor, 'base64url').toString()) as unknown[]
    const [bucket, score, id] = parts as [number, string, string]
    if (isPosition(parts)) return { bucket, score, id }
  } catch {
    // Falls through to the refusal.
  }
  throw invalidRequest([{ pointer: '?cursor', message: 'is not a cursor of this list' }])
}

/** A silent holder under `hold` is uncertain at once, swept or not; a step of the clock makes nobody silent. */
function listedState(context: Context, key: string, record: EffectRecord, nowMs: number): string {
  const { state, policy, leaseExpiresAt, updatedAt } = record
  if (state !== 'in_progress' || nowMs < leaseExpiresAt) return state
  const movedMs = context.store.witness(key)?.leaseMovedMs(updatedAt) ?? 0
  if (nowMs < leaseExpiresAt + movedMs) return state
  return policy === 'hold' ? 'uncertain' : 'released'
}

/** Whoever looks at a silent holder first settles it and tells the world. */
async function settleSilent(context: Context, subject: Subject, effectKeys: readonly string[]): Promise<void> {
  const reply = await context.store.run(effectExpire, effectKeys, { effect_id: subject.effectId, ...leaseClock })
  if (reply.status === 'expired' && reply.record.state === 'uncertain') {
    context.tellUncertain(subject, reply.record, 'lease_expired')
  }
}

/** The record with its history. Problem `effect-not-found`. */
export async function get(context: Context, namespace: string, name: EffectName) {
  const located = context.locate(namespace, name)
  const { keys: effectKeys } = located
  const read = () => context.store.run(effectRead, [effectKeys[0]], {})
  let reply = await read()
  const subject = await context.subject(namespace, located)
  if (
    reply.status === 'found' &&
    listedState(context, effectKeys[0], reply.record, reply.nowUs / 1000) !== reply.record.state
  ) {
    await settleSilent(context, subject, effectKeys)
    reply = await read()
  }
  if (reply.status === 'not_found') throw notFound(subject)
  return { ...recordBody(subject, reply.record), history: historyBody(reply.history) }
}

function page(context: Context, namespace: string, { bucket, score, id }: Position, count: number) {
  const prefix = context.keys.effect(namespace, bucket, '').effect
  const args = { prefix, after_score: score, after_id: id, count }
  return context.store.run(effectList, [context.keys.inflight(namespace, bucket)], args)
}

/** One page, and whether its bucket ends there: only an empty page says so, for a record may have gone since. */
async function pageAndEnd(context: Context, namespace: string, position: Position) {
  const found = await page(context, namespace, position, limits.listPageMax)
  const last = found.entries.at(-1)
  if (last === undefined) return { ...found, ended: true }
  if (found.entries.length === limits.listPageMax) return { ...found, ended: false }
  const behind = { bucket: position.bucket, score: last.score, id: last.effectId }
  const rest = await page(context, namespace, behind, 1)
  return { ...found, ended: rest.entries.length === 0 }
}

type PageAndEnd = Awaited<ReturnType<typeof pageAndEnd>>

/**
 * The first pages of this bucket and those behind it. One after the other, 256 buckets of a Redis that is 10 ms away would
 * take longer than a call may.
 */
async function firstPages(context: Context, namespace: string, from: number): Promise<Map<number, PageAndEnd>> {
  const count = Math.min(limits.listBucketsAtOnce, limits.buckets - from)
  const buckets = Array.from({ length: count }, (_, index) => from + index)
  const read = (bucket: number) => pageAndEnd(context, namespace, { bucket, score: '-inf', id: '' })
  return new Map(await Promise.all(buckets.map(async (bucket) => [bucket, await read(bucket)] as const)))
}

const chosen = (request: ListRequest, { effectId, record }: IndexEntry, state: string): boolean =>
  (request.state === undefined ? listedStates.some((listed) => listed === state) : state === request.state) &&
  (request.type === undefined || effectId.startsWith(`${request.type}.`)) &&
  (request.owner === undefined || record.owner === request.owner)

/**
 * One page of the effects that are in progress or uncertain, bucket by bucket. A page may hold fewer than `limit`
 * although more follow: after `limits.listScanMax` entries it ends, and `next_cursor` goes on.
 */
export async function list(context: Context, namespace: string, request: ListRequest) {
  const effects: ReturnType<typeof recordBody>[] = []
  let position = readCursor(request.cursor)
  let ahead = new Map<number, PageAndEnd>()
  for (let scanned = 0; position.bucket < limits.buckets && scanned < limits.listScanMax;) {
    const { bucket, id } = position
    if (id === '' && !ahead.has(bucket)) ahead = await firstPages(context, namespace, bucket)
    const first = id === '' ? ahead.get(bucket) : undefined
    const { nowUs, entries, ended } = first ?? (await pageAndEnd(context, namespace, position))
    for (const entry of entries) {
      const key = context.keys.inflight(namespace, bucket)
      const state = listedState(context, key, entry.record, nowUs / 1000)
      position = { bucket, score: entry.score, id: entry.effectId }
      if (!chosen(request, entry, state)) continue
      const subject = { namespace, effectId: entry.effectId, nowMs: nowUs / 1000 }
      effects.push({ ...recordBody(subject, entry.record), state: state as EffectRecord['state'] })
      if (effects.length === request.limit) return { effects, next_cursor: writeCursor(position) }
    }
    scanned += entries.length
    if (ended) position = { bucket: bucket + 1, score: '-inf', id: '' }
  }
  return { effects, next_cursor: position.bucket < limits.buckets ? writeCursor(position) : null }
}

/** How many effects are in progress and uncertain, by type; in slices, so that no script takes long. */
export async function count(
  context: Context,
  namespace: string,
): Promise<Map<string, { in_progress: number; uncertain: number }>> {
  const totals = new Map<string, { in_progress: number; uncertain: number }>()
  async function countBucket(inflight: string, offset: number): Promise<void> {
    const slice = await context.store.run(effectCount, [inflight], { offset, count: limits.countSliceMax })
    for (const { type, state, count: number } of slice.counts) {
      const total = totals.get(type) ?? { in_progress: 0, uncertain: 0 }
      total[state] += number
      totals.set(type, total)
    }
    if (slice.scanned === limits.countSliceMax) await countBucket(inflight, offset + limits.countSliceMax)
  }
  await Promise.all(context.keys.allInflight(namespace).map((inflight) => countBucket(inflight, 0)))
  return totals
}
