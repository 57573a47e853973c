/** A service as src/main.ts starts it, with a clock that the nemesis can step where all scripts may read one key. */
import { buildApp } from '../../../src/app.ts'
import { parseConfig } from '../../../src/config.ts'
import { createLog, surviveFaults } from '../../../src/observability/log.ts'
import type { StoreAddress } from '../../../src/redis/connection.ts'
import { loadPreludes } from '../../../src/redis/scripts.ts'
import { createServices } from '../../../src/services.ts'
import { sayReady, settingsOfChild } from './children.ts'
import { steppedClock } from './stepped-clock.ts'

export type ServiceSettings = { config: string; address: StoreAddress; port: number; stepped: boolean }

const { config: text, address, port, stepped } = settingsOfChild<ServiceSettings>()
const config = parseConfig(text, { LOG_LEVEL: 'silent' }, null)
const log = createLog(config.server.log_level)
const real = loadPreludes()
const preludes = stepped ? { ...real, clock: real.clock + steppedClock } : real
const services = createServices({ config, address, log, preludes })
const app = await buildApp(services)
surviveFaults(log, services.metrics)
services.start()
await app.listen({ host: '127.0.0.1', port })
sayReady()
