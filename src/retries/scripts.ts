/** The scripts of retry metrics and budgets: names for their keys and arguments, and the typed form of what they answer. */
import { defineScript } from '../redis/scripts.ts'
import type { RetryReason } from './decide.ts'

const recordKeys = ['metrics', 'other_metrics', 'job_types', 'seen', 'budget'] as const

export const retryRecord = defineScript({
  name: 'retry-record',
  flags: [],
  keys: recordKeys,
  args: ['job_type', 'job_types_max', 'with_metrics', 'slice_ms', 'events'],
  decode: ([, , counted]): { counted: number } => ({ counted: counted as number }),
})

/** What is kept is bounded, and a decision must be had also when memory is full: hence allow-oom. */
export const retryDecide = defineScript({
  name: 'retry-decide',
  flags: ['allow-oom'],
  keys: recordKeys,
  args: [
    ...(['job_type', 'job_types_max', 'with_metrics', 'slice_ms', 'ratio', 'spare'] as const),
    ...(['id', 'remember_ms', 'first_id', 'first_remember_ms', 'reason', 'attempt_number'] as const),
  ],
  decode: ([status, , reason]): { repeated: boolean; reason: RetryReason } => ({
    repeated: status === 'repeated',
    reason: reason as RetryReason,
  }),
})

export const retryBudget = defineScript({
  name: 'retry-budget',
  flags: ['no-writes'],
  keys: ['budget'],
  args: ['slice_ms', 'ratio', 'spare'],
  decode: ([status]): { spent: boolean } => ({ spent: status === 'spent' }),
})

/** `state` and `chunks` as lua/prelude/retry.lua keeps them; src/retries/window.ts decodes them. */
export type KeptMetrics = { nowUs: number; state: string; chunks: string[] }

export const retryRead = defineScript({
  name: 'retry-read',
  flags: ['no-writes'],
  keys: ['metrics'],
  args: ['window_minutes'],
  decode: ([, nowUs, state, chunks]): KeptMetrics => ({
    nowUs,
    state: state as string,
    chunks: chunks as string[],
  }),
})

/** `entry` is what the audit answered; null: the job types have changed, so nothing was done. */
export const retryReset = defineScript({
  name: 'retry-reset',
  flags: ['allow-oom'],
  keys: 'many',
  args: ['names', 'audit_entry'],
  decode: ([status, , entry]): { entry: string[] | null } => ({
    entry: status === 'changed' ? null : (entry as string[]),
  }),
})
