/** The audit over HTTP: who may look, what they see, and whether it is whole. */
import t from 'tap'
import { mkdtemp, readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { stringify } from 'yaml'
import { type AuditEntry } from '../../src/audit/audit.ts'
import { RawJson } from '../../src/json.ts'
import { createKeys } from '../../src/redis/keys.ts'
import { makeKey, sharedRedis, startApp } from '../helpers/app.ts'
import { randomNamespace, redisCli } from '../helpers/redis-server.ts'

const keysOf = createKeys('idempotency')

const entryOf = (changes: Partial<AuditEntry> = {}): AuditEntry => ({
  action: 'effect.resolve',
  subject: 'order_placement.aa',
  user: 'ops-key',
  on_behalf_of: 'alice',
  reason: 'found on the exchange',
  ...changes,
})

/** An app with two namespaces, and keys of each role in the first. */
async function start(t: { teardown(end: () => Promise<void>): void }, retry: object = {}) {
  const [namespace, other] = [randomNamespace(), randomNamespace()]
  const [reader, worker] = [makeKey('reader', namespace), makeKey('worker', namespace)]
  const [operator, foreign] = [makeKey('operator', namespace), makeKey('operator', other, 'foreign')]
  const keys = [reader, worker, operator, foreign].map(({ entry }) => entry)
  const app = await startApp(t, { config: stringify({ auth: { keys }, retry }) })
  const get = (url: string, key = operator) => app.call('GET', url, undefined, key.headers)
  return { ...app, namespace, other, reader, worker, operator, foreign, get, audit: app.services.audit }
}

t.test('an entry has every member of the contract, and evidence byte for byte', async (t) => {
  const { namespace, audit, get } = await start(t)
  const evidence = '{ "order":  1.10,\n "big": 9007199254740993, "a": [ ] }'
  const states = { before: { state: 'uncertain' }, after: { state: 'completed' } }
  await audit.append(namespace, entryOf({ ...states, evidence: new RawJson(evidence) }))
  const { status, body, text } = await get('/api/v1/audit')
  t.equal(status, 200)
  t.same(Object.keys(body), ['entries', 'next_cursor'])
  const members = ['seq', 'at', 'action', 'subject', 'user', 'on_behalf_of', 'reason', 'before', 'after', 'evidence']
  t.same(Object.keys(body.entries[0]), [...members, 'previous_hash', 'hash'])
  t.match(body.entries[0], { seq: 1, user: 'ops-key', on_behalf_of: 'alice', ...states })
  t.match(body.entries[0].at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  t.ok(text.includes(`"evidence":${evidence}`))
  const { hash } = body.entries[0]
  const verified = await get('/api/v1/audit/verify')
  t.same(verified.body, { ok: true, entries: 1, head: { seq: 1, hash }, first_bad_seq: null })
})

t.test('a member without a value is null', async (t) => {
  const { namespace, audit, get } = await start(t)
  await audit.append(namespace, entryOf({ on_behalf_of: null, reason: null }))
  const { body } = await get('/api/v1/audit')
  const none = { on_behalf_of: null, reason: null, before: null, after: null, evidence: null }
  t.match(body.entries[0], none)
  t.equal(body.next_cursor, null)
})

t.test('an override tells instants and absent members as the contract does, to callers and in the file', async (t) => {
  const folder = await mkdtemp(path.join((await sharedRedis()).dir, 'lines-'))
  const { call, services, operator, get } = await start(t, { audit_log_path: folder })
  const act = (what: string, body: object) => call('POST', `/api/v1/breakers/orders/${what}`, body, operator.headers)
  const error = { code: -1003, exchange: 'binance', retry_after_seconds: 900 }
  const { hold_until } = (await act('failure', { error })).body
  await act('override', { action: 'open', reason: 'a test' })
  await act('reset', { reason: 'a test' })
  const closed = { state: 'closed', reason: null }
  const open = { state: 'open', version: 1, reason: 'forced_open', hold_until }
  const { entries } = (await get('/api/v1/audit')).body
  const states = entries.map(({ before, after }: Record<string, unknown>) => [before, after])
  t.same(states, [
    [open, { ...closed, version: 2, hold_until: null }],
    [{ ...closed, version: 0, hold_until }, open],
  ])
  await services.auditFiles.settled()
  const [file = ''] = await readdir(folder)
  const lines = (await readFile(path.join(folder, file), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const written = lines.filter(({ kind }) => kind === 'audit').map(({ before, after }) => [before, after])
  t.same(written, states.toReversed())
  t.match((await get('/api/v1/audit/verify')).body, { ok: true, entries: 2 })
})

t.test('an entry of before, whose states tell epoch numbers, stays as it was chained', async (t) => {
  const { namespace, audit, get, call, operator } = await start(t)
  const before = { hold_until: 1_795_962_115_899, version: 0, reason: '', state: 'closed' }
  await audit.append(
    namespace,
    entryOf({ action: 'breaker.override', subject: 'breaker:orders', before, after: before }),
  )
  await call('POST', '/api/v1/breakers/orders/reset', { reason: 'a test' }, operator.headers)
  t.same((await get('/api/v1/audit')).body.entries[1].before, before)
  t.match((await get('/api/v1/audit/verify')).body, { ok: true, entries: 2 })
})

t.test('only operators look, and only at their own namespace', async (t) => {
  const { call, namespace, audit, reader, worker, foreign, get } = await start(t)
  await audit.append(namespace, entryOf())
  for (const url of ['/api/v1/audit', '/api/v1/audit/verify']) {
    for (const key of [reader, worker]) t.match(await get(url, key), { status: 403, body: { code: 'forbidden' } })
    t.match(await call('GET', url), { status: 401, body: { code: 'unauthenticated' } })
  }
  t.same((await get('/api/v1/audit', foreign)).body, { entries: [], next_cursor: null })
  t.match((await get('/api/v1/audit/verify', foreign)).body, { ok: true, entries: 0, head: null })
})

t.test('the list narrows, pages and refuses what it does not know', async (t) => {
  const { namespace, audit, get } = await start(t)
  for (let at = 1; at <= 5; at++) await audit.append(namespace, entryOf({ subject: `s${at % 2}` }))
  const seqs = async (query: string) =>
    ((await get(`/api/v1/audit?${query}`)).body.entries as { seq: number }[]).map(({ seq }) => seq)
  t.same(await seqs('subject=s1'), [5, 3, 1])
  t.same(await seqs('action=breaker.reset'), [])
  t.same(await seqs('since=2999-01-01T00:00:00Z'), [])
  t.same(await seqs('since=2001-01-01T00:00:00%2B01:00&limit=2'), [5, 4])
  const { body } = await get('/api/v1/audit?limit=2')
  t.same(await seqs(`limit=2&cursor=${body.next_cursor}`), [3, 2])
  for (const query of ['limit=0', 'limit=501', 'since=yesterday', 'cursor=x', 'user=ops', 'action=']) {
    const refused = await get(`/api/v1/audit?${query}`)
    const [name] = query.split('=')
    t.match(refused, { status: 400, body: { code: 'invalid-request', errors: [{ pointer: `?${name}` }] } }, query)
  }
})

t.test('an entry edited in Redis is found', async (t) => {
  const { namespace, audit, get } = await start(t)
  for (let at = 1; at <= 3; at++) await audit.append(namespace, entryOf())
  const { port } = await sharedRedis()
  const log = keysOf.audit(namespace)
  const entries = (await redisCli(port, 'XRANGE', log, '-', '+')) as [string, string[]][]
  await redisCli(port, 'DEL', log)
  for (const [id, fields] of entries) {
    const edited = fields.map((field) => (id === '2-0' && field === 'alice' ? 'bob' : field))
    await redisCli(port, 'XADD', log, id, ...edited)
  }
  t.match((await get('/api/v1/audit/verify')).body, { ok: false, entries: 1, head: { seq: 3 }, first_bad_seq: 2 })
})

t.test('a reset of the retry metrics has its entry, in the list and as a JSON line', async (t) => {
  const { dir } = await sharedRedis()
  const folder = await mkdtemp(path.join(dir, 'lines-'))
  const { call, services, namespace, operator, get } = await start(t, { audit_log_path: folder })
  const reset = await call('DELETE', '/api/v1/jobs/metrics?reason=new+month&user=alice', undefined, operator.headers)
  t.equal(reset.status, 204)
  const [entry] = (await get('/api/v1/audit')).body.entries
  const said = { action: 'jobs.metrics.reset', user: 'operator', on_behalf_of: 'alice', reason: 'new month' }
  t.match(entry, said)
  await services.auditFiles.settled()
  const [file] = await readdir(folder)
  const lines = (await readFile(path.join(folder, file!), 'utf8')).trimEnd().split('\n')
  t.same(JSON.parse(lines[0]!), { kind: 'audit', namespace, ...entry })
})

t.test('without Redis the audit says so', async (t) => {
  const { app, call } = await startApp(t, { redisUrl: 'redis://127.0.0.1:1', away: true })
  t.ok(app)
  for (const url of ['/api/v1/audit', '/api/v1/audit/verify']) {
    t.match(await call('GET', url, undefined, { host: 'localhost' }), {
      status: 503,
      body: { code: 'store-unavailable' },
    })
  }
})
