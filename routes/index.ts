/** Every endpoint, on one screen. */
import type { Declare } from '../src/http/operation.ts'
import type { Services } from '../src/services.ts'
import { effectRoutes } from './effects.ts'

export function registerRoutes(declare: Declare, services: Services): void {
  effectRoutes(declare, services.effects)
}
