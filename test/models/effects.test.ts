/**
 * Effects against a model of the contract (`effects-model.ts`): random calls by several owners, one after the other,
 * several at once, and interleaved script by script, through HTTP and the real scripts on a real Redis. Every run prints its
 * seed; `replay.ts` says how to run it again. A counterexample that was found stays below as a test of its own.
 */
import t from 'tap'
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { type Answer, makeKey, startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls } from '../helpers/effects.ts'
import { randomNamespace } from '../helpers/redis-server.ts'
import {
  type Claim,
  clockStep,
  type Execution,
  leaseOf,
  maxAttempts,
  type Operation,
  type Resolution,
  start,
  type State,
  step,
} from './effects-model.ts'
import { Send } from './clients.ts'
import { createRecorder, describe, explain, takeTurns, turnsOf, warmed } from './histories.ts'
import { commandSettings, holds } from './replay.ts'

/** An operation before it is known which tokens there are: `newest` 0 is the last one that was seen. */
type Plan =
  | Claim
  | { kind: 'complete'; newest: number; result: number }
  | { kind: 'fail'; newest: number; execution: Execution; retryable: boolean }
  | { kind: 'release'; newest: number }
  | { kind: 'renew'; newest: number; lease: number }
  | { kind: 'resolve' | 'delete'; newest?: number; resolution?: Resolution; worker?: boolean }
  | { kind: 'get' | 'sweep' }
  | { kind: 'move'; seconds: number }

const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 1 })
const newest = fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(2) })
const lease = fc.constantFrom(leaseOf(0), leaseOf(1), leaseOf(3))
const result = fc.nat(1)

const claims = fc.record(
  {
    kind: fc.constant('claim' as const),
    owner: fc.constantFrom('a', 'b'),
    claim_id: fc.constantFrom('1', '2', '3'),
    fingerprint: fc.constantFrom('x', 'x', 'x', 'y'),
    lease,
    policy: fc.constantFrom('hold' as const, 'reclaim' as const),
  },
  { requiredKeys: ['kind', 'owner', 'lease', 'policy'] },
)
/** What leaves an effect claimable: else most of them would soon be completed for ever. */
const tried = claims.map((claim): Claim => ({ ...claim, policy: 'reclaim' }))
const passing = fc.record({
  ...{ kind: fc.constant('fail' as const), newest: fc.constant(0), retryable: fc.constant(true) },
  execution: fc.constantFrom('no' as const, 'unknown' as const),
})
const consumed = fc.tuple(claims, result).map(([claim, result]): Claim => ({ ...claim, result }))
const reports = [
  fc.record({ kind: fc.constant('complete' as const), newest, result }),
  fc.record({
    ...{ kind: fc.constant('fail' as const), newest, retryable: fc.boolean() },
    execution: fc.constantFrom('no' as const, 'no' as const, 'unknown' as const, 'yes' as const, 'partial' as const),
  }),
  fc.record({ kind: fc.constant('release' as const), newest }),
  fc.record({ kind: fc.constant('renew' as const), newest, lease }),
]
const settlements = [
  fc.record({
    ...{ kind: fc.constant('resolve' as const), newest: optional(newest), worker: fc.boolean() },
    resolution: fc.constantFrom('executed' as const, 'not_executed' as const, 'abandoned' as const),
  }),
  fc.record({ kind: fc.constant('delete' as const), newest: optional(newest) }),
]
const looks = [fc.constant({ kind: 'get' as const }), fc.constant({ kind: 'sweep' as const })]
const moves = fc.record({
  kind: fc.constant('move' as const),
  seconds: fc.constantFrom(1, 2).map((n) => n * clockStep),
})
const calls = [
  claims,
  claims,
  tried,
  tried,
  consumed,
  ...reports,
  passing,
  ...settlements,
  ...looks,
] as fc.Arbitrary<Plan>[]

const namespace = randomNamespace()
const [operator, worker] = [makeKey('operator', namespace), makeKey('worker', namespace)]
const config = JSON.stringify({
  auth: { keys: [operator.entry, worker.entry] },
  effects: { defaults: { max_attempts: maxAttempts, allow_reclaim: true } },
})

