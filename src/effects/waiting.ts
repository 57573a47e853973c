/**
 * Who waits for an effect that another holds, and whose turn it is to ask again. Knows nothing of Redis and asks nobody.
 *
 * A claim that is answered `in_progress` leaves its mark on the record, and the script that ends what is in progress tells
 * so once: to every process, whose first waiter asks then. It is granted, or answered, or finds another holder and leaves the
 * mark anew. Until a mark is known to stand, the next one asks. Time costs nothing: one timer for an effect's lease, one for
 * the end of each wait.
 */
import { limits } from '../limits.ts'
import { Problem } from '../problems.ts'

/** Whoever waits, as its connection tells. */
export type Caller = {
  /** Nobody is there to take an answer. */
  gone: () => boolean
  whenGone: (listener: () => void) => void
  /** How long it was kept waiting. */
  waited: (ms: number) => void
}

/** Why a waiter goes on: to ask again, for the last time where the wait is `over`; or to be answered what is known. */
type Reason = 'ask' | 'over' | 'answer'

/** What a claim was answered, as far as others who wait must know. */
export type Outcome = 'granted' | 'settled' | 'refused' | 'trouble'

type Entry = {
  key: string
  waiters: Set<Waiter>
  /** How often there was reason to ask again. */
  wakes: number
  /** A mark stands since so many: of the last claim answered `in_progress`, when it was sent. */
  marked: number
  /** Waiters who are asking because of a wake. */
  asking: number
  /** It is not in progress: nobody needs to wait for another one's answer. */
  ended: boolean
  /** The newest answer `in_progress`, and when the lease in it ends, by this process's clock. */
  problem: Problem | undefined
  leaseEndsMs: number
  lease: NodeJS.Timeout | undefined
  rest: NodeJS.Timeout | undefined
}

type Waiter = {
  entry: Entry
  /** `entry.wakes` when its claim was sent. */
  seen: number
  /** It asks because of a wake, or waits for a slot to do so. */
  asked: boolean
  /** It has one of `limits.waitAsksMax` slots. */
  slotted: boolean
  due: 'ask' | 'over' | undefined
  resume: ((reason: Reason) => void) | undefined
}

const newEntry = (key: string): Entry => ({
  ...{ key, waiters: new Set<Waiter>(), wakes: 0, marked: -1, asking: 0, ended: false },
  ...{ problem: undefined, leaseEndsMs: 0, lease: undefined, rest: undefined },
})

/** As it was answered, but for what time has changed. */
function asOfNow({ problem, leaseEndsMs }: Entry): Problem {
  if (!problem) throw new Error('whoever waits has been answered before')
  const remaining = Math.max(0, Math.round(leaseEndsMs - performance.now())) / 1000
  return new Problem(problem.slug, problem.message, {
    ...problem.members,
    lease_remaining_seconds: remaining,
    retry_after_seconds: Math.max(1, Math.ceil(remaining)),
  })
}

/** Lets so many ask at a time, the others in the order in which their turn came. */
function createTurns() {
  const queue = new Set<Waiter>()
  let slots: number = limits.waitAsksMax

  function start(waiter: Waiter, reason: Reason): void {
    slots -= 1
    waiter.slotted = true
    waiter.resume?.(reason)
  }

  return {
    due(waiter: Waiter, reason: 'ask' | 'over'): void {
      waiter.due = reason
      if (slots > 0) start(waiter, reason)
      else queue.add(waiter)
    },
    /** Its claim was answered, or it will not ask. */
    settle(waiter: Waiter): void {
      queue.delete(waiter)
      waiter.due = undefined
      if (waiter.asked) waiter.entry.asking -= 1
      waiter.asked = false
      if (waiter.slotted) slots += 1
      waiter.slotted = false
      for (const next of queue) {
        if (slots === 0) break
        queue.delete(next)
        start(next, next.due ?? 'ask')
      }
    },
  }
}

type Turns = ReturnType<typeof createTurns>

/** Lets the first ask unless a mark stands or somebody asks already; all of them where nothing is in progress. */
function advance(turns: Turns, entry: Entry): void {
  if (entry.rest || entry.marked >= entry.wakes) return
  for (const waiter of entry.waiters) {
    if (!entry.ended && entry.asking > 0) return
    if (!waiter.resume || waiter.asked) continue
    waiter.asked = true
    entry.asking += 1
    if (waiter.due === undefined) turns.due(waiter, 'ask')
  }
}

function wake(turns: Turns, entry: Entry): void {
  entry.wakes += 1
  advance(turns, entry)
}

