/** Examples of answers about the service itself, as `openapi.yaml` shows them. */
const well = (name: string, detail: string) => ({ name, status: 'ok', detail, remedy: null })
const version = well('version', 'Redis 7.2.5.')
const memory = well('maxmemory', 'None; the budget of the service is 100 MiB.')
const replicas = well('replicas', 'None: the disk of this server holds the only copy.')
const checks = [
  well('process', 'It takes calls.'),
  well('redis', 'It answers.'),
  version,
  well('eviction_policy', 'noeviction: a full Redis refuses, it does not forget.'),
  well('persistence', 'Every acknowledged write is on disk (appendfsync always).'),
  memory,
  replicas,
]

export const live = { status: 'live' }
export const ready = { status: 'ready', checks }
export const notReady = {
  status: 'not_ready',
  reasons: ['redis_unsafe'],
  checks: [
    ...checks.slice(0, 3),
    {
      name: 'eviction_policy',
      status: 'fail',
      detail: 'allkeys-lru: a full Redis forgets effects, and they could run again.',
      remedy: 'Set `maxmemory-policy noeviction`.',
    },
    ...checks.slice(4),
  ],
}
export const metrics = `# HELP effectonce_claims_total Claims by effect type and outcome.
# TYPE effectonce_claims_total counter
effectonce_claims_total{type="order_placement",outcome="claimed"} 1042
`
export const acknowledge = { reason: 'restored from the snapshot of 21:00, orders since then checked', user: 'alice' }
export const store = {
  changed_at: '2026-11-23T21:08:42.456Z',
  change: 'reset',
  grace_until: null,
  reset_at: null,
  acknowledge_needed: false,
  remedy: null,
}
export const system = {
  version: '0.1.0',
  uptime_seconds: 86_400,
  processes: 1,
  redis: { mode: 'private', server: 'redis', version: '7.2.5', durability: 'aof_always' },
  store: { ...store, changed_at: null, change: null },
  checks,
  effects: { order_placement: { in_progress: 3, uncertain: 1 } },
  breakers_not_closed: ['place_order'],
  memory: { used_bytes: 7_340_032, budget_bytes: 104_857_600 },
}
export const problem = {
  slug: 'stale-token',
  status: 409,
  title: 'The fencing token is stale',
  explanation: 'Another claim, or a person, has taken over this effect since your token was granted.',
  remedy: 'Stop working on this effect.',
}
export const problems = { problems: [problem] }
