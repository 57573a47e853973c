/**
 * Every trouble that a server can be in, brought about for real and mended again: what calls are told meanwhile, and what is
 * true afterwards. One table for a single server, for the primary behind Sentinel, and for one shard of a Cluster.
 */
import type { Test } from 'tap'
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import type { StoreReason } from '../../src/redis/errors.ts'
import { newEffect } from './effects.ts'
import { freePort, redisCli, redisCliAs, type RedisServer, waitFor } from './redis-server.ts'
import { inTime, recovered, refused, type Scene } from './store-scene.ts'

type Effect = ReturnType<typeof newEffect>
/** A reason of a 503 or one of several, or 200: an answer as if there were no trouble. */
type Told = StoreReason | RegExp | 200

export interface Troubled {
  server: RedisServer
  /** A service that came in as `troubleUser`, and one that came in without a password. */
  at: Scene
  nobody: Scene
  /** A new effect that lives on the server. */
  effect: () => Effect
  /** New effects that live on other servers: they are granted whatever happens here. */
  elsewhere: () => Effect[]
  /** A key on the server that nobody else uses. */
  key: string
  /** What calls are told while nobody listens there. */
  away: StoreReason
}

interface Trouble {
  name: string
  claim: StoreReason | RegExp
  /** A report of a holder. Default: as a claim. */
  complete?: Told
  /** Default: as a claim. */
  read?: Told
  /** Whose service is in trouble. Default: `at`. */
  whose?: 'at' | 'nobody'
  /** Resolves when it is there, with what ends it. */
  begin: () => Promise<() => Promise<unknown>>
}

export const troubleUser = { username: 'app', password: 'secret' }
/** What every server must be started with: a user, and leave to load its data again. */
export const troubleArgs = [
  ...['--user', troubleUser.username, 'on', `>${troubleUser.password}`, '~*', '&*', '+@all'],
  ...['--enable-debug-command', 'yes'],
]

type Cli = (...args: (string | number)[]) => ReturnType<typeof redisCli>
const cliOf =
  ({ server }: Troubled): Cli =>
  (...args) =>
    redisCli(server.port, ...args)

/** Until the server itself refuses with this word. */
const refusing = (cli: Cli, word: string) =>
  waitFor(() =>
    cli('PING').then(
      () => false,
      (error: Error) => error.message.startsWith(word),
    ),
  )

async function loads(place: Troubled) {
  const cli = cliOf(place)
  await cli('EVAL', "for i = 1, 4000 do redis.call('SET', KEYS[1] .. i, i) end", 1, place.key)
  await cli('CONFIG', 'SET', 'key-load-delay', 500, 'loading-process-events-interval-bytes', 1024)
  const loaded = cli('DEBUG', 'RELOAD')
  await refusing(cli, 'LOADING')
  return async () => {
    await loaded
    await cli('CONFIG', 'SET', 'key-load-delay', 0)
    await cli('EVAL', "for i = 1, 4000 do redis.call('UNLINK', KEYS[1] .. i) end", 1, place.key)
  }
}

async function isBusy(place: Troubled) {
  const cli = cliOf(place)
  await cli('CONFIG', 'SET', 'busy-reply-threshold', 1)
  const endless = cli('EVAL', 'while true do end', 0).catch(() => undefined)
  await refusing(cli, 'BUSY')
  return async () => {
    await cli('SCRIPT', 'KILL')
    await endless
  }
}

/** With a folder where its file belongs. */
async function cannotSave(place: Troubled) {
  const cli = cliOf(place)
  const saved = (status: string) => async () => {
    const info = String(await cli('INFO', 'persistence'))
    if (info.includes('rdb_bgsave_in_progress:1')) return false
    if (info.includes(`rdb_last_bgsave_status:${status}`)) return true
    await cli('BGSAVE')
    return false
  }
  const inTheWay = path.join(place.server.dir, 'dump.rdb')
  await rm(inTheWay, { force: true })
  await mkdir(path.join(inTheWay, 'x'), { recursive: true })
  await cli('CONFIG', 'SET', 'save', '3600 1')
  await waitFor(saved('err'))
  return async () => {
    await rm(inTheWay, { recursive: true })
    await waitFor(saved('ok'))
    await cli('CONFIG', 'SET', 'save', '')
  }
}

/** Killed, with its data kept. What is sent before the service has noticed may have arrived: that is another scene. */
async function isAway(place: Troubled) {
  const { server, at, effect } = place
  await cliOf(place)('SAVE')
  await server.kill('SIGKILL')
  await waitFor(async () => (await at.claim(effect())).body.reason === place.away)
  return () => server.restart()
}

async function isReplica(place: Troubled, stale: 'yes' | 'no') {
  const { at, effect } = place
  const cli = cliOf(place)
  await cli('CONFIG', 'SET', 'replica-serve-stale-data', stale)
  await cli('REPLICAOF', '127.0.0.1', await freePort())
  // READONLY makes the client connect anew, which takes a moment.
  await at.claim(effect())
  await waitFor(() => at.services.store.connected(), 10_000)
  return () => cli('REPLICAOF', 'NO', 'ONE')
}

/** The password changes under a service that holds the old one. */
async function refusesPassword(place: Troubled) {
  const { at, effect } = place
  const cli = cliOf(place)
  const { username, password } = troubleUser
  await cli('ACL', 'SETUSER', username, 'resetpass', '>another')
  await cli('CLIENT', 'KILL', 'USER', username)
  await waitFor(async () => (await at.claim(effect())).body.reason === 'misconfigured')
  return () => cli('ACL', 'SETUSER', username, 'resetpass', `>${password}`)
}

