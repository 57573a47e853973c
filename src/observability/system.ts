/** What a person wants to know of the running service, in one answer. */
import { version } from '../paths.ts'
import type { Fellows } from '../processes/fellows.ts'
import type { Inspection } from '../redis/inspect.ts'
import type { Counts } from './counts.ts'
import type { createHealth } from './health.ts'
import type { StoreState } from './store-state.ts'

export type SystemDependencies = {
  health: ReturnType<typeof createHealth>
  inspection: () => Inspection | undefined
  counts: Pick<Counts, 'of'>
  memory: () => { used_bytes: number; budget_bytes: number | null }
  /** Job types of a namespace whose breaker is not closed; null where Redis cannot say in time. */
  breakersNotClosed: (namespace: string) => Promise<string[] | null>
  store: Pick<StoreState, 'read'>
  /** Whether the service runs its own Redis. */
  privateRedis: boolean
  fellows: Pick<Fellows, 'serving' | 'uptimeSeconds'>
}

export function createSystem(dependencies: SystemDependencies) {
  const { health, inspection, counts, memory, breakersNotClosed, store, privateRedis, fellows } = dependencies
  return {
    health: () => health.read(),
    /** As `GET /api/v1/system` answers, seen from one namespace. */
    async read(namespace: string) {
      const { server = null, version: redisVersion = null, durability = null, mode = 'unknown' } = inspection() ?? {}
      const [effects, breakers] = await Promise.all([counts.of(namespace), breakersNotClosed(namespace)])
      const { used_bytes, budget_bytes } = memory()
      return {
        version,
        uptime_seconds: Math.round(fellows.uptimeSeconds()),
        processes: fellows.serving(),
        redis: { mode: privateRedis ? 'private' : mode, server, version: redisVersion, durability },
        store: store.read(),
        checks: health.read().checks,
        effects: effects && Object.fromEntries(effects),
        breakers_not_closed: breakers,
        memory: { used_bytes, budget_bytes },
      }
    },
  }
}

export type System = ReturnType<typeof createSystem>