const nothing: Answer = { status: 204, headers: {}, body: undefined, text: '' }
const tokenOf = (token: number | undefined) => (token === undefined ? {} : { fencing_token: token })

/** Sends an operation on one effect as HTTP has it. */
function senderOf(app: TestApp, effect: { type: string; entity: string }, effect_id: string) {
  const byWorker = effectCalls(app, worker.headers)
  const byOperator = effectCalls(app, operator.headers)
  return async (operation: Operation): Promise<Answer> => {
    switch (operation.kind) {
      case 'claim': {
        const { kind: _kind, lease, policy, ...members } = operation
        return byWorker.claim({ ...effect, ...members, lease_seconds: lease, on_lease_expiry: policy })
      }
      case 'complete':
        return byWorker.complete({ effect_id, fencing_token: operation.token, result: operation.result })
      case 'fail': {
        const { kind: _kind, token, ...members } = operation
        return byWorker.fail({ effect_id, fencing_token: token, ...members, error: 'x' })
      }
      case 'release':
        return byWorker.release({ effect_id, fencing_token: operation.token })
      case 'renew':
        return byWorker.renew({ effect_id, fencing_token: operation.token, lease_seconds: operation.lease })
      case 'resolve': {
        const { token, resolution, worker } = operation
        const body = { resolution, reason: 'looked', evidence: 'seen', ...tokenOf(token) }
        return (worker ? byWorker : byOperator).resolve(effect_id, body)
      }
      case 'delete': {
        const query = new URLSearchParams({ reason: 'a test', ...tokenOf(operation.token) } as Record<string, string>)
        return byOperator.remove(effect_id, query.toString())
      }
      case 'get':
        return byWorker.get(effect_id)
      case 'sweep':
        await app.services.sweep.once()
        return nothing
      case 'move':
        await app.moveClock(operation.seconds)
        return nothing
    }
  }
}

/** One effect, as its callers meet it. */
function meetEffect(app: TestApp) {
  const effect = { type: 'order_placement', entity: randomUUID() }
  const { effectId } = app.services.effects.context.locate(namespace, effect)
  const send = senderOf(app, effect, effectId)
  const tokens: number[] = []
  const { record, ...recorded } = createRecorder<Operation>()
  const eventsBefore = app.events.length

  /** With the tokens that are known now. */
  function operationOf(plan: Plan): Operation {
    if (!('newest' in plan) || plan.newest === undefined) return plan as Operation
    const { newest, ...rest } = plan
    return { ...rest, token: tokens.at(-1 - newest) ?? 1 } as Operation
  }

  async function act(plan: Plan): Promise<void> {
    const operation = operationOf(plan)
    const { status, body } = await record(operation, () => send(operation))
    const token = Number(body?.fencing_token ?? 0)
    if (status < 300 && token > (tokens.at(-1) ?? 0)) tokens.push(token)
  }

  /** How often each event was told of this effect. */
  function told(): State['told'] {
    const ours = app.events.slice(eventsBefore).filter((event) => 'effect_id' in event && event.effect_id === effectId)
    const count = (name: string) => ours.filter(({ event }) => event === name).length
    const late = count('effect.late_completion')
    return { uncertain: count('effect.uncertain'), reclaimed: count('effect.reclaimed'), late }
  }

  return { ...recorded, act, told }
}

type Real = ReturnType<typeof meetEffect>
type Model = { state: State; explained: number }

/** What has been answered since the last time must have an explanation. */
function follow(model: Model, real: Real): void {
  real.mustBeClear()
  const fresh = real.calls.slice(model.explained)
  const [only] = fresh
  if (fresh.length === 1 && only) model.state = step(model.state, only.operation, only.answer)
  else {
    const found = explain(fresh, model.state, step, (state) => isDeepStrictEqual(state.told, real.told()))
    assert.ok(found, `nothing explains these, from ${JSON.stringify(model.state)}:\n${describe(fresh)}`)
    model.state = found
  }
  model.explained = real.calls.length
  assert.deepEqual(real.told(), model.state.told, 'events')
}

