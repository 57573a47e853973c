/** What the primary process and its workers tell each other over the channel that node:cluster opens between them. */
import type { Config } from '../config.ts'
import type { CountedMetrics } from '../observability/metrics.ts'
import type { StoreAddress } from '../redis/connection.ts'

/** Where Redis is, for the client and in words. */
export type Where = { address: StoreAddress; place: string }

/** All that a worker has to know; it reads neither the environment nor the file. */
export type Orders = {
  config: Config
  where: Where
  /** The port that the first worker was given, where any free one was asked for. */
  port: number
  /** How many processes shall take calls. */
  processes: number
  /** For the log. */
  worker: number
  /** How long the service runs already. */
  uptimeSeconds: number
}

/** How a process lets go of its callers. */
export type Farewell = {
  /** How long it still takes calls, each with the last answer of its connection. */
  noticeMs: number
  /** Another one takes its place behind the same port: that stays ready. */
  replaced: boolean
}

export type ToWorker =
  | { type: 'orders'; orders: Orders }
  | { type: 'drain'; farewell: Farewell }
  /** How many take calls, and how many have ended untold so far. */
  | { type: 'fellows'; serving: number; lost: number }
  | { type: 'count'; question: number }
  | { type: 'sum'; question: number; text: string }

export type ToPrimary =
  /** It listens: what it was told before is lost. */
  | { type: 'joined' }
  | { type: 'serving'; port: number; greeting: string }
  /** It cannot start; `message` is for the person who started the service. */
  | { type: 'failed'; message: string }
  | { type: 'counted'; question: number; metrics: CountedMetrics }
  /** The last that it counted, just before it ends as it was told to. */
  | { type: 'farewell'; metrics: CountedMetrics }
  | { type: 'sum'; question: number }
