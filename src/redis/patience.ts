/**
 * How long a connection waits for its replies, in time in which this process could have read them. While our own loop is
 * behind, replies lie unread in the socket: a timer that fires then would call them lost, and everything is sent twice,
 * which puts the loop further behind: 5,000 workers that came back at once were never served.
 */
import type { Redis } from 'ioredis'
import { limits } from '../limits.ts'

export type Patience = {
  /** After which a command is given up; whether it was executed is unknown. */
  commandMs: number
  /** After which a connection that owes replies and has told nothing is ended. */
  silentMs: number
}

type Command = Parameters<Redis['sendCommand']>[0]
type Waiting = { command: Command; sinceMs: number }

/** Whether a command was left unanswered for too long, and nothing was told since. */
export type Silent = () => boolean

/**
 * A clock that advances while somebody waits, by no more than two ticks at once: between two of them the loop has looked
 * into the sockets.
 */
function createAliveClock(ticked: () => void) {
  const { storePatienceTickMs: tickMs } = limits
  let aliveMs = 0
  let lastMs = 0
  let timer: NodeJS.Timeout | undefined
  function tick(): void {
    const nowMs = performance.now()
    aliveMs += Math.min(nowMs - lastMs, 2 * tickMs)
    lastMs = nowMs
    ticked()
  }
  return {
    nowMs: () => aliveMs,
    start(): void {
      if (timer !== undefined) return
      lastMs = performance.now()
      timer = setInterval(tick, tickMs).unref()
    },
    stop(): void {
      clearInterval(timer)
      timer = undefined
    },
  }
}

/** Gives up commands and connections in place of the client library's own timers. `heard`: it tells something again. */
export function watchReplies(redis: Redis, { commandMs, silentMs }: Patience, heard: () => void): Silent {
  const clock = createAliveClock(look)
  const waiting: Waiting[] = []
  /** Since when replies are owed and nothing has come. */
  let owedSinceMs: number | undefined
  let silent = false

  function giveUpOverdue(): void {
    for (let first = waiting[0]; first; first = waiting[0]) {
      const { command, sinceMs } = first
      if (!command.isSettled && clock.nowMs() - sinceMs < commandMs) return
      waiting.shift()
      if (command.isSettled) continue
      silent = true
      command.reject(new Error('Command timed out'))
    }
  }
  function look(): void {
    giveUpOverdue()
    if (owedSinceMs !== undefined && clock.nowMs() - owedSinceMs >= silentMs) {
      owedSinceMs = undefined
      streamOf(redis)?.destroy(new Error(`nothing was received for ${silentMs} ms`))
    }
    if (waiting.length === 0 && owedSinceMs === undefined) clock.stop()
  }
  function track(command: Command): void {
    clock.start()
    // The first tick may be near.
    const sinceMs = clock.nowMs() + limits.storePatienceTickMs
    waiting.push({ command, sinceMs })
    owedSinceMs ??= sinceMs
  }
  /** Replies come in order: where the last one has come, none is owed. */
  function received(): void {
    owedSinceMs = waiting.at(-1)?.command.isSettled === false ? clock.nowMs() : undefined
    if (!silent) return
    silent = false
    heard()
  }
  trackCommands(redis, track)
  redis.on('connect', () => streamOf(redis)?.on('data', received))
  redis.on('close', () => {
    silent = false
    owedSinceMs = undefined
  })
  return () => silent
}

function trackCommands(redis: Redis, track: (command: Command) => void): void {
  const send = redis.sendCommand.bind(redis)
  redis.sendCommand = (command, stream) => {
    const reply = send(command, stream)
    if (!command.isSettled) track(command)
    return reply
  }
}

/** The socket of this moment, which the client library keeps to itself. */
const streamOf = (redis: Redis) => (redis as unknown as { stream?: import('node:net').Socket }).stream
