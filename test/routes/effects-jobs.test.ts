/** What comes with an effect: its job type's breaker, retry metrics, the audit, shadow mode. */
import t from 'tap'
import { type Answer, startApp, type TestApp } from '../helpers/app.ts'
import { redisCli } from '../helpers/redis-server.ts'

let number = 0
const unique = (name: string): string => `${name}-${process.pid}-${++number}`
const API = '/api/v1'

type Claimed = { entity: string; job: string; owner?: string; more?: object }

const claim = ({ call }: TestApp, { entity, job, owner = 'bot-1', more = {} }: Claimed): Promise<Answer> =>
  call('POST', `${API}/effects/claim`, { type: 'order_placement', entity, owner, job_type: job, ...more })

const report = ({ call }: TestApp, verb: string, entity: string, token: number, more: object = {}): Promise<Answer> =>
  call('POST', `${API}/effects/${verb}`, { type: 'order_placement', entity, fencing_token: token, ...more })

const breaker = async ({ call }: TestApp, job: string) => (await call('GET', `${API}/breakers/${job}`)).body
const override = ({ call }: TestApp, job: string, action: string) =>
  call('POST', `${API}/breakers/${job}/override`, { action, reason: 'a test', user: 'alice' })

async function totals(app: TestApp, job: string) {
  await app.services.retryMetrics.flush()
  return (await app.call('GET', `${API}/jobs/metrics/${job}`)).body.totals
}

