/**
 * Breakers against a model of the contract (`breakers-model.ts`): random reports, checks, claims and acts of persons, one
 * after the other and interleaved script by script, through HTTP and the real scripts on a real Redis. Every run prints its
 * seed; `replay.ts` says how to run it again. A counterexample that was found stays below as a test of its own.
 */
import t, { type Test } from 'tap'
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { type Answer, startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls } from '../helpers/effects.ts'
import {
  clockStep,
  type ErrorKind,
  holdSeconds,
  lasting,
  type Operation,
  type Settings,
  start,
  type State,
  step,
} from './breakers-model.ts'
import { Send } from './clients.ts'
import { createRecorder, describe, explain, takeTurns, turnsOf, warmed } from './histories.ts'
import { commandSettings, holds } from './replay.ts'

/** An operation before names are given: `event` 0 is a new one, others count back; `job` counts back among running attempts. */
type Plan =
  | { kind: 'check'; probe: string }
  | { kind: 'failure'; owner: string; event: number; probe?: string; error: ErrorKind }
  | { kind: 'success'; event: number; probe?: string }
  | { kind: 'override'; action: 'half_open' | 'close' | 'open'; looked?: number; expires?: number }
  | { kind: 'reset' | 'get' }
  | { kind: 'move'; seconds: number }
  | { kind: 'claim'; lease: number; probe?: string }
  | { kind: 'complete' | 'release'; job: number }
  | { kind: 'fail'; job: number; error: 'counting' | 'harmless' }
  | { kind: 'renew'; job: number; lease: number }

const probe = fc.constantFrom('p', 'q', 'r')
const event = fc.constantFrom(0, 0, 0, 0, 1, 4)
const lease = fc.constantFrom(lasting(0), lasting(2))
const job = fc.nat(1)
const kind = <Kind extends string>(name: Kind) => fc.constant(name)
const optionally = { requiredKeys: [] as never[] }

const failures = fc
  .tuple(
    fc.record({
      ...{ kind: kind('failure'), owner: fc.constantFrom('a', 'b'), event },
      error: fc.constantFrom(
        'none' as const,
        'counting' as const,
        'counting' as const,
        'harmless' as const,
        'hold' as const,
      ),
    }),
    fc.record({ probe }, optionally),
  )
  .map(([failure, named]) => ({ ...failure, ...named }))
const successes = fc
  .tuple(fc.record({ kind: kind('success'), event }), fc.record({ probe }, optionally))
  .map(([success, named]) => ({ ...success, ...named }))
const overrides = fc.oneof(
  fc.record(
    {
      ...{ kind: kind('override'), looked: fc.constantFrom(0, 0, 1) },
      action: fc.constantFrom('half_open' as const, 'half_open' as const, 'close' as const, 'open' as const),
    },
    { requiredKeys: ['kind', 'action'] },
  ),
  fc.record({ kind: kind('override'), action: fc.constant('open' as const), expires: fc.constant(lasting(3)) }),
)
const jobs = [
  fc.record({ kind: kind('claim'), lease, probe }, { requiredKeys: ['kind', 'lease'] }),
  fc.record({ kind: fc.constantFrom('complete' as const, 'release' as const), job }),
]
const attempts = [
  fc.record({ kind: kind('fail'), job, error: fc.constantFrom('counting' as const, 'harmless' as const) }),
  fc.record({ kind: kind('renew'), job, lease }),
]
const moves = fc.record({
  kind: kind('move'),
  seconds: fc.constantFrom(1, 1, 2, 2, 7).map((steps) => steps * clockStep),
})
const checks = fc.record({ kind: kind('check'), probe })
const plans = [
  ...[failures, failures, successes, successes, checks, checks, overrides, overrides, ...jobs, ...jobs, moves],
  fc.record({ kind: fc.constantFrom('reset' as const, 'get' as const, 'get' as const, 'get' as const) }),
] as fc.Arbitrary<Plan>[]

const venues: Settings[] = [
  {
    ...{ threshold: 3, distinctOwners: 1, window: lasting(15), recovery: lasting(6), probes: 2, successes: 2 },
    probeTimeout: lasting(1),
  },
  {
    ...{ threshold: 2, distinctOwners: 2, window: lasting(5), recovery: null, probes: 1, successes: 1 },
    probeTimeout: lasting(1),
  },
]

const configOf = (settings: Settings) => {
  const circuit_breaker = {
    failure_threshold: settings.threshold,
    min_distinct_owners: settings.distinctOwners,
    time_window_minutes: settings.window / 60,
    auto_recovery_seconds: settings.recovery,
    half_open_max_probes: settings.probes,
    half_open_successes: settings.successes,
    probe_timeout_seconds: settings.probeTimeout,
  }
  return JSON.stringify({ retry: { circuit_breaker } })
}

