/** One server that takes our writes: the connection, its clock, and how a script is sent there. */
import type { Redis } from 'ioredis'
import { limits } from '../limits.ts'
import { type Floor, createClock, type RedisClock } from './clock.ts'
import { createCoalescer } from './coalescer.ts'
import { stayConnected, type ServerAddress, type StoreAddress } from './connection.ts'
import { classifyStoreError, type StoreReason } from './errors.ts'
import { createGroupCommit, type GroupCommit } from './group-commit.ts'
import type { ScriptCall, ScriptTexts } from './scripts.ts'
import { createWitness, type Witness, type WitnessOptions } from './witness.ts'
import { storeWitness } from './witness-scripts.ts'
import { sendScript, sendWhole } from './written-command.ts'

export type ServerEvents = {
  connection: (event: 'ready' | 'close' | 'error', detail: string) => void
}

/** Sends scripts over a connection: alone, or together with others of their kind. */
function scriptsOn(redis: Redis, texts: ScriptTexts, oneSlot: boolean) {
  const send = (call: ScriptCall): Promise<unknown> => sendScript(redis, texts(call.definition), call)
  const sendCoalesced = createCoalescer(send, oneSlot)
  return (call: ScriptCall): Promise<unknown> => (call.definition.coalesced ? sendCoalesced(call) : send(call))
}

export type StoreServer = {
  node: string
  redis: Redis
  clock: RedisClock
  /** Whether this is the server that it was, and what it may have lost. */
  witness: Witness
  /** Why the server refused the last script or connection, until it answers one. */
  refusal: StoreReason | undefined
  /** Whether what is sent now may be answered: it is connected and has not fallen silent. */
  serving: () => boolean
  /** Waits until it serves again, `limits.storeRetryPauseMs` at most. */
  moment: () => Promise<void>
  send: (call: ScriptCall) => Promise<unknown>
  /** As `send`, of a slot that is on its way to this server. */
  sendAsking: (call: ScriptCall) => Promise<unknown>
  /** Opens its connections with the first call. */
  groupCommit: () => GroupCommit
  close: () => void
}

/** One wait for all who wait: 5,000 calls that look again by themselves cost more than serving them. */
function createMoment() {
  let end: (() => void) | undefined
  let current: Promise<void> | undefined
  function begin(resolve: () => void): void {
    const timer = setTimeout(() => end?.(), limits.storeRetryPauseMs)
    end = () => {
      clearTimeout(timer)
      end = undefined
      current = undefined
      resolve()
    }
  }
  return { wait: () => (current ??= new Promise<void>(begin)), end: () => end?.() }
}

function watch(server: StoreServer, { connection }: ServerEvents): void {
  const { redis, witness } = server
  redis.on('ready', () => {
    connection('ready', server.node)
    // Whoever needs it asks again, and is told what is wrong.
    witness.look(redis).catch(() => undefined)
  })
  redis.on('close', () => connection('close', server.node))
  redis.on('error', (error: Error) => {
    const trouble = classifyStoreError(error)
    if (trouble.kind === 'not_executed') {
      server.refusal = trouble.reason === 'unavailable' ? undefined : trouble.reason
    }
    connection('error', `${server.node}: ${error.message}`)
  })
  redis.on('sentinelError', (error: Error) => connection('error', error.message))
}

export type ServerOptions = {
  texts: ScriptTexts
  floor: Floor
  events: ServerEvents
  /** A jump of the server's clock by more is a step. */
  stepMs: number
  witness: Omit<WitnessOptions, 'node' | 'clock' | 'script'>
}

/** Connects and keeps connecting until it is closed. `place`: which server of a Cluster. */
export function openServer(address: StoreAddress, options: ServerOptions, place?: ServerAddress): StoreServer {
  const { texts, floor, events, stepMs } = options
  const node = place ? `${place.host}:${place.port}` : 'primary'
  const moment = createMoment()
  const connection = stayConnected(address, 'effectonce', { heard: moment.end }, place)
  const { redis, silent } = connection
  redis.on('ready', moment.end)
  const clock = createClock(floor, stepMs)
  const witness = createWitness({ ...options.witness, node, clock, script: texts(storeWitness) })
  let commit: GroupCommit | undefined
  const server: StoreServer = {
    ...{ node, redis, refusal: undefined, clock, witness },
    serving: () => redis.status === 'ready' && !silent(),
    moment: moment.wait,
    send: scriptsOn(redis, texts, place !== undefined),
    async sendAsking(call) {
      const asking = redis.call('ASKING').catch(() => undefined)
      const reply = await sendWhole(redis, texts(call.definition), call)
      await asking
      return reply
    },
    groupCommit: () => (commit ??= createGroupCommit(address, texts, witness.admit, place)),
    close() {
      connection.close()
      commit?.close()
    },
  }
  watch(server, events)
  return server
}
