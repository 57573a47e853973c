/** Where workers get their orders, and the exchange behind one HTTP port: it is never killed, and keeps the ledger. */
import http from 'node:http'
import { identify } from '../../../src/effects/identity.ts'
import type { Effect } from './caller.ts'
import type { createExchange, Order } from './exchange.ts'
import type { Random } from './random.ts'

const givenAtOnce = 12

const types = [...Array<string>(6).fill('order_placement'), 'ledger_write', 'signal_consumption']

export type DeskOptions = {
  exchange: ReturnType<typeof createExchange>
  random: Random
  /** Names the orders. */
  run: string
  /** So many orders are open at a time; each may be given to several workers. */
  open: number
}

/** Orders until there are enough; one is done when a claim was told that it is settled. */
function createOrders({ random, run, open: openMax }: DeskOptions) {
  const open = new Map<string, Effect>()
  const all: string[] = []
  let over = false
  function refill(): void {
    while (!over && open.size < openMax) {
      const [type, entity] = [random.pick(types), `${run}-${all.length + 1}`]
      const { effectId: effect_id } = identify(type, entity)
      open.set(effect_id, { type, entity, effect_id })
      all.push(effect_id)
    }
  }
  return {
    all,
    open: () => open.size,
    /** The open ones, and of all others evenly so many that there are about `count`. */
    sample(count: number): string[] {
      const stride = Math.ceil(all.length / count)
      return [...new Set([...open.keys(), ...all.filter((_, index) => index % stride === 0)])]
    },
    /** No new ones from now on; the open ones are still given. */
    close: () => void (over = true),
    next(settled: string[]): { orders: Effect[]; over: boolean } {
      for (const effect of settled) open.delete(effect)
      refill()
      const choice = [...open.values()]
      return { orders: Array.from({ length: Math.min(givenAtOnce, choice.length) }, () => random.pick(choice)), over }
    },
  }
}

async function readBody(request: http.IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  return JSON.parse(Buffer.concat(parts).toString())
}

export async function startDesk(t: { teardown(end: () => Promise<void>): void }, options: DeskOptions) {
  const { exchange } = options
  const orders = createOrders(options)
  /** Undefined: the connection is cut without an answer. */
  function answer(path: string, body: unknown): { status: number; body: unknown } | undefined {
    if (path === '/place') return exchange.place(body as Order)
    if (path === '/query') return exchange.query((body as { id: string }).id)
    return { status: 200, body: orders.next((body as { settled: string[] }).settled) }
  }
  const server = http.createServer((request, response) => {
    const respond = async () => {
      const told = answer(request.url ?? '', await readBody(request))
      if (told === undefined) return request.socket.destroy()
      response.writeHead(told.status, { 'content-type': 'application/json' }).end(JSON.stringify(told.body))
    }
    respond().catch(() => request.socket.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const { port } = server.address() as { port: number }
  return { orders, url: `http://127.0.0.1:${port}` }
}
