/** Whether this process should be sent calls, by named components. */
import { limits } from '../limits.ts'
import type { Inspection, Verdict } from '../redis/inspect.ts'

/** One component: a check of Redis, Redis's answering at all, or this process. */
export type Component = Omit<Verdict, 'name'> & { name: Verdict['name'] | 'process' | 'redis' }

/** Why no calls should be sent here. */
export type Reason = 'draining' | 'redis_unchecked' | 'redis_silent' | 'redis_too_old' | 'redis_unsafe'

export type Health = { ready: boolean; reasons: Reason[]; checks: Component[] }

export type HealthDependencies = {
  /** Time since Redis last answered anything. */
  silentSeconds: () => number
  /** The newest inspection; undefined before the first. */
  inspection: () => Inspection | undefined
  requireSafe: boolean
  graceSeconds: number
}

/** The poll of the memory asks Redis this often; a silence shorter than that means nothing. */
const quietSeconds = (limits.memoryPollMs + limits.storeDeadlineMs) / 1000

/** What makes this Redis unfit, in plain words with the remedies; undefined where nothing does. */
export function unfit({ supported, safe, checks }: Inspection, requireSafe: boolean): string | undefined {
  if (supported && (safe || !requireSafe)) return undefined
  const failed = checks.filter(({ status }) => status === 'fail')
  return failed.map(({ detail, remedy }) => [detail, remedy ?? ''].join(' ').trim()).join('\n')
}

export function createHealth({ silentSeconds, inspection, requireSafe, graceSeconds }: HealthDependencies) {
  let draining = false

  function processComponent(): Component {
    return draining
      ? { name: 'process', status: 'fail', detail: 'It is about to stop.', remedy: 'Send calls to another process.' }
      : { name: 'process', status: 'ok', detail: 'It takes calls.', remedy: null }
  }

  function redisComponent(): Component {
    const silent = silentSeconds()
    const remedy = 'See whether Redis runs and can be reached from here.'
    const told = { name: 'redis' as const, detail: `It last answered ${Math.round(silent)} s ago.` }
    if (inspection() === undefined) return { ...told, status: 'fail', detail: 'It has not answered yet.', remedy }
    if (silent > Math.max(graceSeconds, quietSeconds)) return { ...told, status: 'fail', remedy }
    if (silent > quietSeconds) return { ...told, status: 'warn', remedy }
    return { ...told, status: 'ok', detail: 'It answers.', remedy: null }
  }

  function reasonsOf(redis: Component): Reason[] {
    const known = inspection()
    const silent = redis.status === 'fail'
    return [
      ...(draining ? (['draining'] as const) : []),
      ...(known === undefined ? (['redis_unchecked'] as const) : silent ? (['redis_silent'] as const) : []),
      ...(known?.supported === false ? (['redis_too_old'] as const) : []),
      ...(requireSafe && known?.safe === false ? (['redis_unsafe'] as const) : []),
    ]
  }

  return {
    /** From now on not ready, so that a load balancer turns away before the door is shut. */
    drain(): void {
      draining = true
    },
    read(): Health {
      const redis = redisComponent()
      const reasons = reasonsOf(redis)
      const checks = [processComponent(), redis, ...(inspection()?.checks ?? [])]
      return { ready: reasons.length === 0, reasons, checks }
    },
  }
}
