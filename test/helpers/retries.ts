/**
 * Retries and failures behind HTTP, over a real Redis. The breaker is the test's own: what a decision does with its
 * word is tested here, how it comes to it elsewhere.
 */
import { randomUUID } from 'node:crypto'
import { fastify } from 'fastify'
import { failureRoutes } from '../../routes/failures.ts'
import { retryRoutes } from '../../routes/retries.ts'
import { createAudit } from '../../src/audit/audit.ts'
import { type Authenticate, createAuth } from '../../src/auth.ts'
import { type Config, jobTypeConfig, maxAttempts, parseConfig } from '../../src/config.ts'
import { createClassifier } from '../../src/failures/classify.ts'
import { readBodies } from '../../src/http/body.ts'
import { handleError } from '../../src/http/errors.ts'
import { problemSchema } from '../../src/http/fields.ts'
import { type Components, jsonSchema } from '../../src/http/json-schema.ts'
import { authorisation, createDeclare, type Declare } from '../../src/http/operation.ts'
import { createLog } from '../../src/observability/log.ts'
import { connectStore } from '../../src/redis/client.ts'
import { createKeys } from '../../src/redis/keys.ts'
import { loadPreludes } from '../../src/redis/scripts.ts'
import type { BreakerWord, FailureReport } from '../../src/retries/decisions.ts'
import { createRetryMetrics } from '../../src/retries/metrics.ts'
import { createRetries } from '../../src/retries/retries.ts'
import { type Answer, makeKey, sharedRedis } from './app.ts'
import { randomNamespace } from './redis-server.ts'
import { quietWatch } from './store.ts'

export interface RetryAppOptions {
  /** The configuration file's text (YAML), without `auth`. */
  config?: string
  /** Default: one of the test's own. */
  namespace?: string
  redisUrl?: string
}

/** What the breaker says and hears, and what was decided. */
export interface Surroundings {
  breaker: BreakerWord
  reports: ({ namespace: string; jobType: string } & FailureReport)[]
  decided: object[]
  audited: object[]
}

type Closer = { teardown(end: () => Promise<void>): void }

function connect(config: Config, url: string) {
  const address = { url, username: null, password: null, tls: null }
  const quiet = { answered: () => undefined, trouble: () => undefined, connection: () => undefined }
  return {
    store: connectStore(address, loadPreludes(), quiet, quietWatch()),
    keys: createKeys(config.retry.redis.namespace),
  }
}

function buildRetries(config: Config, { store, keys }: ReturnType<typeof connect>, around: Surroundings) {
  const log = createLog('silent')
  const classifier = createClassifier(config.failures)
  const { enabled, time_window_minutes: windowMinutes } = config.retry.metrics
  const files = { write: (_kind: string, line: object) => void around.audited.push(line) }
  const audit = createAudit({ store, keys, entriesMax: 1000, log, files, namespaces: [] })
  const metrics = createRetryMetrics({
    ...{ store, keys, log, newId: randomUUID },
    settings: { enabled, windowMinutes, budget: (jobType) => jobTypeConfig(config, jobType).budget },
    observe: { retryRecordsLost: () => undefined },
  })
  const decisions = {
    nowMs: async () => (await store.clock()).nowUs() / 1000,
    random: () => 0.5,
    classify: (error: unknown, nowMs: number) => classifier.classify(error, { nowMs }),
    breaker: {
      word: async () => around.breaker,
      failed: async (namespace: string, jobType: string, report: FailureReport) =>
        void around.reports.push({ namespace, jobType, ...report }),
    },
    effectPolicy: async (_namespace: string, effectId: string) =>
      effectId.startsWith('signal_consumption.') ? ('reclaim' as const) : ('hold' as const),
    maxAttempts: (type: string | null, jobType: string) => maxAttempts(config, type ?? '', jobType),
    backoff: (jobType: string) => jobTypeConfig(config, jobType),
    decisions: { write: (line: object) => void around.decided.push(line) },
  }
  return {
    retries: createRetries(metrics, windowMinutes, decisions, { store, keys, audit, newId: randomUUID }),
    ...{ classifier, audit, metrics },
  }
}

async function serve(authenticate: Authenticate, declareRoutes: (declare: Declare) => void) {
  const app = fastify({ routerOptions: { maxParamLength: 256 } })
  const components: Components = new Map()
  jsonSchema(problemSchema, 'output', components)
  readBodies(app)
  app.decorateRequest('principal')
  app.addHook('onRequest', authorisation(authenticate, false))
  app.setErrorHandler(handleError)
  await app.register(async (scope) => declareRoutes(createDeclare(scope, components)))
  await app.ready()
  return app
}

/** Builds it; the end of the test closes it. Calls are an operator's unless `as` names another role. */
export async function startRetryApp(t: Closer, options: RetryAppOptions = {}) {
  const namespace = options.namespace ?? randomNamespace()
  const config = parseConfig(options.config ?? '', {}, null)
  const link = connect(config, options.redisUrl ?? (await sharedRedis()).url)
  const breaker = { state: 'closed', refuses: false, holdUntilMs: 0 }
  const around: Surroundings = { breaker, reports: [], decided: [], audited: [] }
  const built = buildRetries(config, link, around)
  const keysOf = {
    reader: makeKey('reader', namespace),
    worker: makeKey('worker', namespace),
    operator: makeKey('operator', namespace),
  }
  const entries = Object.values(keysOf).map(({ entry }) => entry)
  const app = await serve(createAuth(entries, false), (declare) => {
    retryRoutes(declare, built.retries)
    failureRoutes(declare, built.classifier, Date.now)
  })
  t.teardown(async () => {
    await app.close()
    link.store.close()
  })
  async function callAs(role: keyof typeof keysOf, method: string, path: string, body?: unknown): Promise<Answer> {
    const json = body === undefined ? {} : { payload: JSON.stringify(body) }
    const headers = { ...keysOf[role].headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) }
    const answer = await app.inject({ method: method as 'GET', url: `/api/v1${path}`, headers, ...json })
    const text = answer.payload
    const parsed: unknown = /json/.test(String(answer.headers['content-type'])) ? JSON.parse(text) : undefined
    return { status: answer.statusCode, headers: answer.headers, body: parsed, text }
  }
  return {
    ...{ namespace, around, callAs, ...built },
    call: (method: string, path: string, body?: unknown) => callAs('operator', method, path, body),
  }
}

export type RetryApp = Awaited<ReturnType<typeof startRetryApp>>