/** A password is asked for from now on, of a service that has none. */
async function asksForPassword(place: Troubled) {
  const { server, nobody, effect } = place
  const cli: Cli = (...args) => redisCliAs(troubleUser, server.port, ...args)
  await cli('ACL', 'SETUSER', 'default', 'resetpass', '>another')
  await cli('CLIENT', 'KILL', 'USER', 'default')
  await waitFor(async () => (await nobody.claim(effect())).body.reason === 'misconfigured')
  return () => cli('ACL', 'SETUSER', 'default', 'nopass')
}

async function hangs({ server }: Troubled) {
  await server.kill('SIGSTOP')
  return () => server.kill('SIGCONT')
}

/** By a setting, which `back` undoes. */
const setTo =
  (place: Troubled, to: (string | number)[], back: (string | number)[]): Trouble['begin'] =>
  async () => {
    await cliOf(place)(...to)
    return () => cliOf(place)(...back)
  }

/** In a Cluster no server can be told to follow: it is no longer asked once it has become a replica (MOVED). */
const whereReplicasAreMade = (place: Troubled): Trouble[] => [
  { name: 'is read-only', claim: 'failing_over', read: 200, begin: () => isReplica(place, 'yes') },
  { name: 'is a replica without its primary', claim: 'failing_over', begin: () => isReplica(place, 'no') },
]

const everywhere = (place: Troubled): Trouble[] => [
  { name: 'is loading', claim: 'loading', begin: () => loads(place) },
  { name: 'is busy with a script', claim: 'busy', begin: () => isBusy(place) },
  {
    ...{ name: 'is full', claim: 'out_of_memory', complete: 200, read: 200 },
    begin: setTo(place, ['CONFIG', 'SET', 'maxmemory', 1], ['CONFIG', 'SET', 'maxmemory', 0]),
  },
  { name: 'cannot save', claim: 'not_persisting', read: 200, begin: () => cannotSave(place) },
  {
    ...{ name: 'has too few replicas', claim: 'not_replicated', read: 200 },
    begin: setTo(place, ['CONFIG', 'SET', 'min-replicas-to-write', 9], ['CONFIG', 'SET', 'min-replicas-to-write', 0]),
  },
  {
    ...{ name: 'refuses the command', claim: 'misconfigured' },
    begin: setTo(
      place,
      ['ACL', 'SETUSER', troubleUser.username, '-eval', '-evalsha'],
      ['ACL', 'SETUSER', troubleUser.username, '+@all'],
    ),
  },
  { name: 'refuses the password', claim: 'misconfigured', begin: () => refusesPassword(place) },
  { name: 'asks for a password', claim: 'misconfigured', whose: 'nobody', begin: () => asksForPassword(place) },
  {
    // Those that had not been sent when it fell silent are not sent any more.
    ...{ name: 'hangs', claim: new RegExp(`^(outcome_unknown|${place.away})$`), read: place.away },
    ...{ complete: 'outcome_unknown', begin: () => hangs(place) },
  },
  { name: 'is away', claim: place.away, begin: () => isAway(place) },
]

/** What calls are told while it lasts. */
async function during(t: Test, place: Troubled, trouble: Trouble, held: { effect_id: string; fencing_token: number }) {
  const { claim: reason, complete = reason, read = reason, whose = 'at' } = trouble
  const at = place[whose]
  const tells = async (call: ReturnType<Scene['claim']>, told: Told) => {
    if (told === 200) return void t.equal((await inTime(t, call)).status, 200)
    await refused(t, call, told)
  }
  const refusedClaims = Array.from({ length: 5 }, place.effect)
  await Promise.all([
    tells(at.complete({ ...held, result: { order: 1 } }), complete),
    ...refusedClaims.map((effect) => tells(at.claim(effect), reason)),
    tells(at.get(held.effect_id), read),
    ...place.elsewhere().map(async (effect) => {
      t.equal((await inTime(t, at.claim(effect))).status, 201, 'the others never notice')
    }),
  ])
  return refusedClaims
}

async function play(t: Test, place: Troubled, trouble: Trouble): Promise<void> {
  const at = place[trouble.whose ?? 'at']
  const { effect_id, held } = await at.hold(place.effect())
  const mend = await trouble.begin()
  const effects = await during(t, place, trouble, held)
  await mend()
  await recovered(t, at, place.effect)
  for (const effect of effects) {
    const answer = await inTime(t, at.claim({ ...effect, owner: 'another' }))
    t.match(answer, { status: 201, body: { attempt: 1 } }, 'nobody holds what nobody was granted')
  }
  const done = await inTime(t, at.complete({ ...held, result: { order: 1 } }))
  t.match(done, { status: 200, body: { outcome: 'completed' } }, 'what happened can be reported again')
  t.match((await at.get(effect_id)).body, { state: 'completed', result: { order: 1 } })
}

/** All of them, one after the other, on servers that were started with `troubleArgs`. */
export async function playTroubles(t: Test, place: Troubled): Promise<void> {
  const troubles = place.at.services.store.clustered ? [] : whereReplicasAreMade(place)
  for (const trouble of [...troubles, ...everywhere(place)]) {
    await t.test(`Redis ${trouble.name}`, (t) => play(t, place, trouble))
  }
}
