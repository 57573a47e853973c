/**
 * A run of a few seconds: two services in this process over a real Redis, a crew of workers, a reconciler and an
 * exchange, a proxy that loses replies, and a clock that is moved instead of waited for. Throws on any violation.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { type Answer, startApp, type TestApp } from '../app.ts'
import { checkAudit, checkBreakers, checkEffects, type Checked, together } from '../checker/check.ts'
import { createReader, createRecorder, type History, monotonicMs } from '../checker/history.ts'
import { redisCli, type RedisServer, startRedis } from '../redis-server.ts'
import { loseReply, startProxy, type TcpProxy } from '../tcp-proxy.ts'
import { identify } from '../../../src/effects/identity.ts'
import { createBreakerCrew } from './breakers.ts'
import { createCaller, type Effect, type Send } from './caller.ts'
import { readAll, readAudit, settleAll } from './ending.ts'
import { createExchange, type ExchangeLink } from './exchange.ts'
import { createRandom, type Random } from './random.ts'
import { createReconciler } from './reconciler.ts'
import { Death, type Habits, work } from './worker.ts'

type Test = { teardown(end: () => Promise<void>): void }

/** `budgetMs`: after so much of the wall no new work begins, however far the orders are: a slow machine does less. */
type ScenarioOptions = { seed?: number; orders?: number; workers?: number; budgetMs?: number }
type Outcome = Checked & { seed: number; history: History; carriedOut: number; faults: Record<string, number> }

const leaseSeconds = 30
const napMs = (leaseSeconds + 1) * 1000
const habits: Habits = {
  leaseSeconds,
  patienceMs: 6000,
  pauseMs: 30,
  napMs,
  napChance: 0.03,
  deathChance: 0.01,
  waitSeconds: 0.3,
}
const threshold = 5
const breaker = { failure_threshold: threshold, time_window_minutes: 1440 }
const orders = { circuit_breaker: { failure_threshold: 1000 } }
const config = JSON.stringify({ retry: { circuit_breaker: breaker, job_types: { orders } } })
const durable = ['--appendonly', 'yes', '--appendfsync', 'always']

/** The clock of the workers and the exchange, moved together with Redis's. */
function createClock(app: TestApp) {
  let movedMs = 0
  const nowMs = () => monotonicMs() + movedMs
  return {
    nowMs,
    async sleep(ms: number): Promise<void> {
      const until = nowMs() + ms
      while (nowMs() < until) await delay(Math.min(5, until - nowMs()))
    },
    /** Workers first: they may only think that less of a lease is left. */
    async move(seconds: number): Promise<void> {
      movedMs += seconds * 1000
      await app.moveClock(seconds)
    },
  }
}

type Clock = ReturnType<typeof createClock>

/** To either service; now and then the answer is lost, or a proxy sends the call twice. `told` hears every answer. */
function sendTo(apps: TestApp[], random: Random, told: (answer: Answer) => void): Send {
  return async (method, path, body) => {
    const app = random.pick(apps)
    if (method === 'POST' && random.chance(0.02)) void app.call(method, path, body)
    const answer = await app.call(method, path, body)
    told(answer)
    return random.chance(0.02) ? undefined : answer
  }
}

type Place = {
  redis: RedisServer
  proxy: TcpProxy
  clock: Clock
  random: Random
  /** Nothing is still to be carried out late. */
  idle: () => boolean
  /** Settles silent holders; answers whether it could. */
  sweep: () => Promise<boolean>
  /** How much has happened so far. */
  events: () => number
}

async function hang({ redis, random }: Place): Promise<void> {
  await redis.kill('SIGSTOP')
  await delay(random.between(50, 700))
  await redis.kill('SIGCONT')
}

async function crash({ redis }: Place): Promise<void> {
  await redis.kill('SIGKILL')
  await redis.restart()
}

/** Not while an order may still be carried out late, or a silent holder waits for the sweep: their time is real. */
async function jump({ clock, idle, sweep }: Place): Promise<void> {
  while (!idle()) await delay(5)
  for (let tries = 0; tries < 20 && !(await sweep()); tries++) await delay(50)
  await clock.move(leaseSeconds + 1)
}

const faults: Record<string, (place: Place) => Promise<unknown> | void> = {
  lost_reply: ({ proxy }) => loseReply(proxy),
  reset: ({ proxy }) => proxy.reset(),
  slices: ({ proxy }) => proxy.set('replies', { sliceBytes: 7 }),
  healed: ({ proxy }) => proxy.heal(),
  script_flush: ({ redis }) => redisCli(redis.port, 'SCRIPT', 'FLUSH'),
  clock_jump: jump,
  hang,
  crash,
}

/** The next fault comes after so much more has happened, not after a time: a slow machine gets no more of them. */
async function letHappen({ events, random }: Place): Promise<void> {
  const [target, until] = [events() + random.between(10, 60), performance.now() + 400]
  while (events() < target && performance.now() < until) await delay(4)
}

/** Lost replies are the commonest; a hang or a crash takes most of a second. */
const likely = ['lost_reply', 'lost_reply', 'lost_reply', 'reset', 'slices', 'healed', 'script_flush', 'clock_jump']

async function spoil(place: Place, over: () => boolean, counts: Record<string, number>): Promise<void> {
  const { random } = place
  while (!over()) {
    const name = random.chance(0.03) ? random.pick(['hang', 'crash']) : random.pick(likely)
    counts[name] = (counts[name] ?? 0) + 1
    await faults[name]!(place)
    await letHappen(place)
  }
  place.proxy.heal()
}

const types = ['order_placement', 'order_placement', 'order_placement', 'ledger_write', 'signal_consumption']

