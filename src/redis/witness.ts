/**
 * Whether the server that answers is the one that answered before, and whether it still knows what it acknowledged.
 *
 * Each connection is looked at once before anything is written over it, and the connection of the store again every
 * `limits.witnessIntervalMs`: one script compares the server's identity with the record that is kept beside the data, and
 * with what this process knew. So a process that starts later knows of a change too, and none grants anything on a server
 * that it has not looked at.
 *
 * After a change an effect without a record may have been granted by the server before. Whether it can have been, by what
 * the type's durability kept and by what is sure about the change:
 *
 * | the server that answers now                                        | primary  | replicated: n             | fsynced  |
 * | ------------------------------------------------------------------ | -------- | ------------------------- | -------- |
 * | restarted from its own file, which was fsynced before each answer  | no       | no                        | no       |
 * | restarted from its own append-only file                            | possible | possible                  | no       |
 * | a replica that was running when the primary last answered          | possible | no, if n were all of them | possible |
 * | anything else, such as a restart of a primary that has replicas    | possible | possible                  | possible |
 * | came back without the record                                       | all is gone, until a person has looked          |||
 * | was emptied while it ran (FLUSHALL)                                | a deliberate act: told, and served              |||
 *
 * A restart is known to be one (and not a replica in the old one's place) only where the store was never seen with a
 * replica. `replicated` is no help when the primary itself restarts: its replicas then follow what it still has. `fsynced`
 * is none when a replica takes over.
 */
import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import type { ServiceEvent } from '../events/events.ts'
import { limits } from '../limits.ts'
import type { RedisClock } from './clock.ts'
import { NotSentError } from './errors.ts'
import { askFileSettings, fsyncsFirst } from './fsync.ts'
import type { Durability } from './group-commit.ts'
import type { RawReply, ScriptText } from './scripts.ts'
import { type LossyChange, lossyChanges, type Sighting, storeWitness, type WitnessRecord } from './witness-scripts.ts'
import { sendScript } from './written-command.ts'

/** What the witnesses of all servers share. */
export type WitnessSettings = {
  /** Names this process in the records. */
  process: string
  /** `redis.failover_grace_seconds`; 0: nothing is ever refused. */
  graceMs: number
  /** Takes the events of the store; must not throw. */
  told: (event: ServiceEvent) => void
}

export type WitnessOptions = WitnessSettings & {
  node: string
  clock: RedisClock
  script: ScriptText
  /** Where the record of this server is; undefined while a Cluster's table does not say. */
  key: () => string | undefined
  /** The run ids of the other primaries. */
  others: () => string[]
}

/** For the scripts that judge a lease: by how far older ones are moved, and how late it can be now. */
export const leaseClock = {
  clock_step: (witness: Witness): string => witness.clockStep(),
  clock_max_us: (witness: Witness): number => witness.clockMaxUs(),
}

/** Why an effect that is absent is not granted now, and for how long. */
export type AbsentRefusal = { cause: 'changed' | 'reset'; leftMs: number }

type Known = { key: string; record: WitnessRecord; heardMs: number }

const iso = (us: number): string => new Date(us / 1000).toISOString()

/** Whether what was acknowledged with this durability can have been lost by this change; see the table above. */
function canBeLost(change: LossyChange, replicas: number, durability: Durability): boolean {
  if (durability === 'primary') return true
  if (durability === 'fsynced') return change !== 'restarted'
  return change !== 'promoted' || durability.replicated < replicas
}

/** Whether the append-only file is fsynced before each answer; where that cannot be read it is not known to be. */
const fsyncsAlways = (redis: Redis): Promise<boolean> => redis.call(...askFileSettings).then(fsyncsFirst, () => false)

const details: Record<WitnessRecord['change'], string> = {
  '': '',
  kept: 'The server has restarted, or was a replica for a while. Nothing acknowledged was lost.',
  restarted: 'The server has restarted from its append-only file; its last writes may be lost.',
  promoted: 'A replica has taken over; what had not reached it is lost.',
  unknown: 'Another server answers, or this one has restarted; its last writes may be lost.',
  reset: 'The store came back empty: all records of effects are gone.',
}

