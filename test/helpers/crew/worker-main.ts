/** A worker process: several loops that take orders from the desk, each at one order at a time. */
import { setTimeout as delay } from 'node:timers/promises'
import { createRecorder, monotonicMs } from '../checker/history.ts'
import { createCaller, type Effect } from './caller.ts'
import { sayReady, settingsOfChild } from './children.ts'
import type { ExchangeLink } from './exchange.ts'
import { request, sendToAny, sendTogether } from './http.ts'
import { openJournal } from './journal.ts'
import { createRandom } from './random.ts'
import { Death, type Habits, work } from './worker.ts'

export type WorkerSettings = {
  name: string
  services: string[]
  desk: string
  journal: string
  seed: number
  loops: number
  habits: Habits
  /** Calls of one moment travel as one batch. */
  batch: boolean
}

const settings = settingsOfChild<WorkerSettings>()
const { name, desk, habits } = settings
const random = createRandom(settings.seed)
const write = openJournal(settings.journal)
const single = sendToAny(settings.services, random, 5000)
const send = settings.batch ? sendTogether(single, 3) : single

const exchange: ExchangeLink = {
  place: (order) => request(desk, 'POST', '/place', order, 2000),
  query: (id) => request(desk, 'POST', '/query', { id }, 2000),
}

let settled: string[] = []
let orders: Effect[] = []
let over = false
let asking: Promise<void> | undefined

async function ask(): Promise<void> {
  const told = settled
  settled = []
  const answer = await request(desk, 'POST', '/orders', { settled: told }, 2000)
  if (answer?.status === 200) [orders, over] = [answer.body.orders as Effect[], answer.body.over as boolean]
  else settled.push(...told)
  if (orders.length === 0) await delay(50)
  asking = undefined
}

async function loop(index: number): Promise<void> {
  const recorder = createRecorder(`${name}.${index}`, write, monotonicMs)
  const tools = { name, exchange, habits, random: random.branch(), nowMs: monotonicMs, sleep: delay }
  const caller = createCaller(recorder, send)
  while (!over) {
    const effect = orders.pop()
    if (!effect) {
      await (asking ??= ask())
      continue
    }
    const done = await work({ ...tools, caller }, effect).catch((error: unknown) => {
      if (!(error instanceof Death)) throw error
    })
    if (done) settled.push(effect.effect_id)
  }
}

sayReady()
await Promise.all(Array.from({ length: settings.loops }, (_, index) => loop(index)))
process.exit(0)
