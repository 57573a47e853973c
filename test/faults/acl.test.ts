/**
 * The ACL of deploy/redis lets the service do all that it does, and nothing else. `ACL LOG` tells of every refusal, also
 * inside a script, so a command that is missing shows even where the service goes on without it.
 */
import t, { type Test } from 'tap'
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { clockOffsetKey, startApp } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { patient } from '../helpers/patient.ts'
import { type RedisOptions, redisCli, type Reply, startRedis, waitFor } from '../helpers/redis-server.ts'
import { journey, type Scene } from '../helpers/store-scene.ts'
import { valkeyServer } from '../helpers/valkey.ts'
import { waitingCalls } from '../helpers/waiting.ts'

const user = 'effectonce'
const password = 'secret'
const fileOf = (version: '7.0' | '7.2') => readFileSync(`deploy/redis/acl-${version}.conf`, 'utf8')
const allowed = (version: '7.0' | '7.2'): string[] =>
  [...fileOf(version).matchAll(/ \+(\S+)/g)].map(([, command]) => command!)

/** What the client or src/redis sends outside of scripts; `subscribe` and `xread` on connections of their own. */
const plain = [
  ...['hello', 'auth', 'ping', 'client|setname', 'client|setinfo', 'client|id', 'client|unblock'],
  ...['info', 'config|get', 'time', 'wait', 'cluster|slots', 'asking', 'eval', 'evalsha'],
  ...['subscribe', 'xread', 'xrange', 'hmget', 'smembers'],
]

