/** Every endpoint, on one screen. */
import type { Declare } from '../src/http/operation.ts'
import type { Services } from '../src/services.ts'
import { docsRoutes } from './docs.ts'
import { effectRoutes } from './effects.ts'
import { systemRoutes } from './system.ts'

export function registerRoutes(declare: Declare, services: Services): void {
  effectRoutes(declare, services.effects)
  systemRoutes(declare, services.system, services.metrics)
  docsRoutes(declare)
}
