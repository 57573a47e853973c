/** The breakers as effects meet them; src/services.ts passes it on, so that the two never import each other. */
import type { Classification } from '../failures/classify.ts'
import { type Context, digest, failureFacts, type JobReport, type TellWouldBlock } from './context.ts'
import { type Refusal, refusalOf, refusalReason, retryWord, settled } from './present.ts'
import { type BreakerRecord, breakerPermit, unknownBreaker } from './scripts.ts'

export type Verdict = {
  /** `ask`: half-open, so a permit must be taken. */
  verdict: 'pass' | 'ask' | 'refuse'
  /** `mode: shadow` lets go what `enforce` would refuse. */
  wouldBlock: boolean
  refusal?: Refusal
}
export type Taken = { allowed: true } | { allowed: false; refusal: Refusal }

type PermitRequest = { permit: string; probe_id?: string | undefined; lease_ms: number }
/** `event_id` counts once. A failure of a job that began before the last opening (`begun_us`) does not count. */
type Told = Pick<JobReport, 'event_id' | 'begun_us'> & { permit: string }
type ToldFailure = Told & { owner: string; classification: Classification }

function verdictOf(record: BreakerRecord, nowMs: number): Verdict {
  const reason = refusalReason(record, nowMs)
  if (reason) return { verdict: 'refuse', wouldBlock: false, refusal: refusalOf(record, reason, nowMs) }
  return { verdict: record.state === 'half_open' ? 'ask' : 'pass', wouldBlock: false }
}

/** As of now, from the view; a disabled breaker is as one that nothing is known of. */
async function current(context: Context, namespace: string, jobType: string) {
  const disabled = context.settings(jobType).mode === 'disabled'
  const record = disabled ? unknownBreaker : await context.view.known(namespace, jobType)
  const nowMs = await context.nowMs()
  return { record: settled(record, nowMs), nowMs }
}

/** `tellWouldBlock` hears what shadow mode let go. */
export function createGate(context: Context, tellWouldBlock: TellWouldBlock) {
  /**
   * Whether a job may begin, without a round trip unless the job type is new here. A pass rests on a view of at most
   * 1 s; a refusal always on a fresh read. Problem `store-unavailable`.
   */
  async function view(namespace: string, jobType: string): Promise<Verdict> {
    const { record, nowMs } = await current(context, namespace, jobType)
    const seen = verdictOf(record, nowMs)
    if (seen.verdict !== 'refuse') return seen
    if (context.settings(jobType).mode === 'shadow') {
      tellWouldBlock(namespace, jobType, record.state, seen.refusal?.reason ?? '')
      return { verdict: 'pass', wouldBlock: true }
    }
    const fresh = await context.read(namespace, jobType)
    return verdictOf(fresh.record, fresh.nowMs)
  }

  /**
   * Takes a permit of a half-open breaker for `lease_ms`, under the name `permit`; the permit of an earlier check
   * (`probe_id`) becomes this one. The same name again has the same answer.
   */
  async function take(namespace: string, jobType: string, ask: PermitRequest): Promise<Taken> {
    const { mode } = context.settings(jobType)
    if (mode === 'disabled') return { allowed: true }
    const wanted = { permit: ask.permit, earlier: ask.probe_id, permit_ms: ask.lease_ms }
    const { allowed, reason, record, nowMs } = await context.check(namespace, jobType, wanted)
    if (allowed) return { allowed }
    if (mode === 'enforce') return { allowed, refusal: refusalOf(record, reason, nowMs) }
    tellWouldBlock(namespace, jobType, record.state, reason)
    return { allowed: true }
  }

  return {
    ...{ view, take },
    ...createOutcomes(context),
    /** Gives a permit back unused. */
    giveBack: (namespace: string, jobType: string, permit: string) =>
      changePermit(context, namespace, jobType, permit, 0),
    /** Lets a living permit live for another `leaseMs` from now; never shortens it. */
    extend: (namespace: string, jobType: string, permit: string, leaseMs: number) =>
      changePermit(context, namespace, jobType, permit, Math.max(leaseMs, 1)),
  }
}

/** Permits exist only while a breaker is half-open: while it is closed nothing is asked. */
async function changePermit(context: Context, namespace: string, jobType: string, permit: string, extendMs: number) {
  const { record } = await current(context, namespace, jobType)
  if (record.state === 'closed') return
  const args = { permit: digest(permit), extend_ms: Math.ceil(extendMs) }
  await context.store.run(breakerPermit, [context.keys.breakerPermits(namespace, jobType)], args)
}

function createOutcomes(context: Context) {
  /** Says that a job has succeeded: means something to a half-open breaker only. */
  async function succeeded(namespace: string, jobType: string, told: Told): Promise<void> {
    const { record } = await current(context, namespace, jobType)
    if (record.state === 'closed') return
    await context.report(namespace, jobType, { ...told, outcome: 'success', counts: true, hold_ms: 0 })
  }

  /** Says that a job has failed, and answers what the breaker after it says to a retry. A failure that means nothing here costs nothing. */
  async function failed(namespace: string, jobType: string, { classification, ...told }: ToldFailure) {
    const { mode } = context.settings(jobType)
    const facts = failureFacts(classification)
    const before = await current(context, namespace, jobType)
    const silent = before.record.state === 'closed' && !facts.counts && facts.hold_ms === 0
    const { record, nowMs } =
      silent || mode === 'disabled'
        ? before
        : await context.report(namespace, jobType, { ...told, ...facts, outcome: 'failure' })
    return retryWord(record, mode, nowMs)
  }

  return { succeeded, failed }
}
