/**
 * Every key of the service: its builder, type, time to live and Cluster hash tag. Keys of one bucket share a slot, so a
 * record and its index entry change in one script; control data of a namespace shares another.
 */
import { limits } from '../limits.ts'

export const keyCatalogue = [
  {
    name: 'effect',
    pattern: '<prefix>:{<namespace>:<bucket>}:effect:<effect_id>',
    type: 'string',
    ttl: 'none while in progress or uncertain, else the retention',
  },
  { name: 'inflight', pattern: '<prefix>:{<namespace>:<bucket>}:inflight', type: 'zset', ttl: 'none' },
  { name: 'sweepLease', pattern: '<prefix>:{<namespace>}:sweep', type: 'string', ttl: 'sweepLeaseMs' },
] as const

/** The two keys of one effect, in one slot. */
export type EffectKeys = { effect: string; inflight: string }

/** Builders of every key under `prefix` (`retry.redis.namespace`). `bucket` is 0–255, from the effect's digest. */
export function createKeys(prefix: string) {
  const bucketTag = (namespace: string, bucket: number): string =>
    `${prefix}:{${namespace}:${bucket.toString(16).padStart(2, '0')}}`
  const inflight = (namespace: string, bucket: number): string => `${bucketTag(namespace, bucket)}:inflight`

  return {
    effect: (namespace: string, bucket: number, effectId: string): EffectKeys => {
      const tag = bucketTag(namespace, bucket)
      return { effect: `${tag}:effect:${effectId}`, inflight: `${tag}:inflight` }
    },
    inflight,
    allInflight: (namespace: string): string[] =>
      Array.from({ length: limits.buckets }, (_, bucket) => inflight(namespace, bucket)),
    sweepLease: (namespace: string): string => `${prefix}:{${namespace}}:sweep`,
  }
}

export type Keys = ReturnType<typeof createKeys>
