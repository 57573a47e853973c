/** Several processes behind one port, as they are built and started: what callers and operators may rely on. */
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import t, { type Test } from 'tap'
import { redisCli, startRedis, waitFor } from '../helpers/redis-server.ts'
import { isAlive, type Service, spawnService, startService } from '../helpers/service.ts'

/** Six starts of a service with two processes: on a loaded machine they take their time. */
t.setTimeout(300_000)
const slowMs = 40_000
const worker = /main\.js/

interface Answer {
  status: number
  text: string
  body: Record<string, unknown>
}

/** One request; by default on a connection of its own, so that the processes take turns. */
function call(service: Service, method: string, url: string, body?: object, agent = oneCall): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json' }
    const request = http.request(service.url + url, { method, agent, timeout: 5000, headers }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part) => (text += part))
      response.on('error', reject)
      response.on('end', () => resolve({ status: response.statusCode!, text, body: jsonOf(text) }))
    })
    request.on('timeout', () => request.destroy(new Error('no answer within 5 s')))
    request.on('error', reject)
    request.end(body && JSON.stringify(body))
  })
}

const oneCall = new http.Agent({ keepAlive: false })

function jsonOf(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return {}
  }
}

const claimOf = (owner: string) => ({ type: 'order_placement', entity: randomUUID(), owner, claim_id: randomUUID() })
const claim = (service: Service, body: object = claimOf('a'), agent?: http.Agent) =>
  call(service, 'POST', '/api/v1/effects/claim', body, agent)

/** The value of a series, 0 where it is absent. */
async function metric(service: Service, series: string): Promise<number> {
  const { text } = await call(service, 'GET', '/metrics')
  return Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.split(' ')[1] ?? 0,
  )
}

const granted = 'effectonce_claims_total{type="order_placement",outcome="claimed"}'

const answeredBy = (service: Service) =>
  new Set(service.log().flatMap((line) => (line['method'] ? [line['worker']] : [])))

/** What a person would have to look into, from the line of the log with this number on. */
const errorsOf = (service: Service, first = 0) =>
  service.log().filter(({ level }, number) => number >= first && (level === 'error' || level === 'fatal'))

const processes = async (service: Service) => (await call(service, 'GET', '/api/v1/system')).body['processes']

/** A configuration file of this test's own. */
async function configFile(t: Test, text: string): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'effectonce-config-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = path.join(folder, 'effectonce.yaml')
  await writeFile(file, text)
  return file
}

const bothServe = (service: Service) => waitFor(async () => (await processes(service)) === 2, slowMs)

/** Callers that claim one effect after the other until `stop`; a call that fails is repeated with the same claim_id. */
function load(service: Service, callers: number, keepAlive: boolean) {
  const agent = new http.Agent({ keepAlive })
  const tally = { granted: 0, errors: [] as string[], refused: [] as string[] }
  let running = true
  const untilGranted = async (body: object) => {
    for (;;) {
      const answer = await claim(service, body, agent).catch((error: Error) => error)
      if (answer instanceof Error) tally.errors.push(answer.message)
      else if (answer.status === 201) return void tally.granted++
      else return void tally.refused.push(answer.text)
    }
  }
  const caller = async () => {
    while (running) await untilGranted(claimOf('load'))
  }
  const all = Promise.all(Array.from({ length: callers }, caller))
  return {
    tally,
    async stop() {
      running = false
      await all
      agent.destroy()
      return tally
    },
  }
}

// One service for the tests that follow, in their order.
const redis = await startRedis(t)
const CONFIG_FILE = await configFile(t, 'effects: {defaults: {lease_seconds: 40}}\n')
const service = await startService(t, { PROCESSES: '2', REDIS_URL: redis.url, CONFIG_FILE })
await bothServe(service)
const says = (text: string) => waitFor(() => service.output().includes(text), slowMs)
let claims = 0

t.test('start once for a person, both take calls, and are counted together', async (t) => {
  for (; claims < 100; claims++) t.equal((await claim(service)).status, 201)
  t.same([...answeredBy(service)].toSorted(), [1, 2])
  t.equal(service.output().match(/Effectonce listens on/g)?.length, 1)
  t.match(service.output(), /^ {2}workers 2 processes$/m)
  t.same([await metric(service, granted), await metric(service, granted)], [100, 100], 'whichever is asked')
  t.equal(await metric(service, 'effectonce_processes'), 2)
  t.ok((await metric(service, 'process_resident_memory_bytes')) > 2 * 30e6, 'of both')
  // Each process counts them for itself, at most every five seconds.
  const inProgress = 'effectonce_effects{type="order_placement",state="in_progress"}'
  await waitFor(async () => (await metric(service, inProgress)) === 100, slowMs)
  t.equal(await metric(service, 'effectonce_memory_budget_bytes'), 100 * 1024 * 1024, 'what all know counts once')
})

t.test('a second service on the port says so once and ends', async (t) => {
  const second = await spawnService(t, { PROCESSES: '2', REDIS_URL: redis.url, PORT: String(service.port) })
  t.equal(await second.ended, 1)
  t.equal(second.output().match(/^bind EADDRINUSE .*$/gm)?.length, 1, second.output())
  t.equal(await processes(service), 2)
})