/** Plans that are carried out at once; what follows waits for their answers. */
class Together implements fc.AsyncCommand<Model, Real> {
  readonly plans: Plan[]
  constructor(plans: Plan[]) {
    this.plans = plans
  }
  check = () => true
  toString = () => JSON.stringify(this.plans)
  async run(model: Model, real: Real): Promise<void> {
    await Promise.all(this.plans.map(real.act))
    follow(model, real)
  }
}

const newModel = (): Model => ({ state: start, explained: 0 })
const alone = [...calls, tried, passing, moves, moves].map((plans) => plans.map((plan) => new Together([plan])))
const several = fc.array(fc.oneof(...calls), { minLength: 2, maxLength: 4 }).map((plans) => new Together(plans))
const sent = [...calls, moves].map((plans) =>
  fc.tuple(fc.nat(3), plans).map(([client, plan]) => new Send(client, plan)),
)

/** Found by the tests below, shrunk. */
const counterexamples: Record<string, Plan[]> = {
  'a claim that was settled late is remembered when the record is deleted': [
    { kind: 'claim', owner: 'a', claim_id: '1', lease: leaseOf(0), policy: 'hold' },
    { kind: 'move', seconds: clockStep },
    { kind: 'get' },
    { kind: 'complete', newest: 0, result: 0 },
    { kind: 'delete' },
    { kind: 'claim', owner: 'a', claim_id: '1', lease: leaseOf(0), policy: 'hold' },
  ],
  'a claim that was settled after it had failed is told what it may collect': [
    { kind: 'claim', owner: 'a', claim_id: '1', lease: leaseOf(0), policy: 'hold' },
    { kind: 'fail', newest: 0, execution: 'no', retryable: true },
    { kind: 'complete', newest: 0, result: 0 },
    { kind: 'claim', owner: 'a', claim_id: '1', lease: leaseOf(0), policy: 'hold', result: 0 },
  ],
  'an effect that is settled twice settles only its last claim': [
    { kind: 'claim', owner: 'a', claim_id: '1', lease: leaseOf(0), policy: 'hold' },
    { kind: 'release', newest: 0 },
    { kind: 'claim', owner: 'a', claim_id: '2', lease: leaseOf(0), policy: 'hold' },
    { kind: 'fail', newest: 0, execution: 'unknown', retryable: false },
    { kind: 'resolve', resolution: 'abandoned', worker: false },
    { kind: 'resolve', resolution: 'executed', worker: false },
    { kind: 'claim', owner: 'a', claim_id: '1', lease: leaseOf(0), policy: 'hold' },
  ],
}

t.test('counterexamples of before', async (t) => {
  const app = await startApp(t, { config })
  for (const [promise, plans] of Object.entries(counterexamples)) {
    const [model, real] = [newModel(), meetEffect(app)]
    for (const plan of plans) await new Together([plan]).run(model, real)
    t.pass(promise)
  }
})

t.test('calls one after the other, and several at once, are answered as the contract says', async (t) => {
  const app = await startApp(t, { config })
  await warmed(app)
  const commands = fc.commands([...alone, several], commandSettings)
  const property = fc.asyncProperty(commands, async (commands) => {
    await fc.asyncModelRun(() => ({ model: newModel(), real: meetEffect(app) }), commands)
  })
  await holds(t, 150, property)
})

t.test('calls of several clients whose scripts interleave are answered as if one came after the other', async (t) => {
  const app = await startApp(t, { config })
  await warmed(app)
  const gate = takeTurns(app.services.store)
  const commands = fc.commands(sent, { ...commandSettings, maxCommands: 9 })
  const property = fc.asyncProperty(
    fc.scheduler(),
    commands,
    fc.integer({ min: 2, max: 4 }),
    async (s, commands, n) => {
      const real = { ...meetEffect(app), clients: Array.from({ length: n }, () => Promise.resolve()) }
      gate.turn = turnsOf(s)
      try {
        await fc.scheduledModelRun(s, () => ({ model: newModel(), real }), commands)
        await s.waitFor(Promise.all(real.clients))
      } finally {
        gate.turn = undefined
      }
      follow(newModel(), real)
    },
  )
  await holds(t, 100, property)
})
