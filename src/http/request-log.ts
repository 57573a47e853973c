/** One line in the log and one measurement for each request: who, what, how long. Never headers, bodies or queries. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Logger } from 'pino'
import type { Metrics } from '../observability/metrics.ts'

export function logRequests(app: FastifyInstance, metrics: Metrics, log: Logger): void {
  app.addHook('onResponse', async (request: FastifyRequest, reply: FastifyReply) => {
    const { method, id, principal } = request
    const { statusCode: status, elapsedTime } = reply
    const seconds = elapsedTime / 1000
    metrics.request(request.routeOptions.url ?? 'unknown', status, seconds)
    if (status === 500) metrics.fault('request')
    // An entity may stand in the query.
    const path = request.url.split('?', 1)[0]
    log.info({ request_id: id, method, path, status, seconds, key: principal?.name }, 'request')
  })
}
