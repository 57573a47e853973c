import t from 'tap'
import { writeFileSync } from 'node:fs'
import { pino } from 'pino'
import { buildApp } from '../../src/app.ts'
import { parseConfig } from '../../src/config.ts'
import { createServices } from '../../src/services.ts'
t.test('x', async (t) => {
  const s = createServices({ config: parseConfig('', {}, null), address: { url: 'unix:///nonexistent', username: null, password: null, tls: null }, log: pino({ level: 'silent' }) })
  const app = await buildApp(s)
  writeFileSync('/tmp/doc0.yaml', (app as any).swagger({ yaml: true }))
  await app.close(); await s.stop()
  t.pass()
})
