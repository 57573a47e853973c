/**
 * The long form: services and workers in processes of their own, a nemesis, and the checker over the history that all of
 * them leave on disk. Every choice comes from the seed; how far a schedule gets in its time does not.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises'
import { checkAudit, checkBreakers, checkEffects, type Checked, together, type Violation } from '../checker/check.ts'
import {
  createReader,
  createRecorder,
  type EffectHistory,
  type History,
  monotonicMs,
  type Recorder,
} from '../checker/history.ts'
import { freePort } from '../redis-server.ts'
import { createBreakerCrew } from './breakers.ts'
import { createCaller } from './caller.ts'
import { type Child, startChild } from './children.ts'
import { startDesk } from './desk.ts'
import { readAll, readAudit, settleAll } from './ending.ts'
import { createExchange, type ExchangeLink } from './exchange.ts'
import { sendToAny } from './http.ts'
import { createJournals, openJournal } from './journal.ts'
import { createRandom, type Random } from './random.ts'
import { createReconciler } from './reconciler.ts'
import { type Site, standalone, type Teardown } from './site.ts'
import { cluster } from './site-cluster.ts'
import { sentinel } from './site-sentinel.ts'
import { watchEvents } from './watch.ts'
import type { Habits } from './worker.ts'

const sites: Record<string, (t: Teardown) => Promise<Site>> = { standalone, sentinel, cluster }
export const topologies = Object.keys(sites)
export const faultSets = ['all', 'processes']

export type SoakOptions = {
  topology: string
  seconds: number
  seed: number
  /** No new orders after so many. */
  orders?: number
  services?: number
  workers?: number
  /** Orders that a worker has in hand at a time. */
  loops?: number
  /** `all`, or `processes`: only workers and services are killed and stopped, and the store is left in peace. */
  faults?: string
  /** How often a line is said. */
  tellEverySeconds?: number
  say: (line: string) => void
}

export type SoakResult = Checked & {
  events: number
  orders: number
  carriedOut: number
  doubles: number
  faults: Record<string, number>
}

const leaseSeconds = 4
/** As the default is to the default lease. */
const graceSeconds = 2 * leaseSeconds
/** So many orders are open for each that a worker has in hand. */
const openForEach = 6
const timing = { lateMsMax: 1000, hiddenMsMax: 500, openMsMax: 2000 }
/** With some time for a timer that comes late on a busy machine. */
const certaintyMs = leaseSeconds * 1000 + timing.lateMsMax + timing.hiddenMsMax + 1500
const habits: Habits = {
  leaseSeconds,
  patienceMs: 15_000,
  pauseMs: 100,
  napMs: 4500,
  napChance: 0.002,
  deathChance: 0.002,
  waitSeconds: 1.5,
}
const threshold = 5

const configOf = ({ durability }: Site): string =>
  JSON.stringify({
    effects: { defaults: { durability } },
    redis: { failover_grace_seconds: graceSeconds },
    retry: {
      audit_log_path: null,
      redis: { memory_budget_mb: null },
      circuit_breaker: { failure_threshold: threshold, time_window_minutes: 1440 },
      job_types: {
        orders: { circuit_breaker: { failure_threshold: 200, time_window_minutes: 1, auto_recovery_seconds: 2 } },
      },
    },
    audit: { entries_max: 1_000_000 },
  })

type Place = { t: Teardown; site: Site; random: Random; journals: ReturnType<typeof createJournals>; dir: string }

async function startServices({ t, site }: Place, count: number) {
  const ports = await Promise.all(Array.from({ length: count }, freePort))
  const settings = { config: configOf(site), address: site.address, stepped: site.stepped }
  const children = await Promise.all(ports.map((port) => startChild(t, 'service-main', () => ({ ...settings, port }))))
  return { children, urls: ports.map((port) => `http://127.0.0.1:${port}`) }
}

type Employment = { count: number; loops: number; services: string[]; desk: string }

function startWorkers({ t, random, journals, dir }: Place, { count, loops, services, desk }: Employment) {
  const start = (index: number) =>
    startChild(t, 'worker-main', (incarnation) => {
      const name = `w${index}.${incarnation}`
      const journal = path.join(dir, `${name}.jsonl`)
      openJournal(journal)
      journals.add(journal)
      const seed = Math.floor(random.between(0, 2 ** 31))
      return { name, services, desk, journal, seed, loops, habits, batch: index % 3 === 1 }
    })
  return Promise.all(Array.from({ length: count }, (_, index) => start(index)))
}

