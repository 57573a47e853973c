/**
 * Whoever looks: lists what is uncertain, asks the exchange by `reference`, and settles each. "Not executed" is said only
 * after no order that was sent under the lease can be carried out any more.
 */
import type { Body, Caller } from './caller.ts'
import type { Recorder } from '../checker/history.ts'
import type { ExchangeLink } from './exchange.ts'

export type ReconcilerTools = {
  caller: Caller
  recorder: Recorder
  exchange: ExchangeLink
  nowMs: () => number
  /** From the first sight of an uncertain effect on: the longest lease, the latest late order, and the query's delay. */
  certaintyMs: number
}

type Uncertain = { effect_id: string; state: string; fencing_token: number; reference: string }

/** Every page of the list, or undefined where one could not be had. */
async function list({ caller }: ReconcilerTools): Promise<Uncertain[] | undefined> {
  const found: Uncertain[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const from: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`
    const answer: { status: number; body: Body } | undefined = await caller.send(
      'GET',
      `/api/v1/effects?limit=500${from}`,
    )
    if (answer?.status !== 200) return undefined
    found.push(...(answer.body.effects as Uncertain[]))
    cursor = answer.body.next_cursor as string | null
  }
  return found
}

export function createReconciler(tools: ReconcilerTools) {
  const { caller, recorder, exchange, nowMs, certaintyMs } = tools
  const firstSeen = new Map<string, number>()
  const suspects = new Set<string>()

  async function settle({ effect_id, fencing_token, reference }: Uncertain): Promise<boolean> {
    const since = firstSeen.get(`${effect_id} ${fencing_token}`) ?? nowMs()
    firstSeen.set(`${effect_id} ${fencing_token}`, since)
    const askedAt = nowMs()
    const found = await exchange.query(reference)
    const about = { reason: 'asked the exchange', evidence: found?.body ?? null, fencing_token }
    if (found?.status === 200) {
      const result = { order: found.body.orderId }
      const { told } = await caller.resolve(effect_id, { resolution: 'executed', result, ...about })
      return told.status === 200
    }
    if (found?.body.code !== -2013 || askedAt - since < certaintyMs) return false
    const { told } = await caller.resolve(effect_id, { resolution: 'not_executed', ...about })
    return told.status === 200
  }

  /** Reads one that somebody was told of, until it is settled or may be claimed again. */
  async function lookAt(effect_id: string): Promise<void> {
    const { told, body } = await caller.get(effect_id)
    if (told.status !== 200 && told.status !== 404) return
    const settled = told.state === 'uncertain' ? await settle(body as Uncertain) : told.state !== 'in_progress'
    if (settled) suspects.delete(effect_id)
  }

  async function inParts<T>(items: readonly T[], act: (item: T) => Promise<unknown>): Promise<void> {
    for (let at = 0; at < items.length; at += 16) await Promise.all(items.slice(at, at + 16).map(act))
  }

  return {
    /** This effect needs a look. */
    suspect: (effect_id: string) => void suspects.add(effect_id),
    /** Looks at what it was told of; answers how many are left. */
    async look(): Promise<number> {
      await inParts([...suspects], lookAt)
      return suspects.size
    },
    /** Looks at everything that the service lists; answers how many that were, or undefined where it gave no list. */
    async round(): Promise<number | undefined> {
      const open = await list(tools)
      if (!open) return undefined
      const uncertain = open.filter(({ state }) => state === 'uncertain')
      for (const { effect_id } of uncertain) recorder.saw('uncertain', effect_id)
      await inParts(uncertain, settle)
      return open.length
    },
  }
}
