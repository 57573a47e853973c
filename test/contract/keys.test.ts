/** Every key that the service leaves in Redis has its row in the catalogue: pattern, type and time to live. */
import t from 'tap'
import { limits } from '../../src/limits.ts'
import { keyCatalogue } from '../../src/redis/keys.ts'
import { clockOffsetKey, makeKey, startApp, type TestApp } from '../helpers/app.ts'
import { effectCalls, newEffect, passing, rejected } from '../helpers/effects.ts'
import { randomNamespace, redisCli, startRedis, waitFor } from '../helpers/redis-server.ts'

type Row = (typeof keyCatalogue)[number]

const config = (keys: object[]) =>
  JSON.stringify({
    auth: { keys },
    effects: { types: { ledger_write: { durability: 'fsynced' } } },
    retry: {
      budget: { ratio: 0.2, min_per_second: 1, window_seconds: 10 },
      circuit_breaker: { failure_threshold: 2, min_distinct_owners: 2 },
    },
  })

const parts: Record<string, string> = {
  '<prefix>': 'idempotency',
  '<namespace>': '[a-z0-9][a-z0-9_-]{0,62}',
  '<bucket>': '[0-9a-f]{2}',
  '<effect_id>': '[a-z][a-z0-9_]{0,63}\\.[0-9a-f]{64}',
  '<slot>': '[0-9]*',
  '<job_type>': '[A-Za-z][A-Za-z0-9_.:-]{0,63}',
}

/** The pattern of a row as a regular expression; a part that is not listed is anything but a colon. */
function matcher({ pattern }: Row): RegExp {
  const pieces = pattern.split(/(<\w+>)/).map((piece) => {
    if (piece.startsWith('<')) return parts[piece] ?? '[^:]+'
    return piece.replaceAll(/[{}]/g, '\\$&')
  })
  return new RegExp(`^${pieces.join('')}$`)
}

/** Whether a time to live in milliseconds (-1: none) is what the row says. */
function keeps({ ttl: rule }: Row, ttlMs: number): boolean {
  if (rule === 'none') return ttlMs === -1
  const bound = Object.entries(limits).find(([name]) => name === rule.split(' ')[0])?.[1]
  if (ttlMs === -1) return /\bnone\b/.test(rule)
  return ttlMs > 0 && (bound === undefined || ttlMs <= bound)
}

type Call = (method: string, path: string, body?: unknown) => Promise<number>

/** Effects in every state. */
async function useEffects(app: TestApp, headers: Record<string, string>): Promise<void> {
  const { hold, complete, fail, release, remove, claim, resolve } = effectCalls(app, headers)
  await hold(newEffect(), { job_type: 'orders', metadata: { a: 'b' } })
  const held = await Promise.all(Array.from({ length: 7 }, () => hold(newEffect(), { job_type: 'orders' })))
  const [done, failed, retried, doubtful, free, deleted, settled] = held.map((holder) => holder.held)
  await complete({ ...done, result: 1 })
  await fail({ ...failed, ...rejected })
  await fail({ ...retried, ...passing })
  await fail({ ...doubtful, error: 'x', execution: 'unknown' })
  await release(free)
  await complete(deleted)
  await remove(deleted!.effect_id)
  await resolve(settled!.effect_id, { resolution: 'abandoned', reason: 'a test' })
  await complete({ ...settled, result: 'late' })
  await claim({ ...newEffect('signal_consumption'), result: 1 })
  // Refused here, where nothing is on disk; it leaves its mark all the same.
  await claim(newEffect('ledger_write'))
}

