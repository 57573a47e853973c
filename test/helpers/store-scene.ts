/** What every test about a store in trouble says: calls answer in time, say why they refuse, and recover without help. */
import type { Test } from 'tap'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Answer, type AppOptions, startApp, type TestApp } from './app.ts'
import { effectCalls, newEffect, rejected } from './effects.ts'
import { type Reply, waitFor } from './redis-server.ts'

/** Every call answers within this. */
const answerMsMax = 3000
/** Within which whatever was broken serves again without help. */
const recoveryMsMax = 20_000

export type Scene = TestApp & ReturnType<typeof effectCalls>

/** A service on whatever `options` name. */
export async function startScene(t: Test, options: AppOptions): Promise<Scene> {
  const app = await startApp(t, options)
  return { ...app, ...effectCalls(app) }
}

/** How long this process was not run when it could have been, since the call: that says nothing of the service. */
function watchLateness(): () => number {
  const tickMs = 20
  let lastMs = performance.now()
  let lateMs = 0
  const timer = setInterval(() => {
    const nowMs = performance.now()
    lateMs += Math.max(0, nowMs - lastMs - 2 * tickMs)
    lastMs = nowMs
  }, tickMs)
  return () => {
    clearInterval(timer)
    return lateMs + Math.max(0, performance.now() - lastMs - 2 * tickMs)
  }
}

/** The answer of a call, which has come in time. */
export async function inTime(t: Test, call: Promise<Answer>): Promise<Answer> {
  const startMs = performance.now()
  const lateMs = watchLateness()
  const answer = await call
  const tookMs = performance.now() - startMs - lateMs()
  t.ok(tookMs < answerMsMax, `answered after ${Math.round(tookMs)} ms`)
  return answer
}

/** That a call is refused because of the store, and for which reason. */
export async function refused(t: Test, call: Promise<Answer>, reason: string | RegExp): Promise<void> {
  const { status, body, headers } = await inTime(t, call)
  t.equal(status, 503)
  t.match(body, { code: 'store-unavailable', type: '/problems/store-unavailable' })
  t.match(body.reason, reason)
  t.ok(Number(headers['retry-after']) >= 1, 'with Retry-After')
}

/** Waits until claims are granted again; until then they are refused because of the store, never for a fault of ours. */
export async function recovered(t: Test, { claim }: Pick<Scene, 'claim'>, effect = newEffect): Promise<void> {
  const status = await waitFor(async () => {
    const answer = await inTime(t, claim(effect()))
    if (answer.status !== 201) t.equal(answer.status, 503, answer.text)
    return answer.status === 201 && answer.status
  }, recoveryMsMax)
  t.equal(status, 201, 'without help')
}

/** A reader of the event stream; gives its text so far. */
export async function readEvents(t: Test, { app }: Scene): Promise<() => string> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo
  const request = http.get({ port, host: '127.0.0.1', path: '/api/v1/events', agent: false })
  t.teardown(() => request.destroy())
  let text = ''
  request.on('error', () => undefined)
  request.on('response', (response) => response.setEncoding('utf8').on('data', (piece: string) => (text += piece)))
  await waitFor(() => text !== '')
  return () => text
}

async function effectsJourney(t: Test, at: Scene): Promise<void> {
  const { effect_id, held } = await at.hold(newEffect())
  t.equal((await at.renew(held)).status, 200)
  t.match(await at.complete({ ...held, result: { order: 1 } }), { status: 200, body: { outcome: 'completed' } })
  t.match(await at.claim({ effect_id }), { status: 200, body: { replayed: true, result: { order: 1 } } })
  const failing = await at.hold(newEffect())
  t.match(await at.fail({ ...failing.held, ...rejected }), { status: 200, body: { outcome: 'failed' } })
  const effect = newEffect()
  const free = await at.hold(effect)
  t.equal((await at.release(free.held)).status, 200)
  const again = await at.hold(effect)
  t.ok(again.fencing_token > free.fencing_token, 'tokens rise')
  t.match(await at.complete(free.held), { status: 409, body: { code: 'stale-token' } })
  t.equal((await at.remove(effect_id)).status, 204)
}

/** Silent holders in many slots: the sweep finds them, the list and the counts tell of them, a person settles one. */
async function sweepJourney(t: Test, at: Scene): Promise<void> {
  const silent = await Promise.all(Array.from({ length: 24 }, () => at.hold(newEffect(), { lease_seconds: 0.1 })))
  const uncertain = () => at.events.filter(({ event }) => event === 'effect.uncertain').length
  await waitFor(() => uncertain() >= silent.length, 20_000)
  const listed = (await at.list('?state=uncertain&limit=500')).body.effects as { effect_id: string }[]
  const known = new Set(listed.map(({ effect_id }) => effect_id))
  t.ok(
    silent.every(({ effect_id }) => known.has(effect_id)),
    'all are listed',
  )
  await waitFor(async () => {
    const { effects } = (await at.call('GET', '/api/v1/system')).body
    return effects?.order_placement?.uncertain >= silent.length
  }, 20_000)
  const executed = { resolution: 'executed', reason: 'looked at the exchange', result: 1 }
  t.match(await at.resolve(silent[0]!.effect_id, executed), { status: 200, body: { state: 'completed' } })
}

async function breakerJourney(t: Test, at: Scene): Promise<void> {
  const url = (call: string) => `/api/v1/breakers/journey/${call}`
  const failures = Array.from({ length: 10 }, () => at.call('POST', url('failure'), {}))
  t.ok((await Promise.all(failures)).every(({ status }) => status === 200))
  t.match(await at.claim({ ...newEffect(), job_type: 'journey' }), { status: 409, body: { code: 'circuit-open' } })
  t.equal((await at.call('POST', url('override'), { action: 'close', reason: 'a test' })).status, 200)
  t.equal((await at.claim({ ...newEffect(), job_type: 'journey' })).status, 201)
}

/**
 * Everything that the service keeps, once: effects, the sweep, lists and counts, breakers, retries, the audit, the event
 * stream. It needs `background` and a namespace that nobody else uses.
 */
export async function journey(t: Test, at: Scene): Promise<void> {
  const events = await readEvents(t, at)
  await effectsJourney(t, at)
  await sweepJourney(t, at)
  await breakerJourney(t, at)
  const { entries } = (await at.call('GET', '/api/v1/audit')).body as { entries: { action: string }[] }
  const actions = new Set(entries.map(({ action }) => action))
  t.ok(actions.has('effect.resolve') && actions.has('breaker.override'), [...actions].join())
  t.match((await at.call('GET', '/api/v1/audit/verify')).body, { ok: true })
  t.equal((await at.call('GET', '/api/v1/jobs/metrics')).status, 200)
  await waitFor(() => events().includes('effect.uncertain') && events().includes('breaker.opened'), 10_000)
}

/** The number of a field of INFO. */
export const infoNumber = (reply: Reply, field: string): number =>
  Number(new RegExp(`^${field}[:=](\\d+)`, 'm').exec(String(reply))?.[1] ?? 0)