type Nemesis = { recorder: Recorder; random: Random; over: () => boolean; counts: Record<string, number> }

/** One fault of the list after the other, with a pause in which everything may recover. */
async function spoil(nemesis: Nemesis, faults: Site['faults'], pauseMs: number, outage: boolean): Promise<void> {
  const { recorder, random, over, counts } = nemesis
  while (!over()) {
    const name = random.pick(Object.keys(faults))
    recorder.fault('invoke', name, outage)
    // The run goes on, and its end shows whether the store has healed; what was not healed in time is told by name.
    const done = await faults[name]!(random).then(
      () => name,
      (error: unknown) => `${name} (not healed: ${String(error)})`,
    )
    recorder.fault('ok', name, outage)
    counts[done] = (counts[done] ?? 0) + 1
    await delay(pauseMs * random.between(0.5, 1.5))
  }
}

const killing =
  (children: Child[]) =>
  async (random: Random): Promise<void> =>
    random.pick(children).restart()

const stopping =
  (children: Child[], lowMs: number, highMs: number) =>
  async (random: Random): Promise<void> => {
    const child = random.pick(children)
    await child.kill('SIGSTOP')
    await delay(random.between(lowMs, highMs))
    await child.kill('SIGCONT')
  }

async function every(ms: number, over: () => boolean, act: () => unknown): Promise<void> {
  for (; !over(); await delay(ms)) await act()
}

const distinct = (violations: Violation[]): Violation[] => [
  ...new Map(violations.map((violation) => [JSON.stringify(violation), violation])).values(),
]

/** So many effects are checked at once. */
const sliceMax = 100

const eventsOf = ({ calls, sights, executions }: EffectHistory): number =>
  calls.reduce((sum, { endedAt }) => sum + (endedAt === Infinity ? 1 : 2), sights.length + executions.length)

/** Effects of which something was heard since the last time, a slice at a time. At the end all are checked. */
function freshOf() {
  const heard = new WeakMap<EffectHistory, number>()
  return function* ({ effects }: History): Generator<EffectHistory[]> {
    let slice: EffectHistory[] = []
    for (const history of effects.values()) {
      const events = eventsOf(history)
      if (heard.get(history) === events) continue
      heard.set(history, events)
      slice.push(history)
      if (slice.length < sliceMax) continue
      yield slice
      slice = []
    }
    yield slice
  }
}

/** Where the history of every process goes, and the reader that puts it together. */
async function openHistory(t: Teardown) {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'effectonce-soak-'))
  const keep = { journals: false }
  t.teardown(() => (keep.journals ? Promise.resolve() : rm(dir, { recursive: true, force: true })))
  const reader = createReader()
  const journals = createJournals(reader.read)
  const own = path.join(dir, 'own.jsonl')
  const write = openJournal(own)
  journals.add(own)
  return {
    ...{ dir, keep, journals },
    recorderOf: (name: string) => createRecorder(name, write, monotonicMs),
    /** Everything that had happened `ageMs` ago. */
    readUntil(ageMs: number): History {
      journals.readUntil(monotonicMs() - ageMs)
      return reader.history()
    },
  }
}

/** Starts everybody. */
async function startEverybody(t: Teardown, { topology, seed, ...options }: SoakOptions) {
  const random = createRandom(seed)
  const { recorderOf, journals, dir, ...rest } = await openHistory(t)
  const site = await sites[topology]!(t)
  const place: Place = { t, site, random, journals, dir }
  const exchange = createExchange(recorderOf('exchange'), random.branch(), monotonicMs, timing)
  const { workers: count = 3, loops = 8 } = options
  const open = count * loops * openForEach
  const desk = await startDesk(t, { exchange, random: random.branch(), run: `soak-${seed}`, open })
  const services = await startServices(place, options.services ?? 2)
  const workers = await startWorkers(place, { count, loops, services: services.urls, desk: desk.url })
  const send = sendToAny(services.urls, random.branch(), 5000)
  const link: ExchangeLink = { place: async (order) => exchange.place(order), query: async (id) => exchange.query(id) }
  const recorder = recorderOf('observer')
  const caller = createCaller(recorder, send)
  const reconciler = createReconciler({ caller, recorder, exchange: link, nowMs: monotonicMs, certaintyMs })
  const heard: Record<string, number> = {}
  for (const url of services.urls) {
    const stop = watchEvents(url, recorder, (event) => void (heard[event] = (heard[event] ?? 0) + 1))
    t.teardown(async () => stop())
  }
  const crew = createBreakerCrew({ send, random: random.branch(), nowMs: monotonicMs, threshold, lossy: site.lossy })
  const everybody = { random, site, exchange, desk, services, workers, send, caller, reconciler, heard, crew, dir }
  return { ...everybody, ...rest, recorderOf }
}

