/** The scripts that keep the record of a store: which server answers, what may have been lost, how its clock has stepped. */
import { defineScript } from './scripts.ts'

/**
 * What is sure about a change of the server that answers. `kept`: nothing was lost; `restarted`: it has read its own
 * append-only file; `promoted`: a replica that this service saw running took over; `unknown`: none of these is shown;
 * `reset`: the store came back empty.
 */
export type Change = 'kept' | LossyChange | 'reset'

/** The changes that may have lost something. What each can have lost differs, so each is dated apart from the others. */
export const lossyChanges = ['restarted', 'promoted', 'unknown'] as const
export type LossyChange = (typeof lossyChanges)[number]

/** The record in Redis, one for each primary. Instants are Redis microseconds, 0 for none. */
export type WitnessRecord = {
  /** Made anew with each empty store: another one than was known here means that what was known is gone. */
  id: string
  runId: string
  /** The most replicas that this store was ever seen with. */
  replicas: number
  changedUs: number
  change: Change | ''
  /** The process that found it, and tells the world. */
  changedBy: string
  /** The last change of each kind. */
  lossyUs: Record<LossyChange, number>
  /** Since when claims of absent effects are refused until a person has looked. */
  resetUs: number
  /** Number of the last step of the clock, when it was found, and how far older leases are moved because of it. */
  step: number
  stepAtUs: number
  stepUs: number
  stepBy: string
  /** As Redis keeps it. */
  raw: Readonly<Record<string, string>>
}

export type Sighting = {
  status: 'same' | 'first' | 'changed' | 'flushed' | 'reset'
  nowUs: number
  record: WitnessRecord
}

function decodeRecord(flat: readonly string[]): WitnessRecord {
  const raw: Record<string, string> = {}
  for (let at = 0; at < flat.length; at += 2) raw[flat[at] as string] = flat[at + 1] as string
  const text = (name: string): string => raw[name] ?? ''
  const number = (name: string): number => Number(raw[name] ?? 0)
  return {
    id: text('id'),
    runId: text('run_id'),
    replicas: number('replicas'),
    changedUs: number('changed_us'),
    change: text('change') as WitnessRecord['change'],
    changedBy: text('changed_by'),
    lossyUs: {
      restarted: number('restarted_us'),
      promoted: number('promoted_us'),
      unknown: number('unknown_us'),
    },
    resetUs: number('reset_us'),
    step: number('step'),
    stepAtUs: number('step_at_us'),
    stepUs: number('step_us'),
    stepBy: text('step_by'),
    raw,
  }
}

export const storeWitness = defineScript({
  name: 'store-witness',
  flags: ['allow-oom'],
  keys: ['witness'],
  args: [
    ...(['process', 'known_id', 'known_run_id', 'known_changed_us', 'silent_us', 'fresh_id', 'always'] as const),
    ...(['floor_us', 'others', 'fallback', 'jump_us', 'jump_at_us', 'known_step'] as const),
  ],
  decode: ([status, nowUs, record]): Sighting => ({
    ...{ status: status as Sighting['status'], nowUs },
    record: decodeRecord(record as string[]),
  }),
})

export const storeAcknowledge = defineScript({
  name: 'store-acknowledge',
  flags: ['allow-oom'],
  keys: ['witness'],
  args: [],
  decode: ([status]): { pending: boolean } => ({ pending: status === 'acknowledged' }),
})