/** How often each script has run so far, apart from those that a scrape itself runs. */
async function scriptRuns({ services }: TestApp): Promise<Map<string, number>> {
  const text = await services.metrics.registry.metrics()
  const found = [...text.matchAll(/^effectonce_store_seconds_count\{script="([^"]+)"\} (\d+)$/gm)]
  const ofScrape = new Set(['effect-count', 'breaker-list'])
  return new Map(
    found.filter(([, script = '']) => !ofScrape.has(script)).map(([, script = '', runs]) => [script, Number(runs)]),
  )
}

t.test('a claim whose breaker is closed costs no round trip more than one without a job type', async (t) => {
  const app = await startApp(t)
  const job = unique('job')
  await claim(app, { entity: unique('e'), job })
  const before = await scriptRuns(app)
  t.equal((await claim(app, { entity: unique('e'), job })).status, 201)
  const after = await scriptRuns(app)
  const grown = [...after].filter(([script, runs]) => runs !== (before.get(script) ?? 0)).map(([script]) => script)
  t.same(grown, ['effect-claim'])
})

t.test('an open breaker refuses a claim, which leaves no trace on the effect', async (t) => {
  const app = await startApp(t)
  const [job, entity] = [unique('job'), unique('e')]
  await override(app, job, 'open')
  const refused = await claim(app, { entity, job })
  t.match(refused, {
    status: 409,
    body: {
      code: 'circuit-open',
      outcome: 'circuit_open',
      breaker_state: 'open',
      requires_override: true,
      state: null,
    },
  })
  const key = `idempotency:{default:*}:effect:${String(refused.body.effect_id)}`
  t.same(await redisCli(app.redis.port, 'KEYS', key), [])
  t.equal((await totals(app, job)).blocked, 1)
})

t.test('what is known of an effect is told before its breaker is asked', async (t) => {
  const app = await startApp(t)
  const [job, done, running] = [unique('job'), unique('e'), unique('e')]
  const { fencing_token } = (await claim(app, { entity: done, job })).body
  await report(app, 'complete', done, fencing_token, { result: 1 })
  await claim(app, { entity: running, job })
  await override(app, job, 'open')
  t.match(await claim(app, { entity: done, job }), { status: 200, body: { result: 1 } })
  t.match(await claim(app, { entity: running, job }), { status: 409, body: { code: 'effect-in-progress' } })
})

t.test('while half-open one claim is the probe, and its completion closes the breaker', async (t) => {
  const app = await startApp(t)
  const [job, probe, other] = [unique('job'), unique('e'), unique('e')]
  await override(app, job, 'open')
  await override(app, job, 'half_open')
  const { fencing_token } = (await claim(app, { entity: probe, job })).body
  t.match(await claim(app, { entity: other, job }), { status: 409, body: { reason: 'no_probe_left' } })
  await report(app, 'complete', probe, fencing_token)
  t.match(await breaker(app, job), { state: 'closed' })
  t.equal((await claim(app, { entity: other, job })).status, 201)
})

t.test(
  'of two that claim one effect at a half-open breaker, the loser does not give back the permit of the winner',
  async (t) => {
    const app = await startApp(t, { config: 'retry: {circuit_breaker: {half_open_max_probes: 2}}' })
    const [job, entity] = [unique('job'), unique('e')]
    await override(app, job, 'open')
    await override(app, job, 'half_open')
    const owners = ['bot-1', 'bot-2']
    const answers = await Promise.all(owners.map((owner) => claim(app, { entity, job, owner })))
    t.same(answers.map(({ status }) => status).toSorted(), [201, 409])
    t.equal((await claim(app, { entity: unique('e'), job })).status, 201, 'the loser gives back its own')
    t.match(await claim(app, { entity: unique('e'), job }), { status: 409, body: { reason: 'no_probe_left' } })
    const granted = answers.find(({ status }) => status === 201)
    await report(app, 'complete', entity, granted?.body.fencing_token)
    t.match(await breaker(app, job), { state: 'closed' })
  },
)

t.test('a permit comes back with a release, and with the end of the lease; renew extends both', async (t) => {
  const app = await startApp(t)
  const job = unique('job')
  await override(app, job, 'open')
  await override(app, job, 'half_open')
  const first = unique('e')
  const { fencing_token } = (await claim(app, { entity: first, job })).body
  await report(app, 'release', first, fencing_token)
  const second = unique('e')
  const held = await claim(app, { entity: second, job, more: { lease_seconds: 10 } })
  t.equal(held.status, 201)
  await report(app, 'renew', second, held.body.fencing_token, { lease_seconds: 60 })
  await app.moveClock(20)
  t.match(await claim(app, { entity: unique('e'), job }), { status: 409, body: { reason: 'no_probe_left' } })
  await app.moveClock(50)
  t.equal((await claim(app, { entity: unique('e'), job })).status, 201)
})

t.test('a permit of a check becomes the claim’s that carries its probe_id', async (t) => {
  const app = await startApp(t)
  const job = unique('job')
  await override(app, job, 'open')
  await override(app, job, 'half_open')
  const { probe_id, allowed } = (await app.call('POST', `${API}/breakers/${job}/check`, {})).body
  t.equal(allowed, true)
  t.match(await claim(app, { entity: unique('e'), job }), { status: 409 })
  t.equal((await claim(app, { entity: unique('e'), job, more: { probe_id } })).status, 201)
})

t.test('failures of effects open the breaker of their job type, once per token', async (t) => {
  const app = await startApp(t, { config: 'retry: {circuit_breaker: {failure_threshold: 2}}' })
  const job = unique('job')
  const error = { message: 'read timed out', code: -1007 }
  const [first, second] = [unique('e'), unique('e')]
  const one = await claim(app, { entity: first, job })
  const two = await claim(app, { entity: second, job, owner: 'bot-2' })
  await report(app, 'fail', first, one.body.fencing_token, { error })
  const again = await report(app, 'fail', first, one.body.fencing_token, { error })
  t.match(again.body, { replayed: true, outcome: 'uncertain', retry: { breaker: { state: 'closed' } } })
  t.equal((await breaker(app, job)).failure_count, 1)
  const last = await report(app, 'fail', second, two.body.fencing_token, { error, execution: 'no', retryable: true })
  t.match(last.body, {
    outcome: 'released',
    retry: { retry: false, reason: 'circuit_open', breaker: { state: 'open' } },
  })
})

t.test('attempts from the second on feed the retry metrics, once per token', async (t) => {
  const app = await startApp(t)
  const [job, entity] = [unique('job'), unique('e')]
  const error = { message: 'slow down', code: -1003 }
  const one = (await claim(app, { entity, job })).body.fencing_token
  await report(app, 'fail', entity, one, { error })
  t.same(await totals(app, job), { attempts: 0, successes: 0, failures: 0, blocked: 0 })
  const two = (await claim(app, { entity, job, more: { claim_id: 'second' } })).body.fencing_token
  await claim(app, { entity, job, more: { claim_id: 'second' } })
  await report(app, 'fail', entity, two, { error })
  await report(app, 'fail', entity, two, { error })
  const three = (await claim(app, { entity, job })).body.fencing_token
  await report(app, 'complete', entity, three)
  await report(app, 'complete', entity, three)
  t.same(await totals(app, job), { attempts: 2, successes: 1, failures: 1, blocked: 0 })
})

t.test('a type in shadow mode is never refused for duplication, and says what it would be', async (t) => {
  const app = await startApp(t, { config: 'effects: {types: {order_placement: {mode: shadow}}}' })
  const [job, entity] = [unique('job'), unique('e')]
  const first = await claim(app, { entity, job })
  t.equal(first.body.would_be, undefined)
  const more = { lease_seconds: 77, metadata: { run: '2' } }
  const second = await claim(app, { entity, job, owner: 'bot-2', more })
  t.match(second, { status: 201, body: { outcome: 'claimed', would_be: 'in_progress', ...more } })
  t.ok(second.body.fencing_token < first.body.fencing_token, 'it can never be taken for a grant that was lost')
  t.equal((await report(app, 'complete', entity, second.body.fencing_token)).status, 409)
  t.equal((await report(app, 'complete', entity, first.body.fencing_token, { result: 7 })).status, 200)
  t.match(await claim(app, { entity, job }), { status: 201, body: { would_be: 'completed' } })
})

t.test('resolve, delete and late completions are in the audit, before and after; a refused one twice', async (t) => {
  const app = await startApp(t)
  const [job, entity] = [unique('job'), unique('e')]
  const { effect_id, fencing_token } = (await claim(app, { entity, job })).body
  const resolve = (body: object) =>
    app.call('POST', `${API}/effects/${effect_id}/resolve`, { reason: 'looked it up', user: 'alice', ...body })
  await resolve({ resolution: 'abandoned', fencing_token: fencing_token - 1 })
  const evidence = '{"orderId":  1.10}'
  const body = `{"resolution":"executed","reason":"looked it up","user":"alice","result":1,"evidence":${evidence}}`
  await app.call('POST', `${API}/effects/${effect_id}/resolve`, body)
  await app.call('POST', `${API}/effects/${effect_id}/resolve`, body)
  await report(app, 'complete', entity, fencing_token, { result: 2 })
  await report(app, 'complete', entity, fencing_token, { result: 1 })
  await app.call('DELETE', `${API}/effects/${effect_id}?reason=no+longer+needed&user=bob`)
  const listed = await app.call('GET', `${API}/audit?subject=${effect_id}`)
  t.same(
    listed.body.entries.map((entry: { action: string; user: string }) => `${entry.action} ${entry.user}`).reverse(),
    [
      'effect.resolve alice',
      'effect.resolve.refused alice',
      'effect.resolve alice',
      'effect.late_completion anonymous',
      'effect.delete bob',
    ],
  )
  t.match(listed.text, `"evidence":${evidence}`)
  t.match((await app.call('GET', `${API}/audit/verify`)).body, { ok: true })
})
