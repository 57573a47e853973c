/** A worker's side of the channel to its primary process. When that closes, node:cluster ends the worker. */
import type { Registry } from 'prom-client'
import type { Fellows } from './fellows.ts'
import type { Farewell, Orders, ToPrimary, ToWorker } from './messages.ts'

export type WorkerOptions = {
  /** Called when the primary wants this process to end. */
  drain: (farewell: Farewell) => void
  /** What this process counts; undefined before it has begun to. */
  own: () => Registry | undefined
}

/** Resolves when the message has left, or cannot leave any more: the end is near then. */
const tell = (message: ToPrimary): Promise<void> =>
  new Promise((resolve) => process.send?.(message, undefined, {}, () => resolve()))

/** Asks the primary what all processes have counted. */
function createSums() {
  const asked = new Map<number, (text: string) => void>()
  let last = 0
  return {
    ask: (): Promise<string> => {
      const question = ++last
      void tell({ type: 'sum', question })
      return new Promise((resolve) => asked.set(question, resolve))
    },
    answer: (question: number, text: string): void => {
      asked.get(question)?.(text)
      asked.delete(question)
    },
  }
}

/** Joins the primary process; `orders` is the first that it says. */
export function joinPrimary({ drain, own }: WorkerOptions) {
  const sums = createSums()
  let known = { serving: 1, lost: 0 }
  const metrics = async () => (await own()?.getMetricsAsJSON()) ?? []
  const count = async (question: number) => tell({ type: 'counted', question, metrics: await metrics() })

  const orders = new Promise<Orders>((resolve) =>
    process.on('message', (message: ToWorker) => {
      if (message.type === 'orders') resolve(message.orders)
      else if (message.type === 'drain') drain(message.farewell)
      else if (message.type === 'fellows') known = message
      else if (message.type === 'sum') sums.answer(message.question, message.text)
      else void count(message.question)
    }),
  )
  void tell({ type: 'joined' })
  return {
    ...{ orders, tell },
    fellows: (uptimeSeconds: number): Fellows => {
      const joinedMs = performance.now()
      return {
        serving: () => known.serving,
        lost: () => known.lost,
        uptimeSeconds: () => uptimeSeconds + (performance.now() - joinedMs) / 1000,
        counted: sums.ask,
      }
    },
    /** Hands over what this process has counted: the last thing that it does. */
    farewell: async () => tell({ type: 'farewell', metrics: await metrics() }),
  }
}
