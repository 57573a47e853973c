/** Whether the audit is whole: every entry there, in order, as it was written. */
import { limits } from '../limits.ts'
import { entryHash, genesis } from './chain.ts'
import type { StoredEntry } from './scripts.ts'

/** The end of the chain as the store keeps it apart; `trimmed`: so many of the oldest entries have been let go. */
export type ChainHead = { seq: number; hash: string; trimmed: number }

/** `first_bad_seq`: the first number whose entry was edited, is missing, or is not the one that stood there. */
export type Verification = {
  ok: boolean
  entries: number
  head: { seq: number; hash: string } | null
  first_bad_seq: number | null
}

export type ChainReader = {
  head: () => Promise<ChainHead | null>
  /** Entries in order, from this number on; none at the end. */
  from: (seq: number, count: number) => Promise<StoredEntry[]>
}

/** A walk along the chain: the entry expected next, and the hash that it must continue (undefined: any). */
type Walk = { next: number; previous: string | undefined; entries: number }

const begin = (seq: number): Omit<Walk, 'entries'> => ({ next: seq, previous: seq === 1 ? genesis : undefined })

function continues(walk: Walk, entry: StoredEntry): boolean {
  if (entry.id !== `${walk.next}-0` || entryHash(entry) !== entry.hash) return false
  return walk.previous === undefined || walk.previous === entry.previous_hash
}

/** Walks to the head; answers the first bad number, or null. Entries trimmed meanwhile are not missing. */
async function follow(reader: ChainReader, head: ChainHead, walk: Walk): Promise<number | null> {
  while (walk.next <= head.seq) {
    const page = await reader.from(walk.next, limits.auditBatchMax)
    if (page[0]?.id !== `${walk.next}-0`) {
      const { trimmed } = (await reader.head()) ?? { trimmed: 0 }
      if (trimmed < walk.next) return walk.next
      Object.assign(walk, begin(trimmed + 1))
      continue
    }
    for (const entry of page) {
      if (walk.next > head.seq) break
      if (!continues(walk, entry)) return walk.next
      walk.next++
      walk.entries++
      walk.previous = entry.hash
    }
  }
  return walk.previous === undefined || walk.previous === head.hash ? null : head.seq
}

/** Entries behind the head, which no append has made. */
async function foundBehind(reader: ChainReader, seq: number): Promise<number | null> {
  const [entry] = await reader.from(seq + 1, 1)
  if (!entry) return null
  const head = await reader.head()
  return head && head.seq > seq ? null : seq + 1
}

/**
 * Reads the whole chain in bounded batches, some 25,000 entries a second. The oldest entry kept is the anchor. What
 * was cut from the end together with the head shows only against a head that was noted elsewhere, as the log does.
 */
export async function verifyChain(reader: ChainReader): Promise<Verification> {
  const head = await reader.head()
  const walk: Walk = { ...begin((head?.trimmed ?? 0) + 1), entries: 0 }
  const bad = (head && (await follow(reader, head, walk))) ?? (await foundBehind(reader, head?.seq ?? 0))
  return {
    ok: bad === null,
    entries: walk.entries,
    head: head && { seq: head.seq, hash: head.hash },
    first_bad_seq: bad,
  }
}

/**
 * Verification for callers with a deadline: a walk that takes longer goes on, and whoever asks then joins it; its verdict
 * is kept for `limits.auditVerdictMs`. `lateMs` is when a caller has gone.
 */
export function createVerify(verifyNow: (namespace: string) => Promise<Verification>, lateMs: number) {
  const late = new Map<string, Promise<Verification>>()
  return (namespace: string): Promise<Verification> => {
    const joined = late.get(namespace)
    if (joined) return joined
    const verdict = verifyNow(namespace)
    const forget = () => setTimeout(() => late.delete(namespace), limits.auditVerdictMs).unref()
    const timer = setTimeout(() => {
      late.set(namespace, verdict)
      verdict.then(forget, forget)
    }, lateMs).unref()
    const inTime = () => clearTimeout(timer)
    verdict.then(inTime, inTime)
    return verdict
  }
}
