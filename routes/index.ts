/** Every endpoint, on one screen. */
import type { Declare } from '../src/http/operation.ts'
import type { Services } from '../src/services.ts'
import { auditRoutes } from './audit.ts'
import { breakerRoutes } from './breakers.ts'
import { docsRoutes } from './docs.ts'
import { effectBatchRoutes } from './effects-batch.ts'
import { effectRoutes } from './effects.ts'
import { eventRoutes } from './events.ts'
import { failureRoutes } from './failures.ts'
import { retryRoutes } from './retries.ts'
import { systemRoutes } from './system.ts'

export function registerRoutes(declare: Declare, services: Services): void {
  effectRoutes(declare, services.effects)
  effectBatchRoutes(declare, services.effects, services.metrics.fault)
  breakerRoutes(declare, services.breakers)
  retryRoutes(declare, services.retries)
  failureRoutes(declare, services.classifier, services.nowMs)
  auditRoutes(declare, services.audit)
  eventRoutes(declare, services.eventFeed)
  systemRoutes(declare, services.system, services.storeState, services.metrics)
  docsRoutes(declare)
}