/** Breakers open, half open, closed and held, with their reports, permits, owners and history. */
async function useBreakers(call: Call): Promise<void> {
  for (const job of ['orders', 'a.b:c', 'other']) {
    for (const owner of ['x', 'y', 'z']) await call('POST', `breakers/${job}/failure`, { owner })
    await call('POST', `breakers/${job}/check`, {})
  }
  await call('POST', 'breakers/orders/override', { action: 'half_open', reason: 'a test' })
  await call('POST', 'breakers/orders/check', { probe_id: 'p' })
  await call('POST', 'breakers/a.b:c/reset', { reason: 'a test' })
  await call('POST', 'breakers/a.b:c/success', {})
  await call('POST', 'breakers/fresh/failure', { owner: 'x', event_id: 'e' })
}

async function useRetries(call: Call): Promise<void> {
  const error = { exchange: 'binance', code: -1003, message: 'Too many requests.' }
  await call('POST', 'retries/decide', { job_type: 'fresh', attempt: 1, error, event_id: 'd' })
  await call('POST', 'retries/fresh/attempt', { attempt_number: 2, event_id: 'e' })
  await call('POST', 'retries/fresh/failure', {})
  await call('POST', 'retries/fresh/blocked', { reason: 'circuit_open' })
}

t.test('patterns of the catalogue are told apart', async (t) => {
  t.equal(new Set(keyCatalogue.map(({ pattern }) => pattern)).size, keyCatalogue.length)
  t.equal(new Set(keyCatalogue.map(({ name }) => name)).size, keyCatalogue.length)
  for (const { pattern } of keyCatalogue)
    t.match(pattern, /^<prefix>:\{(<namespace>(:<bucket>)?|_<slot>)\}:/, 'one slot')
})

t.test('every key has one row of the catalogue, and every row its keys', async (t) => {
  const redis = await startRedis(t)
  const { entry, headers } = makeKey('operator', randomNamespace())
  const app = await startApp(t, { redis, config: config([entry]), background: true })
  const cli = (...args: (string | number)[]) => redisCli(redis.port, ...args)
  const call: Call = async (method, path, body) => {
    const { status, text } = await app.call(method, `/api/v1/${path}`, body, headers)
    t.ok(status < 300, `${method} ${path}: ${status} ${status < 300 ? '' : text}`)
    return status
  }
  await useEffects(app, headers)
  await useBreakers(call)
  await useRetries(call)

  const rows = keyCatalogue.map((row) => ({ row, pattern: matcher(row) }))
  const met = async () => {
    const keys = ((await cli('KEYS', '*')) as string[]).filter((key) => key !== clockOffsetKey)
    const seen = new Set<string>()
    for (const key of keys) for (const { row, pattern } of rows) if (pattern.test(key)) seen.add(row.name)
    return seen.size === rows.length ? keys : undefined
  }
  const keys = await waitFor(met, 5000).catch(() => cli('KEYS', '*') as Promise<string[]>)
  const seen = new Set<string>()
  for (const key of keys) {
    const fits = rows.filter(({ pattern }) => pattern.test(key))
    t.equal(fits.length, 1, `${key} has one row`)
    const row = fits[0]?.row
    const [type, ttlMs] = [await cli('TYPE', key), Number(await cli('PTTL', key))]
    if (!row || type === 'none') continue
    seen.add(row.name)
    t.equal(type, row.type, `${key} is a ${row.type}`)
    t.ok(keeps(row, ttlMs), `${key} (${row.ttl}): ${ttlMs} ms`)
  }
  t.same([...seen].sort(), rows.map(({ row }) => row.name).sort(), 'every row was met')
})

t.test('the prefix of every key is the configured one', async (t) => {
  const redis = await startRedis(t)
  const app = await startApp(t, { redis, config: 'retry: { redis: { namespace: mine } }', background: true })
  await effectCalls(app).hold(newEffect())
  await waitFor(async () => ((await redisCli(redis.port, 'KEYS', '*:sweep')) as string[]).length > 0)
  const keys = (await redisCli(redis.port, 'KEYS', '*')) as string[]
  t.ok(keys.length >= 3)
  for (const key of keys) t.match(key, /^mine:\{(default(:[0-9a-f]{2})?|_)\}:/)
})
