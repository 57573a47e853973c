/** The HTTP server: hooks, errors and routes on one Fastify instance. The only file here that imports routes/. */
import { randomUUID } from 'node:crypto'
import swagger from '@fastify/swagger'
import {
  fastify,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify'
import { registerRoutes } from '../routes/index.ts'
import { readBodies } from './http/body.ts'
import { createClientErrors, endSilent } from './http/client-errors.ts'
import { handleError, sendProblem } from './http/errors.ts'
import { problemSchema } from './http/fields.ts'
import { type Components, jsonSchema } from './http/json-schema.ts'
import { Response } from './http/linger.ts'
import { knowAllMethods, refuseOtherMethods } from './http/methods.ts'
import { authorisation, createDeclare } from './http/operation.ts'
import { openapi } from './http/openapi.ts'
import { parseQuery } from './http/query.ts'
import { logRequests } from './http/request-log.ts'
import { serializerCompiler } from './http/serializer.ts'
import { Message } from './http/whole-body.ts'
import { limits } from './limits.ts'
import { Problem } from './problems.ts'
import type { Services } from './services.ts'

const saneRequestId = new RegExp(`^[\\x20-\\x7e]{1,${limits.requestIdCharsMax}}$`)

/** The caller's id if it is 1 to `limits.requestIdCharsMax` printable ASCII characters, else a new one. */
function requestId(sent: string | string[] | undefined): string {
  return typeof sent === 'string' && saneRequestId.test(sent) ? sent : randomUUID()
}

function addHooks(app: FastifyInstance, { authenticate, config, metrics, log, nowMs }: Services): void {
  app.decorateRequest('principal')
  app.decorateRequest('waitedMs', 0)
  // Hooks with a callback: each promise of a hook costs every request its turns.
  app.addHook('onRequest', (request: FastifyRequest, reply: FastifyReply, done) => {
    void reply.header('x-request-id', request.id)
    done()
  })
  app.addHook('onRequest', authorisation(authenticate, config.auth.metrics_anonymous))
  logRequests(app, metrics, log, nowMs)
}

/** Builds the server; nothing listens yet. */
export async function buildApp(services: Services): Promise<FastifyInstance> {
  const loggerInstance: FastifyBaseLogger = services.log
  const app = fastify({
    loggerInstance,
    // A logger for each request costs half a microsecond; what names a request says so itself.
    childLoggerFactory: (logger) => logger,
    // src/http/request-log.ts writes the one line of a request.
    logController: new LogController({ disableRequestLogging: true }),
    // Node looks for requests that do not arrive only every 30 s unless it is told to.
    http: {
      IncomingMessage: Message,
      ServerResponse: Response,
      connectionsCheckingInterval: limits.requestCheckMs,
    },
    clientErrorHandler: createClientErrors(services.log, services.nowMs),
    bodyLimit: limits.bodyBytesMax,
    requestTimeout: limits.requestReceiveTimeoutMs,
    connectionTimeout: limits.requestReceiveTimeoutMs,
    routerOptions: { maxParamLength: 256, ignoreTrailingSlash: false, querystringParser: parseQuery },
    genReqId: (request) => requestId(request.headers['x-request-id']),
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    frameworkErrors: (error, request, reply) => {
      void reply.header('x-request-id', request.id)
      handleError(error, request, reply)
    },
  })
  // A minute unless it is told to.
  app.server.headersTimeout = limits.requestReceiveTimeoutMs
  app.server.on('timeout', endSilent)

  const components: Components = new Map()
  jsonSchema(problemSchema, 'output', components)
  knowAllMethods(app)
  readBodies(app)
  addHooks(app, services)
  // Streams never end by themselves, waits may last long, and the server waits for those who are still being answered.
  app.addHook('preClose', async () => {
    services.waiting.drain()
    services.eventFeed.close()
  })
  app.setErrorHandler(handleError)
  app.setNotFoundHandler((request, reply) =>
    sendProblem(new Problem('not-found', 'Nothing is served at this path.'), request, reply),
  )
  await app.register(swagger, openapi)
  const allowed = refuseOtherMethods(app)
  await app.register(async (scope) => {
    scope.setSerializerCompiler(serializerCompiler(scope))
    registerRoutes(createDeclare(scope, components), services)
    allowed(scope)
  })
  await app.ready()
  return app
}
