/** The scripts of the audit, and one entry as Redis keeps it. */
import { defineScript } from '../redis/scripts.ts'

const textFields = [
  ...(['at', 'action', 'subject', 'user', 'on_behalf_of', 'reason', 'before', 'after', 'evidence'] as const),
  ...(['previous_hash', 'hash'] as const),
]

const known: ReadonlySet<string> = new Set(textFields)

/** One entry as it is stored: text, `''` where absent; `at` in Redis milliseconds; `id` is `<seq>-0`. */
export type StoredEntry = Record<(typeof textFields)[number], string> & { id: string; seq: number }

/** What `audit.append` in lua/prelude/audit.lua returns: seq, at, previous_hash, hash, before, after. */
export type AppendedEntry = readonly string[]

function decodeEntry([id, fields]: [string, string[]]): StoredEntry {
  const entry = { id, seq: Number.parseInt(id, 10) } as StoredEntry
  for (const name of textFields) entry[name] = ''
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = fields[at] as (typeof textFields)[number]
    if (known.has(name)) entry[name] = fields[at + 1]!
  }
  return entry
}

export const auditAppend = defineScript({
  name: 'audit-append',
  flags: ['allow-oom'],
  keys: ['log', 'head', 'nonce'],
  args: [
    ...(['action', 'subject', 'user', 'on_behalf_of', 'reason', 'evidence', 'statement', 'entries_max'] as const),
    ...(['before', 'after', 'before_digest', 'after_digest'] as const),
  ],
  decode: ([, , entry]) => entry as AppendedEntry,
})

export const auditPage = defineScript({
  name: 'audit-page',
  flags: ['no-writes'],
  keys: ['log'],
  args: ['from', 'order', 'count', 'bytes_max'],
  decode: ([, , entries]) => (entries as [string, string[]][]).map(decodeEntry),
})
