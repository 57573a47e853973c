/** The audit: no entry is missing, edited or moved, and no act is without one. */
import { createHash } from 'node:crypto'
import type { History } from '../history.ts'

export type AuditEntry = {
  seq: number
  at: string
  action: string
  subject: string
  user: string
  on_behalf_of: string | null
  reason: string | null
  before: unknown
  after: unknown
  evidence: unknown
  previous_hash: string
  hash: string
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex')
const textOf = (value: unknown): string => (value === null ? '' : JSON.stringify(value))

/** A state over 256 bytes stands in the chain by its digest. */
const chained = (value: unknown): string => {
  const text = textOf(value)
  return Buffer.byteLength(text) > 256 ? sha256(text) : text
}

/** The hash that an entry must have, as the contract of the audit describes it. */
export function hashOf(entry: Omit<AuditEntry, 'hash'>): string {
  const { action, subject, user, on_behalf_of, reason, evidence } = entry
  const statement = sha256(JSON.stringify([action, subject, user, on_behalf_of ?? '', reason ?? '', textOf(evidence)]))
  const at = String(Date.parse(entry.at))
  const lines = [entry.previous_hash, String(entry.seq), at, statement, chained(entry.before), chained(entry.after)]
  return sha256(lines.join('\n'))
}

/** `entries` are all of them, newest first, from the first one on. */
export function chainIsWhole(entries: AuditEntry[]): string[] {
  const inOrder = entries.toReversed()
  return inOrder.flatMap((entry, index) => {
    const previous = inOrder[index - 1]?.hash ?? '0'.repeat(64)
    return [
      ...(entry.seq === index + 1 ? [] : [`entry ${index + 1} has the number ${entry.seq}`]),
      ...(entry.previous_hash === previous ? [] : [`entry ${entry.seq} does not continue the one before it`]),
      ...(entry.hash === hashOf(entry) ? [] : [`entry ${entry.seq} is not what its hash says`]),
    ]
  })
}

/** What was acknowledged, or told as an event, stands in the audit. */
export function actsAreAudited(entries: AuditEntry[], { effects }: History): string[] {
  const written = new Set(entries.map(({ action, subject }) => `${action} ${subject}`))
  return [...effects.values()].flatMap(({ effect, calls, sights }) => {
    const resolved = calls.some(({ f, verdict }) => f === 'resolve' && verdict === 'ok')
    const late = sights.some(({ f }) => f === 'late_completion')
    return [
      ...(resolved && !written.has(`effect.resolve ${effect}`) ? [`${effect} was resolved without an entry`] : []),
      ...(late && !written.has(`effect.late_completion ${effect}`) ? [`${effect} was late without an entry`] : []),
    ]
  })
}
