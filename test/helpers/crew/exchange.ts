/**
 * An exchange as Binance's documentation describes it: client ids that are unique among open orders only, so that after a
 * fill the same id is carried out again; -1007, after which an order may still be carried out; a query that does not find
 * a new order for a moment; a deadline (`recvWindow`) that is the only protection against a late send. It keeps the ledger.
 */
import type { Recorder } from '../checker/history.ts'
import type { Random } from './random.ts'

export type Order = {
  /** The client's id: the reference of the effect. */
  id: string
  /** Not after this, by the clock that exchange and workers share. */
  deadlineMs: number
  /** For the ledger only. */
  effect: string
  token: number
}

export type ExchangeAnswer = { status: number; body: { code?: number; msg?: string; orderId?: string } }

export type ExchangeTiming = {
  /** After -1007 an order is carried out within this time or not at all. */
  lateMsMax: number
  /** How long a query may not find a new order. */
  hiddenMsMax: number
  openMsMax: number
}

type Known = { orderId: string; openUntil: number; visibleFrom: number }

const refusal = (code: number, msg: string, status = 400): ExchangeAnswer => ({ status, body: { code, msg } })
const unknownStatus = refusal(-1007, 'Timeout waiting for response from backend server.', 408)

export function createExchange(recorder: Recorder, random: Random, nowMs: () => number, timing: ExchangeTiming) {
  const orders = new Map<string, Known>()
  const late = new Set<NodeJS.Timeout>()
  let carriedOut = 0

  function carryOut({ id, effect, token }: Order): ExchangeAnswer {
    const orderId = `x${++carriedOut}`
    const now = nowMs()
    recorder.executed(effect, orderId, token)
    const openUntil = random.chance(0.3) ? now + random.between(0, timing.openMsMax) : now
    orders.set(id, { orderId, openUntil, visibleFrom: now + random.between(0, timing.hiddenMsMax) })
    return { status: 200, body: { orderId } }
  }

  function accept(order: Order): ExchangeAnswer {
    const now = nowMs()
    if (now > order.deadlineMs) return refusal(-1021, 'Timestamp for this request is outside of the recvWindow.')
    if ((orders.get(order.id)?.openUntil ?? 0) > now) return refusal(-2010, 'Duplicate order sent.')
    return carryOut(order)
  }

  function acceptLater(order: Order): void {
    const timer = setTimeout(
      () => {
        late.delete(timer)
        accept(order)
      },
      random.between(0, timing.lateMsMax),
    )
    late.add(timer)
  }

  return {
    /** Undefined: the connection was lost, before or after the order was carried out. */
    place(order: Order): ExchangeAnswer | undefined {
      if (random.chance(0.04)) return refusal(-2010, 'Account has insufficient balance for requested action.')
      if (random.chance(0.02)) return refusal(-1003, 'Too many requests.', 429)
      if (random.chance(0.02)) return undefined
      if (random.chance(0.03)) {
        if (random.chance(0.5)) acceptLater(order)
        return unknownStatus
      }
      const answer = accept(order)
      return random.chance(0.02) ? undefined : answer
    },
    query(id: string): ExchangeAnswer {
      const known = orders.get(id)
      if (!known || known.visibleFrom > nowMs()) return refusal(-2013, 'Order does not exist.')
      return { status: 200, body: { orderId: known.orderId } }
    },
    /** Whether nothing is still to be carried out late. */
    idle: () => late.size === 0,
    carriedOut: () => carriedOut,
  }
}

/** The exchange as a worker reaches it. */
export type ExchangeLink = {
  place: (order: Order) => Promise<ExchangeAnswer | undefined>
  query: (id: string) => Promise<ExchangeAnswer | undefined>
}
