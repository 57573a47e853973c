/** The calls about effects, short enough for tests to read as sentences. */
import { randomUUID } from 'node:crypto'
import type { Answer, TestApp } from './app.ts'

type Members = Record<string, unknown>

/** An effect that no other test has. */
export const newEffect = (type = 'order_placement') => ({ type, entity: randomUUID() })

export const rejected = { error: 'insufficient balance', execution: 'no', retryable: false } as const
export const passing = { error: 'rate limited', execution: 'no', retryable: true } as const

/** `headers` go with every call: those of an API key. */
export function effectCalls({ call }: Pick<TestApp, 'call'>, headers: Record<string, string> = {}) {
  const post = (path: string) => (body: unknown) => call('POST', `/api/v1/effects/${path}`, body, headers)
  const claimBody = post('claim')
  const claim = (body: Members) => claimBody({ owner: 'bot-1', ...body })
  return {
    claim,
    complete: post('complete'),
    fail: post('fail'),
    release: post('release'),
    renew: post('renew'),
    resolve: (effectId: string, body: unknown) => post(`${effectId}/resolve`)(body),
    remove: (effectId: string, query = 'reason=a%20test') =>
      call('DELETE', `/api/v1/effects/${effectId}?${query}`, undefined, headers),
    get: (effectId: string) => call('GET', `/api/v1/effects/${effectId}`, undefined, headers),
    list: (query = '') => call('GET', `/api/v1/effects${query}`, undefined, headers),

    /** Claims, and gives what later calls need: the effect and its token. */
    async hold(effect: Members, members: Members = {}) {
      const answer = await claim({ ...effect, ...members })
      if (answer.status !== 201) throw new Error(`not granted: ${answer.text}`)
      const { effect_id, fencing_token } = grantOf(answer)
      return { grant: grantOf(answer), held: { effect_id, fencing_token }, effect_id, fencing_token }
    },
  }
}

export type Grant = {
  effect_id: string
  fencing_token: number
  attempt: number
  reference: string
  lease_expires_at: string
  lease_remaining_seconds: number
}

const grantOf = ({ body }: Answer): Grant => body as Grant