const errors = {
  none: {},
  counting: { error: { message: 'Service unavailable', exchange: 'binance', http_status: 503 } },
  harmless: { error: { code: -2010, exchange: 'binance', message: 'Account has insufficient balance.' } },
  hold: { error: { code: -1003, exchange: 'binance', retry_after_seconds: holdSeconds } },
}
const named = (probe: string | undefined) => (probe === undefined ? {} : { probe_id: probe })
const nothing: Answer = { status: 204, headers: {}, body: undefined, text: '' }
const reason = 'a test says so'

/** A claim looks at its breaker first and is granted after that: the clock does not move between, or it had two times. */
function clockBetweenClaims(app: TestApp) {
  const claims = new Set<Promise<unknown>>()
  let moved = Promise.resolve()
  return {
    move(seconds: number): Promise<void> {
      moved = moved.then(() => Promise.allSettled(claims)).then(() => app.moveClock(seconds))
      return moved
    },
    async still<Told>(claim: () => Promise<Told>): Promise<Told> {
      await moved
      const told = claim()
      claims.add(told)
      return told.finally(() => claims.delete(told))
    },
  }
}

/** Sends an operation on one breaker, or on an effect with its job type, as HTTP has it. */
function senderOf(app: TestApp, job_type: string) {
  const effects = effectCalls(app)
  const post = (path: string, body: object) => app.call('POST', `/api/v1/breakers/${job_type}/${path}`, body)
  const tokens = new Map<string, number>()
  const held = (entity: string) => ({ type: 'order_placement', entity, fencing_token: tokens.get(entity) })

  const clock = clockBetweenClaims(app)

  async function claim({ effect, lease, probe }: Operation & { kind: 'claim' }): Promise<Answer> {
    const members = { job_type, lease_seconds: lease, ...named(probe) }
    const answer = await effects.claim({ type: 'order_placement', entity: effect, ...members })
    if (answer.status === 201) tokens.set(effect, Number(answer.body.fencing_token))
    // A grant and an opening within one millisecond could not be told apart.
    await app.moveClock(0.002)
    return answer
  }

  return async (operation: Operation): Promise<Answer> => {
    switch (operation.kind) {
      case 'check':
        return post('check', { probe_id: operation.probe })
      case 'failure': {
        const { owner, event, probe, error } = operation
        return post('failure', { owner, event_id: event, ...named(probe), ...errors[error] })
      }
      case 'success':
        return post('success', { event_id: operation.event, ...named(operation.probe) })
      case 'override': {
        const { action, version, expires } = operation
        const seen = version === undefined ? {} : { version }
        const ends = expires === undefined ? {} : { expires_in_seconds: expires }
        return post('override', { action, reason, ...seen, ...ends })
      }
      case 'reset':
        return post('reset', { reason })
      case 'get':
        return app.call('GET', `/api/v1/breakers/${job_type}`)
      case 'move':
        await clock.move(operation.seconds)
        return nothing
      case 'claim':
        return clock.still(() => claim(operation))
      case 'complete':
        return effects.complete(held(operation.effect))
      case 'release':
        return effects.release(held(operation.effect))
      case 'renew':
        return effects.renew({ ...held(operation.effect), lease_seconds: operation.lease })
      case 'fail':
        return effects.fail({
          ...held(operation.effect),
          execution: 'no',
          retryable: false,
          ...errors[operation.error],
        })
    }
  }
}