t.test('nothing is allowed that neither the client nor a script sends', async (t) => {
  const files = readdirSync('lua', { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.lua'))
  const scripts = files.map((file) => readFileSync(`lua/${file}`, 'utf8')).join('\n')
  const sent = (command: string) =>
    plain.includes(command) || scripts.includes(`'${command.split('|', 1)[0]!.toUpperCase()}'`)
  t.same(
    allowed('7.2').filter((command) => !sent(command)),
    [],
  )
  t.same(
    allowed('7.2').filter((command) => command !== 'client|setinfo'),
    allowed('7.0'),
    'the files differ by one command',
  )
})

/** A service that comes in as the user of the file, on a primary with a replica. */
async function start(t: Test, options: RedisOptions = {}) {
  const newer = options.program !== undefined
  const config = fileOf(newer ? '7.2' : '7.0').replace(`user ${user} on`, `user ${user} on >${password}`)
  const args = ['--appendonly', 'yes', '--appendfsync', 'always']
  const redis = await startRedis(t, { ...options, config, args })
  await startRedis(t, { ...options, args: ['--replicaof', '127.0.0.1', String(redis.port)] })
  const cli = (...words: (string | number)[]) => redisCli(redis.port, ...words)
  await cli('CONFIG', 'SET', 'repl-diskless-sync-delay', 0)
  await waitFor(async () => /state=online/.test(String(await cli('INFO', 'replication'))), 20_000)
  // The moved clock of the tests, which no service has.
  await cli('ACL', 'SETUSER', user, `%R~${clockOffsetKey}`)
  const types = { ledger_write: { durability: 'fsynced' }, pnl_write: { durability: { replicated: 1 } } }
  const app = await startApp(t, {
    ...{ redis, redisUrl: `redis://${user}:${password}@127.0.0.1:${redis.port}`, background: true },
    config: JSON.stringify({ effects: { types } }),
  })
  const calls = patient(app)
  const at: Scene = { ...calls, ...effectCalls(calls) }
  return { at, cli }
}

async function waits(t: Test, at: Scene): Promise<void> {
  const { attach, waiting } = waitingCalls(at)
  const effect = newEffect()
  const { effect_id, held } = await at.hold(effect)
  const waiter = attach(effect)
  await waiting(1, effect_id)
  t.equal((await at.complete({ ...held, result: 1 })).status, 200)
  t.match((await waiter).answer, { status: 200, body: { replayed: true } })
}

const acts = [
  ['POST', 'breakers/journey/success', {}],
  ['POST', 'breakers/journey/check', {}],
  ['POST', 'breakers/journey/override', { action: 'open', reason: 'a test', expires_in_seconds: 60 }],
  ['POST', 'breakers/journey/reset', { reason: 'a test' }],
  ['DELETE', 'jobs/metrics?reason=a%20test', undefined],
  ['POST', 'store/acknowledge', { reason: 'a test' }],
] as const

/** What the journey of the topologies leaves out. */
async function furtherJourney(t: Test, at: Scene): Promise<void> {
  for (const type of ['ledger_write', 'pnl_write']) {
    const claim = { ...newEffect(type), claim_id: randomUUID() }
    // A busy machine may not confirm in time; the same claim again is the same grant.
    const { body } = await waitFor(async () => {
      const answer = await at.claim(claim)
      return answer.body.code === 'durability-not-reached' ? undefined : answer
    }, 20_000)
    const { effect_id, fencing_token } = body as { effect_id: string; fencing_token: number }
    const done = () => at.complete({ effect_id, fencing_token, result: 1 })
    t.ok(await waitFor(async () => (await done()).status === 200, 20_000), type)
  }
  const operations = [newEffect(), newEffect()].map((effect) => ({ op: 'claim', ...effect, owner: 'bot-1' }))
  t.equal((await at.call('POST', '/api/v1/effects/batch', { operations })).status, 200)
  await waits(t, at)
  const error = { message: 'rate limited' }
  const decided = await at.call('POST', '/api/v1/retries/decide', { job_type: 'acl', attempt: 1, error })
  t.equal(decided.status, 200, decided.text)
  const counted = { attempt: { attempt_number: 2 }, success: {}, failure: {}, blocked: { reason: 'a test' } }
  for (const [kind, body] of Object.entries(counted)) {
    const answer = await at.call('POST', `/api/v1/retries/acl/${kind}`, { ...body, event_id: randomUUID() })
    t.equal(answer.status, 204, answer.text)
  }
  for (const path of ['breakers', 'breakers/journey', 'breakers/journey/history', 'jobs/metrics', 'system']) {
    t.equal((await at.call('GET', `/api/v1/${path}`)).status, 200, path)
  }
  t.equal((await at.call('GET', '/readyz')).status, 200)
  t.equal((await at.call('GET', '/metrics')).status, 200)
  for (const [method, path, body] of acts) {
    const answer = await at.call(method, `/api/v1/${path}`, body)
    t.ok(answer.status < 300, `${path}: ${answer.text}`)
  }
}

const refusals = (log: Reply): string => JSON.stringify(log)

async function outside(t: Test, cli: (...words: string[]) => Promise<Reply>): Promise<void> {
  const commands = ['FLUSHALL', 'CONFIG SET appendonly no', 'KEYS *', 'ACL LIST', 'SHUTDOWN', 'REPLICAOF NO ONE']
  for (const command of [...commands, 'SCRIPT FLUSH', 'GET other:key', 'SUBSCRIBE other']) {
    const answer = String(await cli('ACL', 'DRYRUN', user, ...command.split(' ')))
    t.match(answer, /no permissions|has no permission|can't/, command)
  }
}

for (const [name, program] of [['Redis', undefined] as const, ['Valkey', valkeyServer] as const]) {
  const skip = name === 'Valkey' && !program && 'no Valkey here'
  t.test(`${name}: the service does all that it does, and may do nothing else`, { skip }, async (t) => {
    const { at, cli } = await start(t, program === undefined ? {} : { program })
    await journey(t, at)
    await furtherJourney(t, at)
    t.equal(refusals(await cli('ACL', 'LOG')), '[]', 'nothing was refused')
    await outside(t, cli)
    await cli('ACL', 'SETUSER', user, '-zadd')
    const denied = await at.claim(newEffect())
    t.match(denied, { status: 503, body: { code: 'store-unavailable', reason: 'misconfigured' } })
    t.match(refusals(await cli('ACL', 'LOG')), /zadd/, 'and a refusal inside a script is logged')
  })
}