/** What the world is told of a sighting that this process was the first to make. */
function eventOf({ status, record }: Sighting, node: string, graceMs: number): ServiceEvent {
  const changed_at = iso(record.changedUs)
  if (status === 'flushed') {
    const detail = 'The store was emptied while it ran: all records of effects are gone. Nothing is refused.'
    return { event: 'store.reset', node, detail, acknowledge_needed: false }
  }
  const { change } = record
  if (change !== 'reset') return { event: 'store.changed', node, change, changed_at, detail: details[change] }
  return { event: 'store.reset', node, changed_at, detail: details.reset, acknowledge_needed: graceMs > 0 }
}

/** What this process knows of a store, and how long it refuses what may have been lost. */
function createKnowledge({ clock, graceMs, process, node, told }: WitnessOptions) {
  let known: Known | undefined
  /** Each kind has a grace of its own: a change that nobody can judge makes none of those after it doubtful. */
  const graceEndsMs: Record<LossyChange, number> = { restarted: -Infinity, promoted: -Infinity, unknown: -Infinity }

  function extendGrace(ends: (change: LossyChange) => number): void {
    for (const change of lossyChanges) graceEndsMs[change] = Math.max(graceEndsMs[change], ends(change))
  }

  function tell(sighting: Sighting): void {
    const { record, status } = sighting
    const before = known?.record
    const ours = record.changedBy === process && record.changedUs > (before?.changedUs ?? 0)
    if (ours || status === 'flushed') told(eventOf(sighting, node, graceMs))
    if (record.stepBy === process && record.step > (before?.step ?? 0)) {
      told({ event: 'store.clock_stepped', node, step_seconds: clock.jump().us / 1_000_000 })
    }
  }

  return {
    known: () => known,
    /** Redis's microseconds; 0 where no change was seen. Tokens up to it may be of grants that are lost. */
    changedUs: () => known?.record.changedUs ?? 0,
    graceEndsMs: (change: LossyChange): number => graceEndsMs[change],
    take(sighting: Sighting, key: string): void {
      const { record, nowUs } = sighting
      tell(sighting)
      extendGrace((change) => {
        const us = record.lossyUs[change]
        if (us === 0 || us === known?.record.lossyUs[change]) return -Infinity
        return performance.now() + Math.min(graceMs, (us - nowUs) / 1000 + graceMs)
      })
      const changedUs = Math.max(record.changedUs, known?.record.changedUs ?? 0)
      clock.atLeast(changedUs)
      known = { key, record: { ...record, changedUs }, heardMs: performance.now() }
    },
    /** Goes on from what is known of the server that had its slots before. */
    follow(before: Witness): void {
      known ??= before.known()
      extendGrace(before.graceEndsMs)
    },
    /** Whether an effect of this durability that is absent now may have been granted before. */
    refusesAbsent(durability: Durability): AbsentRefusal | undefined {
      if (graceMs === 0 || known === undefined) return undefined
      if (known.record.resetUs > 0) return { cause: 'reset', leftMs: Infinity }
      const { replicas } = known.record
      let endsMs = -Infinity
      for (const change of lossyChanges) {
        if (canBeLost(change, replicas, durability)) endsMs = Math.max(endsMs, graceEndsMs[change])
      }
      const leftMs = endsMs - performance.now()
      return leftMs > 0 ? { cause: 'changed', leftMs } : undefined
    },
  }
}

/** How far leases are moved that were set before the last step of the clock, while any of them can be alive. */
function createLeaseClock(clock: RedisClock, known: () => Known | undefined) {
  function step(): { atUs: number; movedUs: number } {
    const { stepAtUs = 0, stepUs = 0 } = known()?.record ?? {}
    const jump = clock.jump()
    const over = clock.nowUs() > stepAtUs + stepUs + limits.leaseSecondsMax * 1_000_000
    const movedUs = Math.max(0, (over ? 0 : stepUs) + jump.us)
    return { atUs: jump.us === 0 ? stepAtUs : jump.atUs, movedUs }
  }
  return {
    clockStep(): string {
      const { atUs, movedUs } = step()
      return movedUs === 0 ? '' : `${Math.ceil(atUs / 1000)}:${Math.ceil(movedUs / 1000)}`
    },
    clockMaxUs: (): number => clock.nowUs() + limits.clockStepMs * 1000,
    leaseMovedMs(setMs: number): number {
      const { atUs, movedUs } = step()
      return setMs <= atUs / 1000 ? movedUs / 1000 : 0
    },
  }
}