/** One breaker, as workers and people meet it. */
function meetBreaker(app: TestApp, settings: Settings) {
  const job_type = `job.${randomUUID()}`
  const send = senderOf(app, job_type)
  const { record, ...recorded } = createRecorder<Operation>()
  const eventsBefore = app.events.length
  const running: string[] = []
  let version = 0
  const events: string[] = []

  function nameEvent(event: number): string {
    const known = events.at(-event)
    if (event !== 0 && known !== undefined) return known
    events.push(randomUUID())
    return events.at(-1) as string
  }

  /** With the names that are known now; undefined where no attempt runs. */
  function operationOf(plan: Plan): Operation | undefined {
    if (plan.kind === 'override') {
      const { looked, ...override } = plan
      return looked === undefined ? override : { ...override, version: version + looked }
    }
    if ('event' in plan) return { ...plan, event: nameEvent(plan.event) }
    if (plan.kind === 'claim') return { ...plan, effect: randomUUID() }
    if (!('job' in plan)) return plan
    const { job, ...report } = plan
    const effect = running.at(-1 - job)
    if (effect === undefined) return undefined
    // Whoever has reported does not do it again.
    if (report.kind !== 'renew') running.splice(running.indexOf(effect), 1)
    return { ...report, effect }
  }

  async function act(plan: Plan): Promise<void> {
    const operation = operationOf(plan)
    if (!operation) return
    const { status, body } = await record(operation, () => send(operation))
    if (operation.kind === 'claim' && status === 201) running.push(operation.effect)
    version = Number(body?.version ?? version)
  }

  /** What the history, the events and the audit say when all is over. */
  async function told(acts: number) {
    const path = `/api/v1/breakers/${job_type}`
    await app.call('GET', path)
    const { history } = (await app.call('GET', `${path}/history?limit=500`)).body
    // The newest entries hold all of this breaker's; to look further takes longer with each run.
    const audit =
      acts === 0 ? undefined : await app.call('GET', `/api/v1/audit?subject=breaker:${job_type}&limit=${acts}`)
    const events = app.events.slice(eventsBefore).filter((event) => 'job_type' in event && event.job_type === job_type)
    return {
      causes: history.map(({ cause }: { cause: string }) => cause).reverse(),
      versions: history.map(({ version }: { version: number }) => version).reverse(),
      audited: Number(audit?.body.entries.length ?? 0),
      overridden: events.filter(({ event }) => event === 'breaker.overridden').length,
    }
  }

  return { ...recorded, act, told, settings }
}

type Real = ReturnType<typeof meetBreaker>
type Model = { state: State }

/** What is said of a breaker at the end of a run, by the model. */
function saidOf({ causes, overridden }: State): Awaited<ReturnType<Real['told']>> {
  return { causes: [...causes], versions: causes.map((_, at) => at + 1), audited: overridden, overridden }
}

class Do implements fc.AsyncCommand<Model, Real> {
  readonly plan: Plan
  constructor(plan: Plan) {
    this.plan = plan
  }
  check = () => true
  toString = () => JSON.stringify(this.plan)
  async run(model: Model, real: Real): Promise<void> {
    const known = real.calls.length
    await real.act(this.plan)
    real.mustBeClear()
    for (const { operation, answer } of real.calls.slice(known)) {
      model.state = step(real.settings, model.state, operation, answer)
    }
  }
}

const venue = fc.nat(venues.length - 1)
const startVenues = (t: Test) =>
  Promise.all(
    venues.map(async (settings) => {
      const app = await startApp(t, { config: configOf(settings) })
      await warmed(app)
      return { settings, app }
    }),
  )

t.test('reports, checks, claims and acts of persons are answered as the contract says', async (t) => {
  const services = await startVenues(t)
  const commands = fc.commands(
    [...plans, ...attempts].map((some) => some.map((plan) => new Do(plan))),
    { ...commandSettings, maxCommands: 40 },
  )
  const property = fc.asyncProperty(venue, commands, async (at, commands) => {
    const { settings, app } = services[at]!
    const model = { state: start }
    const real = meetBreaker(app, settings)
    await fc.asyncModelRun(() => ({ model, real }), commands)
    await new Do({ kind: 'get' }).run(model, real)
    assert.deepEqual(await real.told(model.state.overridden), saidOf(model.state))
  })
  await holds(t, 120, property)
})

t.test('calls of several clients whose scripts interleave are answered as if one came after the other', async (t) => {
  const services = await startVenues(t)
  const gates = services.map(({ app }) => takeTurns(app.services.store))
  const sent = plans.map((some) => fc.tuple(fc.nat(3), some).map(([client, plan]) => new Send(client, plan)))
  const commands = fc.commands(sent, { ...commandSettings, maxCommands: 10 })
  const clients = fc.integer({ min: 2, max: 4 })
  const property = fc.asyncProperty(fc.scheduler(), venue, commands, clients, async (s, at, commands, n) => {
    const { settings, app } = services[at]!
    const real = { ...meetBreaker(app, settings), clients: Array.from({ length: n }, () => Promise.resolve()) }
    gates[at]!.turn = turnsOf(s)
    try {
      await fc.scheduledModelRun(s, () => ({ model: { state: start }, real }), commands)
      await s.waitFor(Promise.all(real.clients))
    } finally {
      gates[at]!.turn = undefined
    }
    real.mustBeClear()
    const { calls, settings: of } = real
    const stepHere = (state: State, operation: Operation, answer: Answer) => step(of, state, operation, answer)
    assert.ok(explain(calls, start, stepHere), `nothing explains these:\n${describe(calls)}`)
  })
  await holds(t, 80, property)
})
