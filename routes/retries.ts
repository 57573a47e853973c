/** Retries: the decision, what callers record, and the metrics of all replicas. */
import { actorOf } from '../src/auth.ts'
import { classificationSchema, errorSchema } from '../src/failures/schema.ts'
import type { Declare } from '../src/http/operation.ts'
import type { Retries } from '../src/retries/retries.ts'
import * as schema from '../src/retries/schema.ts'
import * as examples from './examples/retries.ts'

const tag = 'retries'
const recorded = { 204: { description: 'Counted.', schema: null } }
const { body: decideBody, answer: decision } = schema.decideShapes(
  errorSchema.refine((error) => error !== undefined, 'is required'),
  classificationSchema,
)

export function retryRoutes(declare: Declare, retries: Retries): void {
  declareDecide(declare, retries)
  declareRecording(declare, retries)
  declareReading(declare, retries)
  declareReset(declare, retries)
}

function declareDecide(declare: Declare, retries: Retries): void {
  declare(
    {
      id: 'decideRetry',
      method: 'POST',
      url: '/api/v1/retries/decide',
      role: 'worker',
      tag,
      summary: 'An attempt failed: should there be another, and when? Records the retry or the block',
      description:
        'For jobs without an effect, or with one claimed without a `job_type`: the others get the same answer from `/effects/fail`.',
      body: decideBody,
      bodyExample: examples.decide,
      answers: { 200: { description: 'The decision.', schema: decision, example: examples.decision } },
    },
    async ({ principal, body }) => ({ status: 200, body: await retries.decide(principal.namespace, body) }),
  )
}

function declareRecording(declare: Declare, { record }: Retries): void {
  declare(
    {
      id: 'recordRetryAttempt',
      method: 'POST',
      url: '/api/v1/retries/:job_type/attempt',
      role: 'worker',
      tag,
      summary: 'An attempt begins, for callers that keep their own loop',
      params: schema.jobTypeParams,
      body: schema.attemptBody,
      bodyExample: examples.attempt,
      answers: recorded,
    },
    async ({ principal, params, body }) => {
      await record(principal.namespace, params.job_type, { kind: 'attempt', ...body })
      return { status: 204 }
    },
  )
  for (const kind of ['success', 'failure'] as const) {
    declare(
      {
        id: kind === 'success' ? 'recordRetrySuccess' : 'recordRetryFailure',
        method: 'POST',
        url: `/api/v1/retries/:job_type/${kind}`,
        role: 'worker',
        tag,
        summary: kind === 'success' ? 'A retry succeeded' : 'A retry failed',
        params: schema.jobTypeParams,
        body: schema.outcomeBody,
        bodyExample: examples.outcome,
        answers: recorded,
      },
      async ({ principal, params, body }) => {
        await record(principal.namespace, params.job_type, { kind, ...body })
        return { status: 204 }
      },
    )
  }
  declare(
    {
      id: 'recordRetryBlocked',
      method: 'POST',
      url: '/api/v1/retries/:job_type/blocked',
      role: 'worker',
      tag,
      summary: 'There is no retry, and why',
      params: schema.jobTypeParams,
      body: schema.blockedBody,
      bodyExample: examples.blocked,
      answers: recorded,
    },
    async ({ principal, params, body }) => {
      await record(principal.namespace, params.job_type, { kind: 'blocked', ...body })
      return { status: 204 }
    },
  )
}

function declareReading(declare: Declare, retries: Retries): void {
  declare(
    {
      id: 'readJobMetrics',
      method: 'GET',
      url: '/api/v1/jobs/metrics',
      role: 'reader',
      tag,
      summary: 'Retry metrics of all job types, over all replicas',
      query: schema.windowQuery,
      answers: { 200: { description: 'The metrics.', schema: schema.allMetrics, example: examples.allMetrics } },
    },
    async ({ principal, query }) => ({
      status: 200,
      body: await retries.readAll(principal.namespace, query.window_minutes),
    }),
  )
  declare(
    {
      id: 'readJobTypeMetrics',
      method: 'GET',
      url: '/api/v1/jobs/metrics/:job_type',
      role: 'reader',
      tag,
      summary: 'Retry metrics of one job type, over all replicas; 0 everywhere for one never seen',
      params: schema.jobTypeParams,
      query: schema.windowQuery,
      answers: { 200: { description: 'The metrics.', schema: schema.jobMetrics, example: examples.jobMetrics } },
    },
    async ({ principal, params, query }) => ({
      status: 200,
      body: await retries.readOne(principal.namespace, params.job_type, query.window_minutes),
    }),
  )
  declare(
    {
      id: 'readJobMetricsText',
      method: 'GET',
      url: '/api/v1/jobs/metrics/prometheus',
      role: 'reader',
      tag,
      summary: 'Retry metrics of the namespace for Prometheus, over all replicas: scrape one of them',
      answers: {
        200: {
          description: 'Gauges over `retry.metrics.time_window_minutes`, counters since the last reset.',
          schema: schema.metricsText,
          example: examples.metricsText,
          mediaType: 'text/plain',
        },
      },
    },
    async ({ principal, reply }) => {
      const { text, contentType } = await retries.readText(principal.namespace)
      void reply.type(contentType)
      return { status: 200, body: text }
    },
  )
}

function declareReset(declare: Declare, retries: Retries): void {
  declare(
    {
      id: 'resetJobMetrics',
      method: 'DELETE',
      url: '/api/v1/jobs/metrics',
      role: 'operator',
      tag,
      summary: 'Forget the retry metrics of all job types; audited',
      query: schema.resetQuery,
      answers: { 204: { description: 'Forgotten.', schema: null } },
    },
    async ({ principal, query: { reason, user } }) => {
      await retries.reset(principal.namespace, reason, actorOf(principal, user))
      return { status: 204 }
    },
  )
}