type Everybody = Awaited<ReturnType<typeof startEverybody>>

/** Everybody works, and the nemesis does what it does, until it is over. Answers the faults and what was found meanwhile. */
async function live(all: Everybody, options: SoakOptions) {
  const { seconds, orders = Infinity, tellEverySeconds = 20, faults = 'all', say } = options
  const { desk, exchange, reconciler, crew, site, services, workers, random, recorderOf, readUntil } = all
  const until = monotonicMs() + seconds * 1000
  const over = () => monotonicMs() > until || desk.orders.all.length >= orders
  const [counts, found]: [Record<string, number>, Violation[]] = [{}, []]
  const nemesis = (): Nemesis => ({ recorder: recorderOf('nemesis'), random: random.branch(), over, counts })
  const fresh = freshOf()
  const tell = async () => {
    const history = readUntil(200)
    for (const effects of fresh(history)) {
      found.push(...checkEffects(effects, history).violations)
      // The proxies of this process go on meanwhile: what they hold up is no fault of the run.
      await nextTurn()
    }
    const settled = desk.orders.all.length - desk.orders.open()
    const sum = `${settled} orders settled, ${exchange.carriedOut()} carried out, ${history.events} events`
    const left = Math.max(0, Math.round((until - monotonicMs()) / 1000))
    say(`${left} s left: ${sum}, ${distinct(found).length} violations; faults ${JSON.stringify(counts)}`)
  }
  const children = services.children
  const upon = { service_kill: killing(children), service_hang: stopping(children, 500, 4000) }
  await Promise.all([
    every(2000, over, reconciler.round),
    every(4000, over, () => crew.work(1, 3)),
    every(tellEverySeconds * 1000, over, tell),
    ...(faults === 'all' ? [spoil(nemesis(), site.faults, 2500, true)] : []),
    spoil(nemesis(), { worker_kill: killing(workers) }, 2000, false),
    spoil(nemesis(), { worker_hang: stopping(workers, 1000, leaseSeconds * 1500) }, 8000, false),
    spoil(nemesis(), upon, 8000, true),
  ])
  return { counts, found }
}

/** About so many are read once more at the end. */
const readMax = 30_000

/** Everything is settled, read and checked. */
async function conclude(all: Everybody, say: SoakOptions['say']) {
  const { desk, reconciler, caller, crew, send, heard, readUntil } = all
  say(`the nemesis rests; events heard: ${JSON.stringify(heard)}`)
  desk.orders.close()
  await settleAll(reconciler.round, () => delay(500), 120_000)
  await readAll(caller, desk.orders.sample(readMax), 24)
  const { entries, verified } = await readAudit(send)
  await delay(300)
  const history = readUntil(0)
  const checked = together([
    checkEffects(history.effects.values(), history),
    checkBreakers(await crew.histories()),
    checkAudit(entries, verified, history),
  ])
  return { history, ...checked }
}

/** Everything that is started here ends with `t`. */
async function run(t: Teardown, options: SoakOptions): Promise<SoakResult> {
  const { say } = options
  const all = await startEverybody(t, options)
  const { counts: faults, found } = await live(all, options)
  const { history, checks, violations: last } = await conclude(all, say)
  const violations = distinct([...found, ...last])
  all.keep.journals = violations.length > 0
  if (all.keep.journals) say(`the journals are kept in ${all.dir}`)
  const doubles = [...history.effects.values()].filter(({ executions }) => executions.length > 1).length
  const numbers = { events: history.events, orders: all.desk.orders.all.length, carriedOut: all.exchange.carriedOut() }
  return { checks, violations, ...numbers, doubles, faults }
}

/** Runs to its end, whatever happens, and ends everything that it started. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const ends: (() => Promise<void>)[] = []
  try {
    return await run({ teardown: (end) => void ends.unshift(end) }, options)
  } finally {
    for (const end of ends) await end().catch(() => undefined)
  }
}
