/** The workers that live: one more is started, one that died is replaced, all are told how many they are. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import { limits } from '../limits.ts'
import { createCounting } from './counting.ts'
import { launch, type Member, type Started } from './member.ts'
import type { Orders, ToWorker } from './messages.ts'

export type CrewOptions = {
  /** For whoever is started next. */
  orders: () => Omit<Orders, 'worker'>
  log: Logger
  /** Called when workers cannot be started any more. */
  giveUp: (why: string) => void
}

/** How long until another takes the place of one that died: at once, unless they die soon after they were started. */
function createPause() {
  let hasty = 0
  return {
    died: ({ launchedMs }: Member): void => {
      hasty = performance.now() - launchedMs < limits.workerSteadyMs ? hasty + 1 : 0
    },
    ms: (): number => (hasty < 2 ? 0 : Math.min(limits.workerPauseMaxMs, limits.workerPauseMs * 2 ** (hasty - 2))),
  }
}

type Filling = Pick<CrewOptions, 'log' | 'giveUp'> & {
  add: () => Promise<Started>
  pauseMs: () => number
  ending: () => boolean
}

/** Starts one until it takes calls, or until `limits.workerStartsMax` could not. */
async function fillPlace({ add, pauseMs, ending, log, giveUp }: Filling): Promise<void> {
  for (let tries = 1; ; tries++) {
    await sleep(pauseMs())
    if (ending()) return
    const started = await add()
    if (started.ok || ending()) return
    log.error({ tries }, `a worker process cannot start: ${started.why}`)
    if (tries === limits.workerStartsMax) return giveUp(started.why)
  }
}

export function createCrew({ orders, log, giveUp }: CrewOptions) {
  const members = new Map<number, Member>()
  const counting = createCounting()
  const pause = createPause()
  let lost = 0
  let ending = false

  const all = (): Member[] => [...members.values()]
  const serving = (): Member[] => all().filter((member) => member.serving)

  function tellAll(message: ToWorker = { type: 'fellows', serving: serving().length, lost }): void {
    for (const member of members.values()) member.tell(message)
  }

  function exited(member: Member, how: string): void {
    members.delete(member.id)
    counting.end(member)
    if (!member.dismissed && !ending) missed(member, how)
    tellAll()
  }

  /** It has ended and was not told to; a person may have asked it to leave. */
  function missed(member: Member, how: string): void {
    if (!member.leaving) {
      lost++
      pause.died(member)
      log.error({ worker: member.id }, `a worker process has ended ${how}`)
    }
    if (member.serving) void fill()
  }

  /** Starts one more and waits until it takes calls. */
  async function add(): Promise<Started> {
    const sum = async (asker: Member, question: number): Promise<void> =>
      asker.tell({ type: 'sum', question, text: await counting.text(serving()) })
    const member = launch(orders(), { counted: counting.keep, sum, exited })
    members.set(member.id, member)
    const started = await member.started
    tellAll()
    return started
  }

  const fill = (): Promise<void> => fillPlace({ add, pauseMs: pause.ms, ending: () => ending, log, giveUp })

  return {
    ...{ add, fill },
    /** One that was started with another configuration than this. */
    otherThan: (config: Config) => all().find((member) => member.config !== config),
    has: ({ id }: Member): boolean => members.has(id),
    ending: () => ending,
    /** Tells all to end, and waits until they have. */
    async end(noticeMs: number): Promise<void> {
      ending = true
      tellAll({ type: 'drain', farewell: { noticeMs, replaced: false } })
      await Promise.all(all().map((member) => member.exited))
    },
    kill: () => all().forEach((member) => member.kill()),
  }
}

export type Crew = ReturnType<typeof createCrew>