t.test('SIGHUP with a configuration that cannot be used changes nothing', async (t) => {
  const before = service.children(worker)
  await writeFile(CONFIG_FILE, 'effects: {defaults: {lease_second: 50}}\n')
  service.kill('SIGHUP')
  await says('did you mean lease_seconds?')
  await writeFile(CONFIG_FILE, 'retry: {redis: {namespace: elsewhere}}\n')
  service.kill('SIGHUP')
  await says('change only with a stop and a start')
  t.same(service.children(worker), before)
})

t.test('SIGHUP replaces every process, reads the configuration again, and loses no call', async (t) => {
  const running = [load(service, 4, true), load(service, 4, false)]
  await waitFor(() => running.every(({ tally }) => tally.granted >= 50), slowMs)
  const old = service.children(worker)
  await writeFile(CONFIG_FILE, 'effects: {defaults: {lease_seconds: 50}}\n')
  service.kill('SIGHUP')
  await says('all worker processes are replaced')
  const tallies = await Promise.all(running.map(({ stop }) => stop()))
  t.same(
    tallies.flatMap(({ errors, refused }) => [...errors, ...refused]),
    [],
  )
  t.match((await claim(service)).body, { lease_seconds: 50 })
  t.equal(old.some(isAlive), false)
  t.equal(await processes(service), 2)
  claims += tallies.reduce((sum, { granted: count }) => sum + count, 1)
  t.equal(await metric(service, granted), claims, 'what the old ones counted stays in the sum')
})

t.test('one that is killed is replaced; no later call is lost, and no counter runs backwards', async (t) => {
  const running = load(service, 8, false)
  await waitFor(() => running.tally.granted >= 50, slowMs)
  const [victim] = service.children(worker)
  process.kill(victim!, 'SIGKILL')
  await says('a worker process has ended by SIGKILL')
  t.ok((await metric(service, granted)) >= claims)
  await waitFor(() => service.children(worker).length === 2, slowMs)
  await bothServe(service)
  t.equal(await metric(service, 'effectonce_processes_lost_total'), 1)
  const { errors, refused } = await running.stop()
  t.same(refused, [], 'every claim that was repeated was granted to its caller')
  t.ok(errors.length <= 8, `only calls that were under way were cut off: ${errors.join(', ')}`)
  t.notOk(
    errors.some((message) => message.startsWith('no answer')),
    'no connection is forgotten',
  )
})

t.test('SIGHUP replaces one too that is just starting: none keeps the configuration before', async (t) => {
  const restarts = (told: string) => service.output().split(told).length - 1
  const [begun, ended] = ['replacing the worker processes', 'all worker processes are replaced']
  const before = [restarts(begun), restarts(ended)]
  const old = service.children(worker)
  process.kill(old[0]!, 'SIGKILL')
  const starting = await waitFor(() => service.children(worker).find((pid) => !old.includes(pid)), slowMs)
  // Held, so that it does not take calls before the restart has begun.
  process.kill(starting, 'SIGSTOP')
  t.teardown(() => isAlive(starting) && process.kill(starting, 'SIGCONT'))
  await writeFile(CONFIG_FILE, 'effects: {defaults: {lease_seconds: 60}}\n')
  service.kill('SIGHUP')
  await waitFor(() => restarts(begun) > before[0]!, slowMs)
  process.kill(starting, 'SIGCONT')
  await waitFor(() => restarts(ended) > before[1]!, slowMs)
  await bothServe(service)
  for (let n = 0; n < 8; n++) t.match((await claim(service)).body, { lease_seconds: 60 })
})

t.test('SIGINT leaves no process, and no word of trouble where there was none', async (t) => {
  const children = service.children()
  t.equal(children.length, 2)
  const before = service.log().length
  service.kill('SIGINT')
  t.equal(await service.ended, 0)
  t.notOk(children.some(isAlive))
  t.same(errorsOf(service, before), [])
})

t.test('processes that cannot start any more end the service with their message', async (t) => {
  const redis = await startRedis(t, { args: ['--appendonly', 'yes'] })
  const CONFIG_FILE = await configFile(t, 'redis: {require_safe: true}\n')
  const service = await startService(t, { PROCESSES: '2', REDIS_URL: redis.url, CONFIG_FILE })
  await bothServe(service)
  await redisCli(redis.port, 'CONFIG', 'SET', 'maxmemory', '1gb', 'maxmemory-policy', 'allkeys-lru')
  process.kill(service.children(worker)[0]!, 'SIGKILL')
  t.equal(await service.ended, 1)
  t.match(service.output(), /^This Redis is not fit for the service:\n.*allkeys-lru/m)
})

t.test('a SIGKILL of the primary process leaves no orphan, and SIGTERM of the next no process', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'effectonce-data-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const env = { PROCESSES: '2', REDIS_URL: '', DATA_DIR: path.join(folder, 'data') }
  const first = await startService(t, env)
  const body = claimOf('a')
  t.equal((await claim(first, body)).status, 201)
  const orphans = first.children()
  t.ok(orphans.length >= 2, 'workers and the private Redis')
  first.kill('SIGKILL')
  await waitFor(() => !orphans.some(isAlive), slowMs)

  const next = await startService(t, { ...env, PORT: String(first.port) })
  t.match(await claim(next, { ...body, claim_id: randomUUID() }), { status: 409, body: { code: 'effect-in-progress' } })
  await bothServe(next)
  const children = next.children()
  t.equal(children.length, 3, 'two workers and the private Redis')
  next.kill('SIGTERM')
  t.equal(await next.ended, 0)
  t.notOk(children.some(isAlive))
  t.notMatch(next.output(), /a worker process has ended/)
  t.same(errorsOf(next), [])
})
