/** Writes openapi.yaml from the build: `npm run build && node scripts/openapi.mjs`. Needs no Redis. */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { pino } from 'pino'
import { buildApp } from '../dist/src/app.js'
import { parseConfig } from '../dist/src/config.js'
import { openapiText } from '../dist/src/http/openapi.js'
import { createServices } from '../dist/src/services.js'

/** Nothing listens there: the document is made of the code alone. */
const address = { url: 'unix:///nonexistent', username: null, password: null, tls: null }
const services = createServices({ config: parseConfig('', {}, null), address, log: pino({ level: 'silent' }) })
const app = await buildApp(services)
writeFileSync(path.join(import.meta.dirname, '../openapi.yaml'), openapiText(app.swagger()))
await app.close()
await services.stop()
