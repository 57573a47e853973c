/**
 * What Redis answers us, and whether it keeps what it acknowledges: version, eviction, persistence, memory, replicas. Asked
 * at the start, after each reconnect (another server may answer then) and every `limits.inspectIntervalMs`.
 */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { limits } from '../limits.ts'
import type { Store } from './client.ts'
import { askFileSettings, type FileSettings, fsyncRule, parseFileSettings } from './fsync.ts'
import type { Commitment } from './group-commit.ts'
import { parseInfo } from './info.ts'

/** One check. `warn`: works, with a risk; `fail`: acknowledged effects can be forgotten, or nothing works. */
export type Verdict = {
  name: 'version' | 'eviction_policy' | 'persistence' | 'maxmemory' | 'replicas' | 'durability'
  status: 'ok' | 'warn' | 'fail'
  detail: string
  /** What to do about it; null where nothing is wrong. */
  remedy: string | null
}

/** How acknowledged writes reach the disk, at the worst; `aof`: by a rule that could not be read. */
export type Persistence = 'aof_always' | 'aof_everysec' | 'aof_no' | 'aof' | 'snapshots' | 'none'

export type Inspection = {
  server: 'redis' | 'valkey'
  version: string
  /** `standalone` or `cluster`, as the server says. */
  mode: string
  durability: Persistence
  /** False: too old for this service, which then runs no script on it. */
  supported: boolean
  /** False: it may forget what it acknowledged, by eviction or because nothing is on disk. */
  safe: boolean
  checks: readonly Verdict[]
}

/** What was read: fields of INFO; settings of CONFIG GET, undefined where an ACL or a host forbids it. */
export type Facts = {
  info: ReadonlyMap<string, string>
  settings: FileSettings | undefined
}

export type InspectionRules = {
  checkEviction: boolean
  memoryBudgetBytes: number | null
  /** What the effect types ask for beyond `primary`. */
  commitments: readonly Commitment[]
}

const versionMajorMin = 7

const ok = (name: Verdict['name'], detail: string): Verdict => ({ name, status: 'ok', detail, remedy: null })
const warn = (name: Verdict['name'], detail: string, remedy: string): Verdict => ({
  ...{ name, status: 'warn', detail, remedy },
})
const fail = (name: Verdict['name'], detail: string, remedy: string): Verdict => ({
  ...{ name, status: 'fail', detail, remedy },
})

/** Valkey says which Redis it is compatible with (7.2.4) in `redis_version`, and its own version beside it. */
function judgeVersion({ info }: Facts): Verdict {
  const valkey = info.get('valkey_version')
  const version = info.get('redis_version') ?? 'unknown'
  const name = valkey === undefined ? `Redis ${version}` : `Valkey ${valkey}`
  if (Number.parseInt(version, 10) >= versionMajorMin) return ok('version', `${name}.`)
  return fail('version', `${name} is too old: scripts need their flags.`, 'Run Redis 7.0 or later, or Valkey.')
}

function judgeEviction({ info }: Facts): Verdict {
  const policy = info.get('maxmemory_policy') ?? 'unknown'
  if (policy === 'noeviction') return ok('eviction_policy', 'noeviction: a full Redis refuses, it does not forget.')
  const remedy = 'Set `maxmemory-policy noeviction`.'
  if (info.get('maxmemory') === '0') {
    return warn('eviction_policy', `${policy}, which acts as soon as a maxmemory is set.`, remedy)
  }
  return fail('eviction_policy', `${policy}: a full Redis forgets effects, and they could run again.`, remedy)
}

const aofRemedy = 'Set `appendonly yes`, `appendfsync always` and `no-appendfsync-on-rewrite no`.'

function durabilityOf({ info, settings }: Facts): Persistence {
  if (info.get('aof_enabled') === '1') {
    const rule = settings && fsyncRule(settings)
    return rule === 'always' || rule === 'everysec' || rule === 'no' ? `aof_${rule}` : 'aof'
  }
  return settings !== undefined && settings.save !== '' ? 'snapshots' : 'none'
}

