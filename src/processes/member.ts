/** One worker as the primary process knows it: started, heard, told, and seen to end. */
import cluster, { type Worker } from 'node:cluster'
import type { Config } from '../config.ts'
import type { CountedMetrics } from '../observability/metrics.ts'
import { redeliver } from './handover.ts'
import type { Orders, ToPrimary, ToWorker } from './messages.ts'

export type Started = { ok: true; port: number; greeting: string } | { ok: false; why: string }

export type Member = {
  id: number
  /** What it was started with, and keeps. */
  config: Config
  launchedMs: number
  /** Whether it came to take calls, and if not, why. */
  started: Promise<Started>
  exited: Promise<void>
  tell: (message: ToWorker) => void
  kill: () => void
  /** Whether it takes calls. */
  serving: boolean
  /** Whether it was told to end. */
  dismissed: boolean
  /** Whether it has said that it ends, by itself or because it was told. */
  leaving: boolean
}

/** What a worker may say, or that it ended. */
export type Listener = {
  counted: (member: Member, metrics: CountedMetrics, question?: number) => void
  sum: (member: Member, question: number) => Promise<void>
  exited: (member: Member, how: string) => void
}

const howItEnded = (code: number | null, signal: string | null): string =>
  signal === null ? `with code ${code}` : `by ${signal}`

/** What a worker is told, orders first. It hears nothing before it has joined: until then it all waits. */
function createTelling(worker: Worker, orders: Orders) {
  let waiting: ToWorker[] | undefined = [{ type: 'orders', orders }]
  // One that is about to end takes nothing any more: its exit says the rest.
  const send = (message: ToWorker) => void (worker.isConnected() && worker.send(message, () => undefined))
  return {
    tell: (message: ToWorker): void => (waiting ? void waiting.push(message) : send(message)),
    joined(): void {
      waiting?.forEach(send)
      waiting = undefined
    },
  }
}

/** Starts a worker. What it says before it serves decides how `started` ends. */
export function launch(orders: Omit<Orders, 'worker'>, listener: Listener): Member {
  const worker = cluster.fork()
  redeliver(worker)
  const telling = createTelling(worker, { ...orders, worker: worker.id })
  const { promise: started, resolve: start } = withResolvers<Started>()
  const { promise: exited, resolve: exit } = withResolvers<void>()
  const member: Member = {
    ...{ id: worker.id, config: orders.config, launchedMs: performance.now(), started, exited },
    ...{ serving: false, dismissed: false, leaving: false },
    tell: telling.tell,
    kill: () => void worker.process.kill('SIGKILL'),
  }
  worker.on('error', () => undefined)
  worker.on('message', (message: ToPrimary) => {
    if (message.type === 'joined') telling.joined()
    else if (message.type === 'failed') start({ ok: false, why: message.message })
    else if (message.type === 'sum') void listener.sum(member, message.question)
    else if (message.type === 'counted') listener.counted(member, message.metrics, message.question)
    else if (message.type === 'farewell') {
      member.leaving = true
      listener.counted(member, message.metrics)
    } else {
      member.serving = true
      start({ ok: true, ...message })
    }
  })
  worker.once('exit', (code: number | null, signal: string | null) => {
    const how = howItEnded(code, signal)
    start({ ok: false, why: `A worker process ended ${how} while it started.` })
    exit()
    listener.exited(member, how)
  })
  return member
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined
  const promise = new Promise<T>((settle) => (resolve = settle))
  return { promise, resolve }
}