function newOrders(count: number, random: Random): Effect[] {
  return Array.from({ length: count }, () => {
    const [type, entity] = [random.pick(types), randomUUID()]
    return { type, entity, effect_id: identify(type, entity).effectId }
  })
}

const timing = { lateMsMax: 60, hiddenMsMax: 50, openMsMax: 300 }
const certaintyMs = leaseSeconds * 1000 + timing.lateMsMax + timing.hiddenMsMax

async function startPlace(t: Test) {
  const redis = await startRedis(t, { args: durable })
  const proxy = await startProxy(t, redis.port)
  const start = () => startApp(t, { redis, redisUrl: proxy.url, background: true, config })
  const apps = [await start(), await start()]
  return { redis, proxy, apps, clock: createClock(apps[0]!) }
}

/** Everybody who takes part, and the history that all of them write. */
function createStage({ apps, clock }: Awaited<ReturnType<typeof startPlace>>, random: Random) {
  const { nowMs } = clock
  const reader = createReader()
  const recorderOf = (name: string) => createRecorder(name, reader.read, nowMs)
  const recorder = recorderOf('observer')
  const exchange = createExchange(recorderOf('exchange'), random.branch(), nowMs, timing)
  const link: ExchangeLink = { place: async (order) => exchange.place(order), query: async (id) => exchange.query(id) }
  const hear = ({ body }: Answer) => {
    if (body?.code === 'effect-uncertain') reconciler.suspect(body.effect_id as string)
  }
  const sender = (): Send => sendTo(apps, random.branch(), hear)
  const caller = createCaller(recorder, sender())
  const reconciler = createReconciler({ caller, recorder, exchange: link, nowMs, certaintyMs })
  for (const { services } of apps) {
    services.events.subscribe((event) => {
      if (event.event === 'effect.late_completion') recorder.saw('late_completion', event.effect_id)
      if (event.event !== 'effect.uncertain') return
      recorder.saw('uncertain', event.effect_id)
      reconciler.suspect(event.effect_id)
    })
  }
  return { reader, recorder, recorderOf, exchange, link, sender, reconciler }
}

type Stage = ReturnType<typeof createStage>

/** Workers that take orders until every one was seen settled by a claim. */
function employ(
  { recorderOf, sender, link }: Stage,
  { nowMs, sleep }: Clock,
  random: Random,
  open: Set<Effect>,
  over: () => boolean,
) {
  return async (index: number): Promise<void> => {
    const chance = random.branch()
    const caller = createCaller(recorderOf(`w${index}`), sender())
    const tools = { name: `bot-${index % 4}`, caller, exchange: link, random: chance, habits, nowMs, sleep }
    while (!over()) {
      const effect = chance.pick([...open].slice(0, 40))
      const settled = await work(tools, effect).catch((error: unknown) => {
        if (!(error instanceof Death)) throw error
      })
      if (settled) open.delete(effect)
    }
  }
}

async function every(ms: number, over: () => boolean, act: () => Promise<unknown>): Promise<void> {
  for (; !over(); await delay(ms)) await act()
}

/** Runs it to its end and checks everything; what it finds is in the answer. */
async function observeScenario(t: Test, options: ScenarioOptions = {}): Promise<Outcome> {
  const { seed = Math.floor(Math.random() * 2 ** 31), orders: count = 300, workers = 12, budgetMs = 12_000 } = options
  const random = createRandom(seed)
  const place = await startPlace(t)
  const { clock, apps, proxy, redis } = place
  const stage = createStage(place, random)
  const { reader, reconciler, exchange, recorder } = stage
  const all = newOrders(count, random)
  const open = new Set(all)
  const until = performance.now() + budgetMs
  const over = () => open.size === 0 || performance.now() > until
  const work = employ(stage, clock, random, open, over)
  const crew = createBreakerCrew({
    send: stage.sender(),
    random: random.branch(),
    nowMs: clock.nowMs,
    threshold,
    lossy: false,
  })
  const counts: Record<string, number> = {}
  // Only the one that holds the lease sweeps, so all are asked.
  const sweep = () =>
    Promise.all(apps.map(({ services }) => services.sweep.once())).then(
      () => true,
      () => false,
    )
  const target = { redis, proxy, clock, random: random.branch(), idle: exchange.idle, sweep, events: reader.events }
  await Promise.all([
    ...Array.from({ length: workers }, (_, index) => work(index)),
    every(50, over, reconciler.look),
    crew.work(4, 5),
    spoil(target, over, counts),
  ])

  const calm = createCaller(recorder, (method, path, body) => apps[0]!.call(method, path, body))
  const effects = all.map(({ effect_id }) => effect_id)
  for (const effect of effects) reconciler.suspect(effect)
  await settleAll(reconciler.look, () => clock.move(leaseSeconds + 1), 30_000)
  await readAll(calm, effects, 8)
  const { entries, verified } = await readAudit(calm.send)
  const history = reader.history()
  const checked = together([
    checkEffects(history.effects.values(), history),
    checkBreakers(await crew.histories()),
    checkAudit(entries, verified, history),
  ])
  return { ...checked, seed, history, carriedOut: exchange.carriedOut(), faults: counts }
}

/** As `observeScenario`, and throws where anything is violated, with what happened to the first effect concerned. */
export async function runScenario(t: Test, options: ScenarioOptions = {}): Promise<Outcome> {
  const outcome = await observeScenario(t, options)
  const { violations, seed, history } = outcome
  if (violations.length === 0) return outcome
  const told = violations.slice(0, 10).map(({ rule, subject, message }) => `${rule}: ${subject} ${message}`)
  const first = history.effects.get(violations[0]!.subject)
  const happened = first && [...first.calls.map((call) => JSON.stringify(call)), JSON.stringify(first.executions)]
  throw new Error([`${violations.length} violations with seed ${seed}`, ...told, ...(happened ?? [])].join('\n'))
}
