import t from 'tap'
import { randomNamespace, redisCli } from '../helpers/redis-server.ts'
import { startApp } from '../helpers/app.ts'
t.test('x', { timeout: 200000 }, async (t) => {
  const a = await startApp(t)
  const ns = randomNamespace()
  const e = { action: 'effect.resolve' as const, subject: 'order_placement.' + 'a'.repeat(64), user: 'ops', on_behalf_of: null, reason: 'because of that', before: {state:'uncertain', attempt: 1}, after: {state:'completed'} }
  for (let i = 0; i < 100; i++) await Promise.all(Array.from({length:200},()=>a.services.audit.append(ns, e)))
  for (let i = 0; i < 3; i++) { await redisCli(a.redis.port,'CONFIG','RESETSTAT'); const c0 = process.cpuUsage(); const s = performance.now(); const v = await a.services.audit.verify(ns); t.comment(v.entries, v.ok, Math.round(performance.now()-s), process.cpuUsage(c0)) }
  t.comment(await redisCli(a.redis.port, 'INFO','commandstats').then(x=>String(x).split('\n').filter(l=>/evalsha/.test(l))), await redisCli(a.redis.port,'MEMORY','USAGE',`idempotency:{${ns}}:audit`,'SAMPLES','0'))
  t.pass()
})
