/** Reports of failures from many sides at once, each with an event_id that may arrive twice, until a breaker opens; then a person. */
import { randomUUID } from 'node:crypto'
import { verdictOf } from '../checker/history.ts'
import type { BreakerCall, BreakerHistory, BreakerState, Transition } from '../checker/rules/breaker.ts'
import type { Body, Send } from './caller.ts'
import type { Random } from './random.ts'

export type BreakerCrewTools = { send: Send; random: Random; nowMs: () => number; threshold: number; lossy: boolean }

const toldOf = (body: Body): { told?: BreakerCall['told'] } =>
  typeof body?.state === 'string'
    ? { told: { state: body.state as BreakerState, version: body.version, failures: body.failure_count } }
    : {}

export function createBreakerCrew({ send, random, nowMs, threshold, lossy }: BreakerCrewTools) {
  const histories = new Map<string, BreakerHistory>()

  async function call(
    job: string,
    f: BreakerCall['f'],
    path: string,
    body?: object,
    event?: string,
  ): Promise<BreakerCall> {
    const history = histories.get(job)!
    const invokedAt = nowMs()
    const made: BreakerCall = { f, invokedAt, endedAt: Infinity, verdict: 'info', ...(event ? { event } : {}) }
    history.calls.push(made)
    const answer = await send(body ? 'POST' : 'GET', `/api/v1/breakers/${job}${path}`, body)
    const told = answer && answer.status < 300 ? toldOf(answer.body) : {}
    return Object.assign(made, { endedAt: nowMs(), verdict: verdictOf(answer?.status ?? 0), ...told })
  }

  async function reportFailure(job: string): Promise<void> {
    const event_id = randomUUID()
    const report = () => call(job, 'failure', '/failure', { event_id, owner: `bot-${event_id[0]}` }, event_id)
    const { verdict } = await report()
    if (verdict === 'info' || random.chance(0.3)) await report()
  }

  /** Fewer or more failures than open it, a look, and a person who closes it. */
  async function round(job: string): Promise<void> {
    const failures = Math.floor(random.between(1, threshold * 2))
    const reports = Array.from({ length: failures }, () => reportFailure(job))
    await Promise.all([...reports, call(job, 'success', '/success', {}), call(job, 'get', '')])
    await call(job, 'get', '')
    await call(job, 'act', '/override', { action: 'close', reason: 'looked at it', user: 'anna' })
  }

  async function transitionsOf(job: string): Promise<Transition[] | undefined> {
    const answer = await send('GET', `/api/v1/breakers/${job}/history?limit=500`)
    return answer?.status === 200 ? (answer.body.history as Transition[]) : undefined
  }

  return {
    /** So many rounds for each of some job types of their own. */
    async work(jobs: number, rounds: number): Promise<void> {
      const names = Array.from({ length: jobs }, () => `job:${randomUUID()}`)
      const all = names.map(async (job) => {
        histories.set(job, { job, threshold, lossy, calls: [], transitions: [] })
        for (let done = 0; done < rounds; done++) await round(job)
      })
      await Promise.all(all)
    },
    /** With what the service remembers of each; what cannot be read is left out. */
    async histories(): Promise<BreakerHistory[]> {
      const read = [...histories.values()].map(async (history) => {
        const transitions = await transitionsOf(history.job)
        return transitions ? [{ ...history, transitions }] : []
      })
      return (await Promise.all(read)).flat()
    },
  }
}
