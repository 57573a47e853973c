import t from 'tap'
import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { startRedis, redisCli, waitFor, randomNamespace } from '../helpers/redis-server.ts'
t.test('starts, restarts, keeps data', async (t) => {
  const a = performance.now()
  const r = await startRedis(t, { args: ['--appendonly', 'yes', '--appendfsync', 'always'] })
  t.comment('start ms', performance.now() - a)
  t.equal(await redisCli(r.port, 'SET', 'a', 'ü'), 'OK')
  t.equal(await redisCli(r.port, 'RPUSH', 'l', 1, 'b'), 2)
  t.same(await redisCli(r.port, 'LRANGE', 'l', 0, -1), ['1', 'b'])
  await t.rejects(redisCli(r.port, 'FOO'), /unknown command/)
  await r.kill('SIGKILL')
  await t.rejects(redisCli(r.port, 'PING'), /ECONNREFUSED/)
  const pid = r.pid
  const b = performance.now()
  await r.restart()
  t.comment('restart ms', performance.now() - b)
  t.not(r.pid, pid)
  t.equal(await redisCli(r.port, 'GET', 'a'), 'ü')
  t.equal(await redisCli(r.port, 'GET', 'nope'), null)
  await r.kill('SIGSTOP')
  const c = performance.now()
  await r.restart()
  t.comment('stop + restart ms', performance.now() - c)
  t.match(randomNamespace(), /^[a-z0-9][a-z0-9_-]{0,62}$/)
  await t.rejects(startRedis(t, { port: r.port }), /in use/)
})
t.test('fast', async (t) => {
  for (let i = 0; i < 5; i++) {
    const a = performance.now()
    const r = await startRedis(t)
    t.comment('start ms', performance.now() - a, r.dir)
  }
  await t.rejects(waitFor(() => false, 20))
})
