/** The calls of workers and reconcilers, each recorded in the history before it is sent and when it is answered. */
import type { CallName, Recorder, Sent, Told } from '../checker/history.ts'

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- answers of every shape
export type Body = any

/** One request; undefined where no answer came. */
export type Send = (method: string, path: string, body?: unknown) => Promise<{ status: number; body: Body } | undefined>

/** `told.status` 0: nobody knows whether it happened. */
export type Answer = { told: Told; body: Body }

const instant = (text: unknown): number | undefined => (typeof text === 'string' ? Date.parse(text) : undefined)

function without<T extends object>(members: T): T {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined && value !== null)) as T
}

function toldOf(answer: { status: number; body: Body } | undefined): Told {
  if (!answer) return { status: 0 }
  const { status, body = {} } = answer
  return without({
    status,
    code: body.code,
    outcome: body.outcome,
    state: body.state,
    token: body.fencing_token,
    attempt: body.attempt,
    reference: body.reference,
    replayed: body.replayed,
    recovered: body.recovered,
    claimed_at: instant(body.claimed_at),
    lease_expires_at: instant(body.lease_expires_at),
    result: body.result === undefined || body.result === null ? undefined : JSON.stringify(body.result),
  }) as Told
}

export type Claim = {
  owner: string
  claim_id: string
  lease_seconds: number
  on_lease_expiry: 'hold' | 'reclaim'
  job_type?: string
  wait_seconds?: number
  result?: unknown
}

export type Effect = { effect_id: string; type: string; entity: string }

type Failure = { error: unknown; execution: string; retryable: boolean }
type Resolution = { resolution: string; reason: string; evidence?: unknown; result?: unknown; fencing_token: number }

const text = (result: unknown): { result?: string } => (result === undefined ? {} : { result: JSON.stringify(result) })

export function createCaller(recorder: Recorder, send: Send) {
  async function call(f: CallName, effect: string, sent: Sent, ...request: Parameters<Send>): Promise<Answer> {
    return recorder.call(f, effect, sent, async () => {
      const answer = await send(...request)
      return { told: toldOf(answer), body: answer?.body }
    })
  }
  const post = (f: CallName, effect_id: string, sent: Sent, body: object) =>
    call(f, effect_id, sent, 'POST', `/api/v1/effects/${f}`, body)

  return {
    send,
    claim({ effect_id, type, entity }: Effect, claim: Claim) {
      const { owner, claim_id, lease_seconds, on_lease_expiry: policy, result, job_type } = claim
      const sent = { owner, claim: claim_id, lease_ms: lease_seconds * 1000, policy, ...text(result), job_type }
      return post('claim', effect_id, without(sent) as Sent, { type, entity, ...claim })
    },
    complete: (effect_id: string, fencing_token: number, result: unknown) =>
      post('complete', effect_id, { token: fencing_token, ...text(result) }, { effect_id, fencing_token, result }),
    fail: (effect_id: string, fencing_token: number, { error, execution, retryable }: Failure) =>
      post(
        'fail',
        effect_id,
        { token: fencing_token, execution, retryable },
        {
          ...{ effect_id, fencing_token, error, execution, retryable },
        },
      ),
    release: (effect_id: string, fencing_token: number) =>
      post('release', effect_id, { token: fencing_token }, { effect_id, fencing_token, reason: 'not now' }),
    renew: (effect_id: string, fencing_token: number, lease_seconds: number) =>
      post(
        'renew',
        effect_id,
        { token: fencing_token, lease_ms: lease_seconds * 1000 },
        {
          ...{ effect_id, fencing_token, lease_seconds },
        },
      ),
    resolve(effect_id: string, body: Resolution) {
      const sent = { resolution: body.resolution, token: body.fencing_token, ...text(body.result) }
      return call('resolve', effect_id, sent, 'POST', `/api/v1/effects/${effect_id}/resolve`, body)
    },
    get: (effect_id: string) => call('get', effect_id, {}, 'GET', `/api/v1/effects/${effect_id}`),
  }
}

export type Caller = ReturnType<typeof createCaller>