function judgePersistence(facts: Facts): Verdict {
  const name = 'persistence'
  if (facts.info.get('aof_enabled') === '1' && facts.info.get('aof_last_write_status') === 'err') {
    return fail(name, 'The last write to the append-only file failed.', "Look at Redis's disk and log.")
  }
  const durability = durabilityOf(facts)
  switch (durability) {
    case 'aof_always':
      return ok(name, 'Every acknowledged write is on disk (appendfsync always).')
    case 'aof_everysec':
      return warn(name, 'A crash of the machine may lose two seconds (appendfsync everysec).', aofRemedy)
    case 'aof_no': {
      const lax = facts.settings?.appendfsync !== 'no'
      const cause = lax ? 'no-appendfsync-on-rewrite yes, while Redis saves or rewrites' : 'appendfsync no'
      return warn(name, `A crash of the machine may lose half a minute (${cause}).`, aofRemedy)
    }
    case 'aof':
      return warn(name, 'An append-only file, but CONFIG is forbidden: appendfsync is unknown.', aofRemedy)
    case 'snapshots':
      return fail(name, 'Snapshots only: a crash loses everything since the last one.', aofRemedy)
    case 'none': {
      const unread = facts.settings === undefined ? ' or snapshots only (CONFIG is forbidden)' : ''
      return fail(name, `No persistence${unread}: a crash loses acknowledged effects.`, aofRemedy)
    }
  }
}

function judgeMemory({ info }: Facts, budgetBytes: number | null): Verdict {
  const name = 'maxmemory'
  const bytes = Number(info.get('maxmemory') ?? 0)
  const mebibytes = (of: number) => `${Math.round(of / 1024 / 1024)} MiB`
  if (bytes === 0 && budgetBytes === null) {
    return warn(name, 'Nothing bounds the memory.', 'Set `maxmemory` in Redis, or `retry.redis.memory_budget_mb`.')
  }
  if (bytes === 0) return ok(name, `None; the budget of the service is ${mebibytes(budgetBytes ?? 0)}.`)
  if (budgetBytes !== null && bytes <= budgetBytes) {
    const detail = `${mebibytes(bytes)}, not above the budget of the service (${mebibytes(budgetBytes)}).`
    return warn(name, detail, 'Set `maxmemory` above `retry.redis.memory_budget_mb`: completions need room too.')
  }
  return ok(name, `${mebibytes(bytes)}.`)
}

function judgeReplicas({ info }: Facts): Verdict {
  const name = 'replicas'
  if (info.get('role') === 'slave') {
    return fail(name, 'This server is a replica: it takes no writes.', 'Point `redis.url` at the primary.')
  }
  const count = Number(info.get('connected_slaves') ?? 0)
  const states = Array.from({ length: count }, (_, index) => info.get(`slave${index}`) ?? '')
  const behind = states.filter((state) => !state.includes('state=online')).length
  if (behind > 0) return warn(name, `${behind} of ${count} replicas are not in step.`, "Look at the replicas' logs.")
  if (count === 0) return ok(name, 'None: the disk of this server holds the only copy.')
  return ok(name, `${count}; they follow a moment later, so a failover may lose the last writes.`)
}

const onlineReplicas = ({ info }: Facts): number =>
  [...info].filter(([name, state]) => /^slave\d+$/.test(name) && state.includes('state=online')).length

/** Whether this server can keep what the effect types ask for. */
function judgeCommitments(facts: Facts, commitments: readonly Commitment[]): Verdict {
  const name = 'durability'
  const replicas = commitments.flatMap((commitment) => (commitment === 'fsynced' ? [] : [commitment.replicated]))
  const wanted = Math.max(0, ...replicas)
  if (onlineReplicas(facts) < wanted) {
    const detail = `A type asks for ${wanted} replicas and ${onlineReplicas(facts)} are in step: its calls get 503.`
    return fail(name, detail, 'Add replicas, or lower `durability: {replicated: n}`.')
  }
  if (!commitments.includes('fsynced')) return ok(name, `${wanted} replicas confirm what is acknowledged.`)
  if (durabilityOf(facts) === 'aof_always') return ok(name, 'Every acknowledged write is on disk.')
  return fail(name, 'A type asks for `fsynced`, which this server cannot confirm: its calls get 503.', aofRemedy)
}