/** Wakes at the end of the lease; it may have been renewed by then. */
function watchLease(turns: Turns, entry: Entry, remainingMs: number): void {
  const endsMs = performance.now() + remainingMs
  if (entry.lease && Math.abs(endsMs - entry.leaseEndsMs) < limits.waitLeaseSlackMs) return
  entry.leaseEndsMs = endsMs
  clearTimeout(entry.lease)
  const onEnd = () => {
    entry.lease = undefined
    wake(turns, entry)
  }
  entry.lease = setTimeout(onEnd, Math.max(limits.waitLeaseSlackMs, remainingMs))
}

/** One claim answered `in_progress`: the mark stands, unless there was reason to ask again meanwhile. */
function meet(turns: Turns, waiter: Waiter, problem: Problem): void {
  const { entry, seen } = waiter
  entry.problem = problem
  entry.marked = Math.max(entry.marked, seen)
  if (entry.marked >= entry.wakes) entry.ended = false
  watchLease(turns, entry, Number(problem.members['lease_remaining_seconds']) * 1000)
  turns.settle(waiter)
}

/** What others must know of how a waiter was answered. */
function learn(turns: Turns, entry: Entry, outcome: Outcome | undefined, asked: boolean): void {
  if (outcome === 'trouble') {
    entry.rest ??= setTimeout(() => {
      entry.rest = undefined
      advance(turns, entry)
    }, limits.waitRestMs)
  }
  if (outcome === 'granted' || outcome === 'settled') entry.wakes += 1
  if (outcome === 'granted') entry.ended = false
  else if (outcome === 'settled' || (outcome === 'refused' && asked)) entry.ended = true
  advance(turns, entry)
}

/** Until its turn comes or `endMs`; then it asks for the last time, if it gets a slot soon. */
function park(turns: Turns, waiter: Waiter, endMs: number, atOnce: boolean): Promise<Reason> {
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | undefined
    waiter.resume = (reason) => {
      clearTimeout(timer)
      waiter.resume = undefined
      resolve(reason)
    }
    const onEnd = () => {
      turns.due(waiter, 'over')
      if (waiter.resume) timer = setTimeout(waiter.resume, limits.waitSlotMs, 'answer')
    }
    const leftMs = endMs - performance.now()
    timer = setTimeout(onEnd, leftMs)
    if (atOnce || leftMs <= 0) waiter.resume('answer')
    advance(turns, waiter.entry)
  })
}

/** What a claim that waits tells, and is told. */
function seatOf(turns: Turns, waiter: Waiter) {
  const { entry } = waiter
  return {
    /** Its claim is about to be sent. */
    begins: () => void (waiter.seen = entry.wakes),
    /** That claim was answered `in_progress`. */
    met: (problem: Problem) => meet(turns, waiter, problem),
    /** It was not executed: the others may wait a moment too. */
    failed() {
      turns.settle(waiter)
      learn(turns, entry, 'trouble', false)
    },
    /** What is known of the holder that it waits for. */
    answer: () => asOfNow(entry),
  }
}

/** `listen`: somebody waits, so that from now on wake-ups must be heard; told more than once. */
export function createWaiting(listen: () => void) {
  const entries = new Map<string, Entry>()
  const turns = createTurns()
  let count = 0
  let draining = false

  function enter(key: string): Waiter {
    const entry = entries.get(key) ?? newEntry(key)
    entries.set(entry.key, entry)
    const waiter: Waiter = { entry, seen: 0, asked: false, slotted: false, due: undefined, resume: undefined }
    entry.waiters.add(waiter)
    count += 1
    return waiter
  }

  function leave(waiter: Waiter, outcome: Outcome | undefined): void {
    const { entry, asked } = waiter
    turns.settle(waiter)
    entry.waiters.delete(waiter)
    count -= 1
    if (entry.waiters.size > 0) return learn(turns, entry, outcome, asked)
    clearTimeout(entry.lease)
    clearTimeout(entry.rest)
    entries.delete(entry.key)
  }

  return {
    /** Undefined where nobody may wait any more: the process drains, or too many do. */
    join(key: string, caller: Caller) {
      if (draining || count >= limits.waitersMax) return undefined
      listen()
      const waiter = enter(key)
      caller.whenGone(() => waiter.resume?.('answer'))
      return {
        ...seatOf(turns, waiter),
        park: (endMs: number) => park(turns, waiter, endMs, draining || caller.gone()),
        /** Once; `outcome` undefined where it tells the others nothing. */
        leave: (outcome: Outcome | undefined) => leave(waiter, outcome),
      }
    },
    /** The effect of this key is no longer in progress. */
    heard(this: void, key: string): void {
      const entry = entries.get(key)
      if (entry) wake(turns, entry)
    },
    /** Something may have gone unheard. */
    checkAll: () => entries.forEach((entry) => wake(turns, entry)),
    count: () => count,
    /** Everybody is answered at once, and nobody waits any more. */
    drain(): void {
      draining = true
      for (const { waiters } of entries.values()) for (const waiter of waiters) waiter.resume?.('answer')
    },
  }
}

export type Waiting = ReturnType<typeof createWaiting>
