/** Circuit breakers: looking at them, asking them, telling them what jobs came to, and overriding them. */
import { actorOf } from '../src/auth.ts'
import type { Breakers } from '../src/breakers/breakers.ts'
import * as schema from '../src/breakers/schema.ts'
import type { Declare } from '../src/http/operation.ts'
import * as examples from './examples/breakers.ts'

const tag = 'breakers'
const params = schema.breakerParams

export function breakerRoutes(declare: Declare, breakers: Breakers): void {
  declareReading(declare, breakers)
  declareReports(declare, breakers)
  declareOverrides(declare, breakers)
}

function declareReading(declare: Declare, breakers: Breakers): void {
  declare(
    {
      id: 'listBreakers',
      method: 'GET',
      url: '/api/v1/breakers',
      role: 'reader',
      tag,
      summary: 'The breakers that something is remembered of',
      query: schema.listQuery,
      answers: { 200: { description: 'One page.', schema: schema.breakerPage, example: examples.list } },
    },
    async ({ principal, query }) => ({ status: 200, body: await breakers.list(principal.namespace, query) }),
  )
  declare(
    {
      id: 'getBreaker',
      method: 'GET',
      url: '/api/v1/breakers/:job_type',
      role: 'reader',
      tag,
      summary: 'A breaker as of now; one never seen is closed with 0 failures',
      params,
      answers: { 200: { description: 'The breaker.', schema: schema.breaker, example: examples.open } },
    },
    async ({ principal, params: { job_type } }) => ({
      status: 200,
      body: await breakers.get(principal.namespace, job_type),
    }),
  )
  declare(
    {
      id: 'listBreakerHistory',
      method: 'GET',
      url: '/api/v1/breakers/:job_type/history',
      role: 'reader',
      tag,
      summary: 'Transitions and overrides of a breaker, newest first',
      params,
      query: schema.historyQuery,
      answers: { 200: { description: 'One page.', schema: schema.breakerHistoryPage, example: examples.history } },
    },
    async ({ principal, params: { job_type }, query }) => ({
      status: 200,
      body: await breakers.history(principal.namespace, job_type, query),
    }),
  )
}

function declareReports(declare: Declare, breakers: Breakers): void {
  declare(
    {
      id: 'checkBreaker',
      method: 'POST',
      url: '/api/v1/breakers/:job_type/check',
      role: 'worker',
      tag,
      summary: 'May a job go? While half-open this takes a permit, which ends by itself after probe_timeout_seconds',
      params,
      body: schema.checkBody,
      bodyExample: examples.check,
      answers: { 200: { description: 'Whether it may.', schema: schema.checked, example: examples.checked } },
    },
    async ({ principal, params: { job_type }, body }) => ({
      status: 200,
      body: await breakers.check(principal.namespace, job_type, body.probe_id),
    }),
  )
  declare(
    {
      id: 'reportBreakerSuccess',
      method: 'POST',
      url: '/api/v1/breakers/:job_type/success',
      role: 'worker',
      tag,
      summary: 'A job went well; closes a half-open breaker if it was a probe',
      params,
      body: schema.successBody,
      bodyExample: examples.success,
      answers: { 200: { description: 'The breaker after it.', schema: schema.breaker, example: examples.closed } },
    },
    async ({ principal, params: { job_type }, body }) => ({
      status: 200,
      body: await breakers.success(principal.namespace, job_type, body),
    }),
  )
  declare(
    {
      id: 'reportBreakerFailure',
      method: 'POST',
      url: '/api/v1/breakers/:job_type/failure',
      role: 'worker',
      tag,
      summary: 'A job failed; counts if its classification counts for the breaker',
      params,
      body: schema.failureBody,
      bodyExample: examples.failure,
      answers: { 200: { description: 'The breaker after it.', schema: schema.breaker, example: examples.closed } },
    },
    async ({ principal, params: { job_type }, body }) => ({
      status: 200,
      body: await breakers.failure(principal.namespace, job_type, body),
    }),
  )
}

function declareOverrides(declare: Declare, breakers: Breakers): void {
  declare(
    {
      id: 'overrideBreaker',
      method: 'POST',
      url: '/api/v1/breakers/:job_type/override',
      role: 'operator',
      tag,
      summary: 'A person decides; audited. All but open also end a hold',
      params,
      body: schema.overrideBody,
      bodyExample: examples.override,
      answers: { 200: { description: 'The breaker after it.', schema: schema.breaker, example: examples.overridden } },
      problems: ['version-conflict'],
    },
    async ({ principal, params: { job_type }, body: { user, ...body } }) => ({
      status: 200,
      body: await breakers.override(principal.namespace, job_type, body, actorOf(principal, user)),
    }),
  )
  declare(
    {
      id: 'resetBreaker',
      method: 'POST',
      url: '/api/v1/breakers/:job_type/reset',
      role: 'operator',
      tag,
      summary: 'Closed and empty; audited',
      params,
      body: schema.resetBody,
      bodyExample: examples.reset,
      answers: { 200: { description: 'The breaker after it.', schema: schema.breaker, example: examples.wasReset } },
    },
    async ({ principal, params: { job_type }, body: { user, ...body } }) => ({
      status: 200,
      body: await breakers.reset(principal.namespace, job_type, body, actorOf(principal, user)),
    }),
  )
}
