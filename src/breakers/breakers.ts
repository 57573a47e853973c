/**
 * Circuit breakers, one for each job type of a namespace, shared by all workers through Redis. All transitions, those
 * that only the clock makes too, happen in scripts: version +1 each, with their line of history and their event.
 */
import type { Actor } from '../auth.ts'
import { Problem } from '../problems.ts'
import {
  type BreakersDependencies,
  type Context,
  createContext,
  createWouldBlock,
  failureFacts,
  type JobReport,
  type TellWouldBlock,
} from './context.ts'
import { createGate } from './gate.ts'
import { breakerBody, type BreakerBody } from './present.ts'
import { createReading } from './reading.ts'
import { breakerOverride, type OverrideAction } from './scripts.ts'

export type { BreakersDependencies } from './context.ts'

export type Report = { probe_id?: string | undefined; owner?: string | undefined; event_id?: string | undefined }
export type OverrideRequest = {
  action: OverrideAction
  reason: string
  version?: number | undefined
  expires_in_seconds?: number | undefined
}

export function createBreakers(dependencies: BreakersDependencies) {
  const context = createContext(dependencies)
  const tellWouldBlock = createWouldBlock(context)
  return {
    ...createReading(context),
    ...createReporting(context, tellWouldBlock),
    ...createOverriding(context),
    gate: createGate(context, tellWouldBlock),
    /** Begins and ends the refreshing of the view. */
    ...{ start: context.view.start, stop: context.view.stop },
  }
}

export type Breakers = ReturnType<typeof createBreakers>

function createReporting(context: Context, tellWouldBlock: TellWouldBlock) {
  const { settings, newId } = context

  /**
   * Asks whether a job may go, always of the store. While half-open a permit is taken for `probe_timeout_seconds`
   * under `probe_id` (made if absent); the same one again has the same answer.
   */
  async function check(namespace: string, jobType: string, probeId: string | undefined) {
    const { mode, probe_timeout_seconds } = settings(jobType)
    const probe_id = probeId ?? newId()
    if (mode === 'disabled') {
      const { record } = await context.read(namespace, jobType)
      return { allowed: true, would_block: false, state: record.state, reason: 'disabled', probe_id }
    }
    const ask = { permit: probe_id, permit_ms: probe_timeout_seconds * 1000 }
    const { allowed, reason, record } = await context.check(namespace, jobType, ask)
    if (allowed || mode === 'enforce') return { allowed, would_block: false, state: record.state, reason, probe_id }
    tellWouldBlock(namespace, jobType, record.state, reason)
    return { allowed: true, would_block: true, state: record.state, reason: 'shadow', probe_id }
  }

  async function report(namespace: string, jobType: string, sent: Report, facts: Omit<JobReport, 'event_id'>) {
    const { probe_id: permit, owner, event_id = newId() } = sent
    const reply = await context.report(namespace, jobType, { ...facts, permit, owner, event_id })
    return breakerBody(jobType, settings(jobType), reply)
  }

  /** Reports that a job went well, and answers the breaker after it. */
  const success = (namespace: string, jobType: string, sent: Report): Promise<BreakerBody> =>
    report(namespace, jobType, sent, { outcome: 'success', counts: true, hold_ms: 0 })

  /** Reports a failure, and answers the breaker after it. One without an error counts. */
  async function failure(namespace: string, jobType: string, { error, ...sent }: Report & { error?: unknown }) {
    const facts =
      error === undefined ? { counts: true, hold_ms: 0 } : failureFacts(context.classify(error, await context.nowMs()))
    return report(namespace, jobType, sent, { ...facts, outcome: 'failure' })
  }

  return { check, success, failure }
}

type Act = Omit<OverrideRequest, 'action'> & { action: OverrideAction | 'reset' }

function createOverriding(context: Context) {
  const { store, keys, audit } = context

  async function act(namespace: string, jobType: string, request: Act, actor: Actor): Promise<BreakerBody> {
    const { action, reason, version, expires_in_seconds } = request
    const named = action === 'reset' ? 'breaker.reset' : 'breaker.override'
    const entry = audit.entryArgs({ action: named, subject: `breaker:${jobType}`, ...actor, reason })
    const auditKeys = [keys.audit(namespace), keys.auditHead(namespace), keys.auditNonce(namespace, context.newId())]
    const reply = await store.run(breakerOverride, [...keys.breaker(namespace, jobType), ...auditKeys], {
      settings: context.settingsText(jobType),
      action,
      version: version ?? '',
      ends_ms: Math.ceil((expires_in_seconds ?? 0) * 1000),
      audit_entry: JSON.stringify(entry),
    })
    context.noted(namespace, jobType, reply)
    if (reply.entry === null) {
      const detail = `The breaker is at version ${reply.record.version}.`
      throw new Problem('version-conflict', detail, { job_type: jobType, version: reply.record.version })
    }
    audit.tell(namespace, entry, reply.entry)
    return breakerBody(jobType, context.settings(jobType), reply)
  }

  return {
    /**
     * A person's word. It counts as a transition even where the state stays; all but `open` end a hold, and `close`
     * empties the window. Problem `version-conflict` if `version` is given and not the breaker's.
     */
    override: (namespace: string, jobType: string, request: OverrideRequest, actor: Actor) =>
      act(namespace, jobType, request, actor),

    /** Closed and empty. */
    reset: (namespace: string, jobType: string, { reason }: { reason: string }, actor: Actor) =>
      act(namespace, jobType, { action: 'reset', reason }, actor),
  }
}
