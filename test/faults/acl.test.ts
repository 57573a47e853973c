/**
 * The ACL of deploy/redis lets the service do all that it does, and nothing else. `ACL LOG` tells of every refusal, also
 * inside a script, so a command that is missing shows even where the service goes on without it.
 */
import t, { type Test } from 'tap'
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { clockOffsetKey, startApp, type StorePlace } from '../helpers/app.ts'
import { effectCalls, newEffect } from '../helpers/effects.ts'
import { patient } from '../helpers/patient.ts'
import { startCluster } from '../helpers/redis-cluster.ts'
import { startSentinel } from '../helpers/redis-sentinel.ts'
import {
  type RedisOptions,
  redisCli,
  type RedisServer,
  type Reply,
  startRedis,
  waitFor,
} from '../helpers/redis-server.ts'
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
  ...['hello', 'auth', 'select', 'ping', 'client|setname', 'client|setinfo', 'client|id', 'client|unblock'],
  ...['info', 'config|get', 'time', 'wait', 'cluster|info', 'cluster|slots', 'asking', 'eval', 'evalsha'],
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

const types = { ledger_write: { durability: 'fsynced' }, pnl_write: { durability: { replicated: 1 } } }
const always = ['--appendonly', 'yes', '--appendfsync', 'always']

/** A service that comes in as the user of the file, on a primary with a replica. */
async function start(t: Test, options: RedisOptions = {}) {
  const newer = options.program !== undefined
  const config = fileOf(newer ? '7.2' : '7.0').replace(`user ${user} on`, `user ${user} on >${password}`)
  const redis = await startRedis(t, { ...options, config, args: always })
  await startRedis(t, { ...options, args: ['--replicaof', '127.0.0.1', String(redis.port)] })
  const cli = (...words: (string | number)[]) => redisCli(redis.port, ...words)
  await cli('CONFIG', 'SET', 'repl-diskless-sync-delay', 0)
  await waitFor(async () => /state=online/.test(String(await cli('INFO', 'replication'))), 20_000)
  // The moved clock of the tests, which no service has.
  await cli('ACL', 'SETUSER', user, `%R~${clockOffsetKey}`)
  const app = await startApp(t, {
    ...{ redis, redisUrl: `redis://${user}:${password}@127.0.0.1:${redis.port}`, background: true },
    config: JSON.stringify({ effects: { types } }),
  })
  const calls = patient(app)
  const at: Scene = { ...calls, ...effectCalls(calls) }
  return { at, cli }
}

async function waits(t: Test, at: Scene): Promise<void> {
  const { attach } = waitingCalls(at)
  const effect = newEffect()
  const { held } = await at.hold(effect)
  const waiter = attach(effect)
  await waitFor(() => at.services.waiting.count() === 1)
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

/** The user of the file as arguments of a server, also with the clock of the tests. */
const userArgs = (): string[] => {
  const [, words] = /^user (.*)$/m.exec(fileOf('7.0'))!
  return ['--user', ...words!.replace(`${user} on`, `${user} on >${password}`).split(' '), `%R~${clockOffsetKey}`]
}

async function startOn(t: Test, place: StorePlace): Promise<Scene> {
  const config = JSON.stringify({ redis: { failover_grace_seconds: 0 }, effects: { types } })
  const login = { username: user, password }
  const calls = patient(await startApp(t, { place, login, config, background: true }))
  return { ...calls, ...effectCalls(calls) }
}

async function nothingRefused(t: Test, servers: readonly RedisServer[]): Promise<void> {
  for (const { port } of servers) t.equal(refusals(await redisCli(port, 'ACL', 'LOG')), '[]', 'nothing was refused')
}

/** What Sentinels and replicas may do on a data server, as docs/guarantees.md says it. */
function othersArgs(): string[] {
  const lines = [
    ...readFileSync('docs/guarantees.md', 'utf8').matchAll(/^user (sentinel|replica) on ([^`]*?)\s(?=user|```)/gm),
  ]
  const users = lines.flatMap(([, name, words]) => ['--user', name!, 'on', `>${password}`, ...words!.split(/\s+/)])
  return [...users, '--masteruser', 'replica', '--masterauth', password]
}

t.test('behind Sentinel, whose own users have the least too, through a failover', async (t) => {
  const sentinel = await startSentinel(t, {
    args: [...always, ...userArgs(), ...othersArgs()],
    sentinelConfig: () => `sentinel auth-user main sentinel\nsentinel auth-pass main ${password}`,
  })
  const at = await startOn(t, sentinel.place)
  await journey(t, at)
  await sentinel.failover()
  await waitFor(async () => (await at.claim(newEffect())).status === 201, 20_000)
  await furtherJourney(t, at)
  await nothingRefused(t, [...sentinel.servers, ...sentinel.sentinels])
})

t.test('in a Cluster, while a replica takes over', async (t) => {
  const cluster = await startCluster(t, { args: [...always, ...userArgs()] })
  const at = await startOn(t, cluster.place)
  await journey(t, at)
  await cluster.promote(cluster.replicas[0]!)
  await waitFor(async () => (await at.claim(newEffect())).status === 201, 20_000)
  await furtherJourney(t, at)
  await nothingRefused(t, cluster.nodes)
})