/** What the script is told. Where the record is new to us, as after slots have moved in a Cluster, what is known goes on there. */
function argumentsOf(
  { clock, process, others }: WitnessOptions,
  known: Known | undefined,
  key: string,
  always: boolean,
) {
  const here = known?.key === key ? known : undefined
  const jump = clock.jump()
  const args = {
    process,
    known_id: here?.record.id ?? '',
    known_run_id: here?.record.runId ?? '',
    known_changed_us: known?.record.changedUs ?? 0,
    silent_us: known ? Math.ceil((performance.now() - known.heardMs) * 1000) : 0,
    fresh_id: randomUUID(),
    always: always ? '1' : '',
    floor_us: clock.floorUs(),
    others: others()
      .map((runId) => `${runId},`)
      .join(''),
    fallback: JSON.stringify(known?.record.raw ?? {}),
    ...{ jump_us: jump.us, jump_at_us: jump.atUs },
    known_step: known?.record.step ?? 0,
  }
  return { jump, values: storeWitness.args.map((name) => args[name]) }
}

export function createWitness(options: WitnessOptions): Witness {
  const { clock, script } = options
  const knowledge = createKnowledge(options)
  /** Connections that were looked at; each ends with its server's process. */
  const admitted = new WeakSet<object>()
  const looking = new Map<Redis, Promise<void>>()
  /** The last connection that was looked at, and whether its server fsyncs before each answer. */
  let last: { stream: object; always: boolean } | undefined

  /** Where the record is kept. NotSentError while a Cluster's table does not say. */
  function keyNow(): string {
    const key = options.key()
    if (key === undefined) throw new NotSentError('no slot of this server is known')
    return key
  }

  async function lookNow(redis: Redis): Promise<void> {
    const { stream } = redis
    const key = keyNow()
    const alwaysBefore = last?.stream === stream && last.always
    const { jump, values } = argumentsOf(options, knowledge.known(), key, alwaysBefore)
    const sentMs = performance.now()
    // Both at once: whoever waits for a new connection waits for one round trip.
    const [reply, always] = await Promise.all([sendScript(redis, script, { keys: [key], values }), fsyncsAlways(redis)])
    const raw = reply as RawReply
    clock.saw(raw[1], sentMs)
    knowledge.take(storeWitness.decode(raw), key)
    clock.jumpTold(jump)
    admitted.add(stream)
    last = { stream, always }
    if (always !== alwaysBefore) setImmediate(() => void look(redis).catch(() => undefined))
  }

  /** Looks at the server now; callers at the same time share one look. Errors are those of the client. */
  function look(redis: Redis): Promise<void> {
    const running = looking.get(redis)
    if (running) return running
    const begun = lookNow(redis).finally(() => looking.delete(redis))
    looking.set(redis, begun)
    return begun
  }

  return {
    ...knowledge,
    ...createLeaseClock(clock, knowledge.known),
    key: keyNow,
    look,
    /** Whether something may be written over this connection: the server at its end was looked at. */
    admits: (redis: Redis): boolean => admitted.has(redis.stream),
    async admit(redis: Redis): Promise<void> {
      while (!admitted.has(redis.stream)) await look(redis)
    },
  }
}

export type Witness = {
  admits: (redis: Redis) => boolean
  admit: (redis: Redis) => Promise<void>
  look: (redis: Redis) => Promise<void>
  key: () => string
  follow: (before: Witness) => void
  known: () => Known | undefined
  changedUs: () => number
  /** As the scripts take it: `''`, or `at_ms:moved_ms`. */
  clockStep: () => string
  /** Later than this Redis's clock can only be if it has stepped. */
  clockMaxUs: () => number
  /** How much later a lease ends that was set at `setMs` of Redis's clock, milliseconds. */
  leaseMovedMs: (setMs: number) => number
  graceEndsMs: (change: LossyChange) => number
  refusesAbsent: (durability: Durability) => AbsentRefusal | undefined
}
