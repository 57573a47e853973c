/** Writes openapi.yaml from the build: `npm run build && node scripts/openapi.mjs`. Needs no Redis. */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { pino } from 'pino'

const root = path.dirname(import.meta.dirname)
const built = (file) => import(pathToFileURL(path.join(root, 'dist/src', file)).href)
const { buildApp } = await built('app.js')
const { parseConfig } = await built('config.js')
const { openapiText } = await built('http/openapi.js')
const { createServices } = await built('services.js')

/** Nothing listens there: the document is made of the code alone. */
const address = { url: 'unix:///nonexistent', username: null, password: null, tls: null }
const services = createServices({ config: parseConfig('', {}, null), address, log: pino({ level: 'silent' }) })
const app = await buildApp(services)
writeFileSync(path.join(root, 'openapi.yaml'), openapiText(app.swagger()))
await app.close()
await services.stop()
