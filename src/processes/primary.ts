/**
 * The primary process: it accepts connections and hands them to workers in turn (node:cluster), gives each its orders,
 * replaces one that dies, and adds up what all have counted. It serves nothing itself and does not talk to Redis.
 */
import cluster from 'node:cluster'
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { limits } from '../limits.ts'
import { createCrew, type Crew } from './crew.ts'
import type { Member, Started } from './member.ts'
import type { Where } from './messages.ts'

/** A worker cannot start; `message` is for the person who started the service. */
export class WorkerError extends Error {}

export type PrimaryOptions = {
  config: Config
  whereOf: (config: Config) => Where
  /** How many take calls. */
  count: number
  log: Logger
  /** Called when workers cannot be started any more. */
  giveUp: (why: string) => void
}

/** A new one takes calls before the old one takes no more. Answers whether there is a new one. */
async function replace(crew: Crew, old: Member, log: Logger): Promise<boolean> {
  // Should it die meanwhile, then nobody else shall replace it.
  old.dismissed = true
  const started = await crew.add()
  if (started.ok) {
    old.tell({ type: 'drain', farewell: { noticeMs: limits.drainNoticeMs, replaced: true } })
    await old.exited
    return true
  }
  old.dismissed = false
  if (!crew.ending()) log.error(`a worker process cannot start, the others stay: ${started.why}`)
  if (!crew.has(old)) void crew.fill()
  return false
}

/** Answers whether all are new, those too that were just starting with the configuration before. */
async function replaceAll(crew: Crew, config: Config, log: Logger): Promise<boolean> {
  log.info('replacing the worker processes, one after the other')
  for (let old = crew.otherThan(config); old !== undefined; old = crew.otherThan(config)) {
    const { ok } = await old.started
    if (crew.ending()) return false
    // Whoever started one that cannot start sees to another, which is new.
    if (!ok) await old.exited
    else if (crew.has(old) && !(await replace(crew, old, log))) return false
  }
  log.info('all worker processes are replaced')
  return true
}

/** The first alone, so that trouble is told once. */
async function startAll(crew: Crew, count: number, started: (first: Started & { ok: true }) => void): Promise<void> {
  const first = await crew.add()
  if (crew.ending()) return
  if (!first.ok) throw new WorkerError(first.why)
  started(first)
  await Promise.all(Array.from({ length: count - 1 }, crew.fill))
}

export function createPrimary({ config: first, whereOf, count, log, giveUp }: PrimaryOptions) {
  let config = first
  let { port } = first.server
  let turn = Promise.resolve()
  const orders = () => ({ config, where: whereOf(config), port, processes: count, uptimeSeconds: process.uptime() })
  const crew = createCrew({ orders, log, giveUp })

  async function restartWith(next: Config): Promise<void> {
    const before = config
    config = next
    if (!(await replaceAll(crew, next, log))) config = before
  }

  return {
    /** Starts all; answers what the first has to tell, nothing where it was told to end meanwhile. */
    async start(): Promise<string> {
      let greeting = ''
      cluster.setupPrimary({ serialization: 'advanced' })
      // Whatever ends this process, a hung worker must not outlive it.
      process.once('exit', crew.kill)
      await startAll(crew, count, (started) => ({ port, greeting } = started))
      return greeting
    },
    /** New workers under this configuration, one after the other; no call is refused meanwhile. */
    restart: (next: Config): void => {
      turn = turn.then(() => restartWith(next))
    },
    /** Lets all answer what is under way, and end. */
    drain: (noticeMs: number): Promise<void> => crew.end(noticeMs),
  }
}