/** Judges what was read; pure. */
export function judge(facts: Facts, { checkEviction, memoryBudgetBytes, commitments }: InspectionRules): Inspection {
  const checks = [
    judgeVersion(facts),
    ...(checkEviction ? [judgeEviction(facts)] : []),
    judgePersistence(facts),
    judgeMemory(facts, memoryBudgetBytes),
    judgeReplicas(facts),
    ...(commitments.length > 0 ? [judgeCommitments(facts, commitments)] : []),
  ]
  const failed = (...names: Verdict['name'][]) =>
    checks.some(({ name, status }) => status === 'fail' && names.includes(name))
  const valkey = facts.info.get('valkey_version')
  return {
    server: valkey === undefined ? 'redis' : 'valkey',
    version: valkey ?? facts.info.get('redis_version') ?? 'unknown',
    mode: facts.info.get('redis_mode') ?? facts.info.get('server_mode') ?? 'unknown',
    durability: durabilityOf(facts),
    supported: !failed('version'),
    safe: !failed('eviction_policy', 'persistence'),
    checks,
  }
}

/** The settings of each primary; none where CONFIG is forbidden or unknown to the server. */
async function readSettings(store: Store): Promise<Map<string, FileSettings | undefined>> {
  try {
    const replies = await store.eachPrimary(...askFileSettings)
    return new Map(replies.map(({ node, reply }) => [node, parseFileSettings(reply)]))
  } catch {
    return new Map()
  }
}

/** What each server that takes writes says. */
async function readFacts(store: Store): Promise<{ node: string; facts: Facts }[]> {
  const infos = await store.eachPrimary('INFO')
  const settings = await readSettings(store)
  return infos.map(({ node, reply }) => {
    const facts = { info: parseInfo(reply as string), settings: settings.get(node) }
    return { node, facts }
  })
}

const severity = { ok: 0, warn: 1, fail: 2 } as const
const weakest: readonly Persistence[] = ['none', 'snapshots', 'aof', 'aof_no', 'aof_everysec', 'aof_always']

/** Of several servers the worst verdict of each check, with the name of its server; the store is as good as its worst. */
export function worst(inspections: readonly { node: string; inspection: Inspection }[]): Inspection {
  const [first] = inspections
  assert(first, 'at least one server has answered')
  if (inspections.length === 1) return first.inspection
  const checks = first.inspection.checks.map(({ name }) => {
    const verdicts = inspections.flatMap(({ node, inspection }) =>
      inspection.checks.filter((check) => check.name === name).map((check) => ({ node, check })),
    )
    const { node, check } = verdicts.reduce((a, b) => (severity[b.check.status] > severity[a.check.status] ? b : a))
    return check.status === 'ok' ? check : { ...check, detail: `${node}: ${check.detail}` }
  })
  const all = inspections.map(({ inspection }) => inspection)
  return {
    ...first.inspection,
    durability: weakest.find((durability) => all.some((one) => one.durability === durability)) ?? 'none',
    supported: all.every(({ supported }) => supported),
    safe: all.every(({ safe }) => safe),
    checks,
  }
}

const levels = { ok: 'info', warn: 'warn', fail: 'error' } as const

/** Keeps the newest inspection; while the server is too old it has the store refuse every script. */
export function createInspector(store: Store, rules: InspectionRules, log: Logger) {
  let latest: Inspection | undefined
  let timer: NodeJS.Timeout | undefined
  const told = new Map<string, string>()

  /** Each verdict once, and again when it has changed. */
  function tell(checks: readonly Verdict[]): void {
    for (const verdict of checks) {
      if (told.get(verdict.name) === verdict.detail) continue
      told.set(verdict.name, verdict.detail)
      const { name, status, detail, remedy } = verdict
      log[levels[status]]({ check: name, status, remedy }, `redis check: ${detail}`)
    }
  }

  /** Asks Redis now. Problem `store-unavailable` where it does not answer; the last inspection stays then. */
  async function check(): Promise<Inspection> {
    const read = await readFacts(store)
    latest = worst(read.map(({ node, facts }) => ({ node, inspection: judge(facts, rules) })))
    store.refuseScripts(latest.supported ? undefined : 'misconfigured')
    tell(latest.checks)
    return latest
  }

  function inBackground(): void {
    check().catch((error: unknown) => log.debug({ err: error }, 'redis could not be checked'))
  }

  return {
    check,
    inBackground,
    latest: () => latest,
    /** Asks until Redis answers, or for `deadlineMs` at most; undefined where it did not answer. */
    async atStart(deadlineMs: number): Promise<Inspection | undefined> {
      const end = performance.now() + deadlineMs
      while (latest === undefined && performance.now() < end) {
        await check().catch(() => sleep(limits.privateServerPollMs))
      }
      return latest
    },
    start(): void {
      timer = setInterval(inBackground, limits.inspectIntervalMs)
    },
    stop: () => clearInterval(timer),
  }
}
