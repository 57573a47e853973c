/** Operations: is it alive, is it ready, what does it count, how is it. */
import { actorOf } from '../src/auth.ts'
import type { Declare } from '../src/http/operation.ts'
import type { Metrics } from '../src/observability/metrics.ts'
import * as schema from '../src/observability/schema.ts'
import type { StoreState } from '../src/observability/store-state.ts'
import type { System } from '../src/observability/system.ts'
import * as examples from './examples/system.ts'

const tag = 'operations'

export function systemRoutes(declare: Declare, system: System, store: StoreState, { registry, text }: Metrics): void {
  declareHealth(declare, system)
  declareAcknowledge(declare, store)
  declare(
    {
      id: 'readMetrics',
      method: 'GET',
      url: '/metrics',
      role: 'metrics',
      tag,
      summary: 'Metrics for Prometheus, over all namespaces and all processes behind this port',
      description: 'Any API key, unless `auth.metrics_anonymous` is set.',
      answers: {
        200: {
          description: 'All metrics; docs/metrics.md explains them.',
          schema: schema.metricsText,
          example: examples.metrics,
          mediaType: 'text/plain',
        },
      },
    },
    async ({ reply }) => {
      void reply.type(registry.contentType)
      return { status: 200, body: await text() }
    },
  )
  declare(
    {
      id: 'readSystem',
      method: 'GET',
      url: '/api/v1/system',
      role: 'reader',
      tag,
      summary: 'Version, Redis, checks, and what is in flight',
      answers: { 200: { description: 'How the service is.', schema: schema.system, example: examples.system } },
    },
    async ({ principal }) => ({ status: 200, body: await system.read(principal.namespace) }),
  )
}

function declareAcknowledge(declare: Declare, store: StoreState): void {
  declare(
    {
      id: 'acknowledgeStore',
      method: 'POST',
      url: '/api/v1/store/acknowledge',
      role: 'operator',
      tag,
      summary: 'Grant absent effects again after the store came back empty; audited',
      description:
        'Where Redis comes back without what this service knew, claims of effects without a record get 503 until a person ' +
        'has looked. Concerns all namespaces and processes, these within a second. Repeating it changes nothing.',
      body: schema.acknowledgeBody,
      bodyExample: examples.acknowledge,
      answers: { 200: { description: 'The store after it.', schema: schema.storeState, example: examples.store } },
    },
    async ({ principal, body: { reason, user } }) => ({
      status: 200,
      body: await store.acknowledge(principal.namespace, reason, actorOf(principal, user)),
    }),
  )
}

function declareHealth(declare: Declare, system: System): void {
  declare(
    {
      id: 'checkLiveness',
      method: 'GET',
      url: '/livez',
      role: 'open',
      tag,
      summary: 'Whether the process runs',
      answers: { 200: { description: 'It runs.', schema: schema.live, example: examples.live } },
    },
    () => ({ status: 200, body: { status: 'live' } }),
  )
  declare(
    {
      id: 'checkReadiness',
      method: 'GET',
      url: '/readyz',
      role: 'open',
      tag,
      summary: 'Whether calls should be sent here',
      answers: {
        200: { description: 'Yes.', schema: schema.ready, example: examples.ready },
        503: { description: 'No, and why.', schema: schema.notReady, example: examples.notReady },
      },
    },
    () => {
      const { ready, reasons, checks } = system.health()
      return ready
        ? { status: 200, body: { status: 'ready', checks } }
        : { status: 503, body: { status: 'not_ready', reasons, checks } }
    },
  )
}
