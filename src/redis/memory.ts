/** How much memory the service's keys take, estimated from INFO memory, at most `limits.memoryAgeMaxMs` old. */
import type { Logger } from 'pino'
import type { Events } from '../events/events.ts'
import { limits } from '../limits.ts'
import type { Store } from './client.ts'
import { parseInfo } from './info.ts'

/** Parts of `used_memory` that are not keys. Source: INFO memory of Redis 7. */
const notKeys = [
  'used_memory_startup',
  'mem_clients_normal',
  'mem_clients_slaves',
  'mem_cluster_links',
  'mem_aof_buffer',
  'mem_total_replication_buffers',
  'used_memory_scripts_eval',
  'used_memory_functions',
]

/** Bytes that keys take, with the tables that hold them; on a Redis shared with others theirs count too. */
function keyBytes(info: Map<string, string>): number {
  const field = (name: string) => Number(info.get(name) ?? 0)
  const others = notKeys.reduce((total, name) => total + field(name), 0)
  return Math.max(0, field('used_memory') - others)
}

/** `budgetMb: null` sets no bound. Tells the world when use passes 80 % and 100 % of the budget. */
export function createMemory(store: Store, events: Events, budgetMb: number | null, log: Logger) {
  const budgetBytes = budgetMb === null ? null : Math.round(budgetMb * 1024 * 1024)
  let usedBytes = 0
  let told = 0
  let timer: NodeJS.Timeout | undefined
  let stopped = false

  function tell(): void {
    const percent = budgetBytes === null ? 0 : Math.floor((usedBytes / budgetBytes) * 100)
    const level = percent >= 100 ? 100 : percent >= 80 ? 80 : 0
    if (level > told && budgetBytes !== null) {
      events.emit({ event: 'memory.budget', used_bytes: usedBytes, budget_bytes: budgetBytes, percent: level })
    }
    told = level
  }

  async function refresh(): Promise<void> {
    const replies = await store.eachPrimary('INFO', 'memory')
    usedBytes = replies.reduce((total, { reply }) => total + keyBytes(parseInfo(reply as string)), 0)
    tell()
  }

  function poll(): void {
    refresh()
      .catch((error: unknown) => log.debug({ err: error }, 'memory could not be read'))
      .finally(() => {
        if (!stopped) timer = setTimeout(poll, limits.memoryPollMs)
      })
  }

  return {
    refresh,
    start: poll,
    /** A question that is under way asks no further one. */
    stop(): void {
      stopped = true
      clearTimeout(timer)
    },
    /** What is known now; `over`: new effects are refused. */
    read: () => ({
      used_bytes: usedBytes,
      budget_bytes: budgetBytes,
      over: budgetBytes !== null && usedBytes > budgetBytes,
    }),
  }
}
