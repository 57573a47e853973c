/** One record, read from its bytes as Redis has them; lua/prelude/record.lua writes them. */
import assert from 'node:assert/strict'

/** States of an effect; `uncertain` means that nobody knows whether it happened. */
export const effectStates = ['in_progress', 'completed', 'failed', 'released', 'uncertain'] as const
export type EffectState = (typeof effectStates)[number]
export type LeasePolicy = 'hold' | 'reclaim'

/** Times are Redis milliseconds, 0 for none; absent text is `''`. */
export type EffectRecord = {
  state: EffectState
  policy: LeasePolicy
  /** The current attempt, or an earlier one since the last resolve, ended without anybody knowing. */
  doubt: boolean
  earlierDoubt: boolean
  attempt: number
  token: number
  createdAt: number
  updatedAt: number
  claimedAt: number
  leaseExpiresAt: number
  notBefore: number
  leaseMs: number
  retentionMs: number
  owner: string
  /**
   * How the last attempt ended, or what was decided since: `''`, `lease`, `release`, `complete`, `exhausted`, or `fail:`,
   * `resolve:` or `delete:` and a digest of the call; `complete` and `fail:…` with `+` behind it for a lost grant.
   */
  ended: string
  fingerprint: string
  jobType: string
  durability: string
  /** JSON text. */
  metadata: string
  /** JSON text; `''` once settled. */
  entity: string
  /** JSON text of the result (completed) or of the last error. */
  body: string
}

/** One remembered step of an effect; `at` in Redis milliseconds. */
export type EffectStep = { at: number; attempt: number; step: string; by: string; detail: string }

const version = 2
/** By their codes; what is deleted is told to nobody. */
const states = ['', ...effectStates, 'deleted'] as EffectState[]
const flags = { reclaim: 1, doubt: 2, earlierDoubt: 4, open: 16, rare: 32 }

/** Reads one field after the other. */
class Fields {
  #bytes: Buffer
  #at: number

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes
    this.#at = at
  }

  number(length: 1 | 2 | 3 | 5 | 6): number {
    this.#at += length
    return this.#bytes.readUIntLE(this.#at - length, length)
  }

  double(): number {
    this.#at += 8
    return this.#bytes.readDoubleLE(this.#at - 8)
  }

  /** Text behind its length, which has so many bytes. */
  text(lengthBytes: 1 | 2): string {
    const length = this.number(lengthBytes)
    this.skip(length)
    return length === 0 ? '' : this.#bytes.toString('utf8', this.#at - length, this.#at)
  }

  skip(length: number): void {
    this.#at += length
  }

  /** What follows, `length` bytes of it. */
  part(length: number): Fields {
    const end = this.#at + length
    assert(end <= this.#bytes.length, 'a record is whole')
    return new Fields(this.#bytes.subarray(0, end), this.#at)
  }

  more(): boolean {
    return this.#at < this.#bytes.length
  }

  rest(): string {
    return this.more() ? this.#bytes.toString('utf8', this.#at) : ''
  }
}

/** The record whose bytes begin at `at`, and its steps. */
function read(bytes: Buffer, at: number): { record: EffectRecord; history: Fields | undefined } {
  const fields = new Fields(bytes, at)
  assert.equal(fields.number(1), version, 'a record of a known version')
  const state = states[fields.number(1)] as EffectState
  const flagged = fields.number(1)
  const attempt = fields.number(2)
  const token = fields.number(6) + fields.number(1) * 2 ** 48
  const [createdAt, updatedAt] = [fields.number(6), fields.number(6)]
  const [leaseMs, retentionMs] = [fields.number(3), fields.number(5)]
  const owner = fields.text(2)
  fields.skip(fields.number(1)) // the digest of the claim
  const ended = fields.text(1)
  const record: EffectRecord = {
    state,
    policy: (flagged & flags.reclaim) === 0 ? 'hold' : 'reclaim',
    doubt: (flagged & flags.doubt) !== 0,
    earlierDoubt: (flagged & flags.earlierDoubt) !== 0,
    ...{ attempt, token, createdAt, updatedAt },
    claimedAt: Math.floor(token / 1000),
    ...{ leaseExpiresAt: 0, notBefore: 0, leaseMs, retentionMs, owner },
    ended: ended === 'c' ? 'complete' : ended,
    fingerprint: fields.text(2),
    ...{ jobType: '', durability: 'primary', metadata: '', entity: '', body: '' },
  }
  if ((flagged & flags.open) !== 0) {
    record.claimedAt = fields.number(6)
    record.leaseExpiresAt = fields.number(6)
    record.notBefore = fields.number(6)
    record.entity = fields.text(2)
  }
  let history: Fields | undefined
  if ((flagged & flags.rare) !== 0) {
    fields.skip(fields.number(1)) // past claims
    record.jobType = fields.text(1)
    record.durability = fields.text(1)
    record.metadata = fields.text(2)
    const length = fields.number(2)
    history = fields.part(length)
    fields.skip(length)
  }
  record.body = fields.rest()
  return { record, history }
}

export const decodeRecord = (bytes: Buffer, at = 0): EffectRecord => read(bytes, at).record

/** The steps of the record whose bytes begin at `at`, oldest first. */
export function decodeSteps(bytes: Buffer, at: number): EffectStep[] {
  const { history } = read(bytes, at)
  const steps: EffectStep[] = []
  while (history?.more()) {
    const [stepAt, attempt] = [history.double(), history.number(2)]
    steps.push({ at: stepAt, attempt, step: history.text(1), by: history.text(2), detail: history.text(2) })
  }
  return steps
}
