/**
 * Every key of the service: its builder, type, time to live and Cluster hash tag. Keys of one bucket share a slot, so a
 * record and its index entry change in one script; control data of a namespace shares another.
 */
import slotOf from 'cluster-key-slot'
import { limits } from '../limits.ts'

export const keyCatalogue = [
  {
    name: 'effect',
    pattern: '<prefix>:{<namespace>:<bucket>}:effect:<effect_id>',
    type: 'string',
    ttl: 'none while in progress or uncertain, else the retention',
  },
  { name: 'inflight', pattern: '<prefix>:{<namespace>:<bucket>}:inflight', type: 'zset', ttl: 'none' },
  { name: 'durableMark', pattern: '<prefix>:{<namespace>:<bucket>}:durable', type: 'string', ttl: 'durableMarkMs' },
  { name: 'witness', pattern: '<prefix>:{_<slot>}:witness', type: 'hash', ttl: 'none' },
  { name: 'sweepLease', pattern: '<prefix>:{<namespace>}:sweep', type: 'string', ttl: 'sweepLeaseMs' },
  { name: 'events', pattern: '<prefix>:{<namespace>}:events', type: 'stream', ttl: 'none' },
  {
    name: 'eventSender',
    pattern: '<prefix>:{<namespace>}:events:sender:<process>',
    type: 'string',
    ttl: 'eventSenderMs',
  },
  { name: 'audit', pattern: '<prefix>:{<namespace>}:audit', type: 'stream', ttl: 'none' },
  { name: 'auditHead', pattern: '<prefix>:{<namespace>}:audit:head', type: 'hash', ttl: 'none' },
  { name: 'auditNonce', pattern: '<prefix>:{<namespace>}:audit:nonce:<nonce>', type: 'string', ttl: 'auditNonceMs' },
  {
    name: 'breaker',
    pattern: '<prefix>:{<namespace>}:breaker:<job_type>',
    type: 'string',
    ttl: 'breakerIdleMs while closed, else none',
  },
  {
    name: 'breakerReports',
    pattern: '<prefix>:{<namespace>}:breaker-reports:<job_type>',
    type: 'zset',
    ttl: 'the window, at least breakerEventsMs',
  },
  {
    name: 'breakerOwners',
    pattern: '<prefix>:{<namespace>}:breaker-owners:<job_type>',
    type: 'zset',
    ttl: 'the window',
  },
  {
    name: 'breakerPermits',
    pattern: '<prefix>:{<namespace>}:breaker-permits:<job_type>',
    type: 'zset',
    ttl: 'the last permit',
  },
  {
    name: 'breakerHistory',
    pattern: '<prefix>:{<namespace>}:breaker-history:<job_type>',
    type: 'list',
    ttl: 'breakerIdleMs while closed, else none',
  },
  { name: 'breakerIndex', pattern: '<prefix>:{<namespace>}:breakers', type: 'zset', ttl: 'none' },
  { name: 'retryMetrics', pattern: '<prefix>:{<namespace>}:retry:<job_type>', type: 'hash', ttl: 'none' },
  { name: 'retryJobTypes', pattern: '<prefix>:{<namespace>}:retry-job-types', type: 'set', ttl: 'none' },
  { name: 'retrySeen', pattern: '<prefix>:{<namespace>}:retry-seen', type: 'zset', ttl: 'retryEventIdsMs' },
  {
    name: 'retryBudget',
    pattern: '<prefix>:{<namespace>}:retry-budget:<job_type>',
    type: 'string',
    ttl: '1.2 of the window',
  },
] as const

/** What begins all keys that share the slot of `key`: `<prefix>:{<tag>}`. */
export const slotPrefix = (key: string): string => key.slice(0, key.indexOf('}') + 1)

/** Where scripts tell the name of an effect's key that is no longer in progress and that somebody waits for; lua/prelude/record.lua. */
export const wakeChannel = (prefix: string): string => `${prefix}:wake`

/** In the slot of `key`: `<prefix>:{<tag>}:…` -> `<prefix>:{<tag>}:durable`. */
export const durableMarkKey = (key: string): string => `${slotPrefix(key)}:durable`

/** A hash tag of that slot of a Cluster; no namespace begins with its `_`. It takes 16,384 tries on average, 4 ms. */
function tagOfSlot(slot: number): string {
  for (let number = 0; ; number++) if (slotOf(`_${number}`) === slot) return `_${number}`
}

/** The two keys of one effect, in one slot. */
export type EffectKeys = { effect: string; inflight: string }

/** Builders of every key under `prefix` (`retry.redis.namespace`). `bucket` is 0–255, from the effect's digest. */
export function createKeys(prefix: string) {
  const bucketTag = (namespace: string, bucket: number): string =>
    `${prefix}:{${namespace}:${bucket.toString(16).padStart(2, '0')}}`
  const inflight = (namespace: string, bucket: number): string => `${bucketTag(namespace, bucket)}:inflight`

  const breakerPart = (namespace: string, part: string, jobType: string): string =>
    `${prefix}:{${namespace}}:breaker${part}:${jobType}`
  const events = (namespace: string): string => `${prefix}:{${namespace}}:events`
  const breakerIndex = (namespace: string): string => `${prefix}:{${namespace}}:breakers`

  return {
    effect: (namespace: string, bucket: number, effectId: string): EffectKeys => {
      const tag = bucketTag(namespace, bucket)
      return { effect: `${tag}:effect:${effectId}`, inflight: `${tag}:inflight` }
    },
    inflight,
    allInflight: (namespace: string): string[] =>
      Array.from({ length: limits.buckets }, (_, bucket) => inflight(namespace, bucket)),
    /** The keys of one breaker, in one slot, in the order of its scripts. */
    breaker: (namespace: string, jobType: string): string[] => [
      ...['', '-reports', '-owners', '-permits', '-history'].map((part) => breakerPart(namespace, part, jobType)),
      ...[breakerIndex(namespace), events(namespace)],
    ],
    breakerPermits: (namespace: string, jobType: string): string => breakerPart(namespace, '-permits', jobType),
    breakerHistory: (namespace: string, jobType: string): string => breakerPart(namespace, '-history', jobType),
    breakerIndex,
    /** What is known of one primary, in one of its slots; undefined: there is one server only. */
    witness: (slot: number | undefined): string => `${prefix}:{${slot === undefined ? '_' : tagOfSlot(slot)}}:witness`,
    sweepLease: (namespace: string): string => `${prefix}:{${namespace}}:sweep`,
    retryMetrics: (namespace: string, jobType: string): string => `${prefix}:{${namespace}}:retry:${jobType}`,
    retryJobTypes: (namespace: string): string => `${prefix}:{${namespace}}:retry-job-types`,
    retrySeen: (namespace: string): string => `${prefix}:{${namespace}}:retry-seen`,
    retryBudget: (namespace: string, jobType: string): string => `${prefix}:{${namespace}}:retry-budget:${jobType}`,
    events,
    eventSender: (namespace: string, process: string): string => `${prefix}:{${namespace}}:events:sender:${process}`,
    audit: (namespace: string): string => `${prefix}:{${namespace}}:audit`,
    auditHead: (namespace: string): string => `${prefix}:{${namespace}}:audit:head`,
    auditNonce: (namespace: string, nonce: string): string => `${prefix}:{${namespace}}:audit:nonce:${nonce}`,
  }
}

export type Keys = ReturnType<typeof createKeys>
