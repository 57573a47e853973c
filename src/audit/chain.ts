/**
 * How entries are chained, so that anybody can check it: `hash` is the hex SHA-256 of these lines, joined by `\n`:
 * `previous_hash`, `seq`, `at` in milliseconds, `statement`, `before`, `after`. `statement` is the hex SHA-256 of the JSON
 * text of `[action, subject, user, on_behalf_of, reason, evidence]`, evidence being its text and absent members `""`. A state
 * is its JSON text, or the hex SHA-256 of it if that is longer than 256 bytes. lua/prelude/audit.lua does the same.
 */
import { hash } from 'node:crypto'
import { limits } from '../limits.ts'
import type { StoredEntry } from './scripts.ts'

/** `previous_hash` of the first entry of all. */
export const genesis = '0'.repeat(64)

type Statement = Pick<StoredEntry, 'action' | 'subject' | 'user' | 'on_behalf_of' | 'reason' | 'evidence'>

export const statementDigest = (entry: Statement): string =>
  hash(
    'sha256',
    JSON.stringify([entry.action, entry.subject, entry.user, entry.on_behalf_of, entry.reason, entry.evidence]),
  )

/** The digest that stands for a state in the chain, or `''` where its text does. */
export const stateDigest = (text: string): string =>
  Buffer.byteLength(text) > limits.auditChainedBytesMax ? hash('sha256', text) : ''

const chained = (text: string): string => stateDigest(text) || text

/** The hash that an entry must have. */
export function entryHash(entry: StoredEntry): string {
  const states = [chained(entry.before), chained(entry.after)]
  return hash(
    'sha256',
    [entry.previous_hash, String(entry.seq), entry.at, statementDigest(entry), ...states].join('\n'),
  )
}
