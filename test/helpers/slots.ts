/** Effects by where they live in a Cluster. */
import { identify } from '../../src/effects/identity.ts'
import { createKeys } from '../../src/redis/keys.ts'
import { newEffect } from './effects.ts'
import { type ClusterNode, type RedisCluster, slotOf } from './redis-cluster.ts'

const keys = createKeys('idempotency')

export type Effect = ReturnType<typeof newEffect>

/** The key of an effect's record; each of 256 buckets is one slot. */
export function recordKey({ type, entity }: Effect): string {
  const { effectId } = identify(type, entity)
  const bucket = Number.parseInt(effectId.slice(type.length + 1, type.length + 3), 16)
  return keys.effect('default', bucket, effectId).effect
}

export const slotOfEffect = (effect: Effect): number => slotOf(recordKey(effect))

/** Effects that nobody has claimed yet, whose slots are as asked. */
export function effectsWhere(count: number, fits: (slot: number) => boolean, type?: string): Effect[] {
  const found: Effect[] = []
  while (found.length < count) {
    const effect = newEffect(type)
    if (fits(slotOfEffect(effect))) found.push(effect)
  }
  return found
}

/** Of the slots that this primary was given at the start. */
export function effectsOf({ primaries }: RedisCluster, node: ClusterNode, count: number, type?: string): Effect[] {
  const share = 16_384 / primaries.length
  return effectsWhere(count, (slot) => primaries[Math.floor(slot / share)] === node, type)
}

/** A new one of that primary. */
export const effectOf = (cluster: RedisCluster, node: ClusterNode, type?: string): Effect =>
  effectsOf(cluster, node, 1, type)[0]!
