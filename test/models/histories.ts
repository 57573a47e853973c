/** Calls that overlap: recording them, letting them take turns at the store, and finding an order that explains them. */
import { AssertionError } from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import type { Answer, TestApp } from '../helpers/app.ts'
import { waitFor } from '../helpers/redis-server.ts'
import type { Services } from '../../src/services.ts'

/** `began` and `ended` count all beginnings and ends of a run. */
export type Call<Operation> = { operation: Operation; answer: Answer; began: number; ended: number }

type Step<State, Operation> = (state: State, operation: Operation, answer: Answer) => State

function tryStep<State, Operation>(step: Step<State, Operation>, state: State, { operation, answer }: Call<Operation>) {
  try {
    return { state: step(state, operation, answer) }
  } catch (error) {
    if (error instanceof AssertionError) return undefined
    throw error
  }
}

/**
 * The state after all calls in some order, one after the other, that gives every answer and that `fits` accepts; none
 * begins before one that had ended earlier. Undefined where there is no such order.
 */
export function explain<State, Operation>(
  calls: readonly Call<Operation>[],
  start: State,
  step: Step<State, Operation>,
  fits: (state: State) => boolean = () => true,
): State | undefined {
  // Many orders of the same calls come to the same state: one of them is enough.
  const failed = new Set<string>()

  function search(left: readonly Call<Operation>[], state: State): State | undefined {
    if (left.length === 0) return fits(state) ? state : undefined
    const place = JSON.stringify([left.map(({ began }) => began), state])
    if (failed.has(place)) return undefined
    const firstEnd = Math.min(...left.map(({ ended }) => ended))
    for (const call of left.filter(({ began }) => began < firstEnd)) {
      const next = tryStep(step, state, call)
      const others = left.filter((other) => other !== call)
      const found = next && search(others, next.state)
      if (found) return found
    }
    failed.add(place)
    return undefined
  }

  return search(calls, start)
}

/** For the message of a failure. */
export const describe = <Operation>(calls: readonly Call<Operation>[]): string =>
  calls
    .map(({ operation, answer, began, ended }) => {
      const { status, text } = answer
      return `${began}–${ended} ${JSON.stringify(operation)} → ${status} ${text.slice(0, 300)}`
    })
    .join('\n')

/** So long a run may take before its own time could be mistaken for a move of the clock. */
const runMsMax = 5000

/** A clock of beginnings and ends. */
export function createRecorder<Operation>() {
  const calls: Call<Operation>[] = []
  const startMs = performance.now()
  let instant = 0
  return {
    calls,
    async record(operation: Operation, perform: () => Promise<Answer>): Promise<Answer> {
      const began = ++instant
      const answer = await perform()
      calls.push({ operation, answer, began, ended: ++instant })
      return answer
    },
    /** A machine too busy to answer in time says nothing for or against the service: another run takes the place of this one. */
    mustBeClear(): void {
      fc.pre(calls.every(({ answer }) => answer.status !== 503) && performance.now() - startMs < runMsMax)
    },
  }
}

type Store = Services['store']
type Turn = <T>(label: string, act: () => Promise<T>) => Promise<T>

/** How many turns of the event loop a call takes at the most from one answer of the store to its next script. */
const turnsBetweenScripts = 4

/** Lets the scheduler choose who may go to the store next; whoever went goes on until it is there again. */
export const turnsOf =
  (scheduler: fc.Scheduler): Turn =>
  (label, act) =>
    new Promise((resolve, reject) => {
      const builder = async () => {
        await act().then(resolve, reject)
        for (let turn = 0; turn < turnsBetweenScripts; turn++) await nextTurn()
      }
      scheduler.scheduleSequence([{ label, builder }])
    })

const gated = /^(effect-|breaker-|audit-append$)/

/** From now on scripts of this store wait for their turn where one is set. */
export function takeTurns(store: Store): { turn: Turn | undefined } {
  const gate: { turn: Turn | undefined } = { turn: undefined }
  for (const name of ['run', 'runTelling'] as const) {
    const real = store[name] as (...args: Parameters<Store['run']>) => Promise<unknown>
    const waiting: typeof real = (definition, ...rest) => {
      const send = () => real(definition, ...rest)
      return gate.turn && gated.test(definition.name) ? gate.turn(definition.name, send) : send()
    }
    Object.assign(store, { [name]: waiting })
  }
  return gate
}

/** Connected, and with a clock that it knows: from now on every call goes to the store only where it has to. */
export async function warmed({ services: { store } }: TestApp): Promise<void> {
  await waitFor(store.connected)
  await store.clock()
}
