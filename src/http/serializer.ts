/** How answers are written: fast-json-stringify, built from the declared schema. */
import fastJsonStringify, { type Schema } from 'fast-json-stringify'
import type { FastifyInstance, FastifySerializerCompiler } from 'fastify'

/**
 * Problems are serialised by `sendProblem`, so nothing is built for them: that took more than half of the time
 * to build the server.
 */
export function serializerCompiler(app: FastifyInstance): FastifySerializerCompiler<Schema> {
  return ({ schema }) => {
    if (typeof schema === 'object' && '$ref' in schema && schema.$ref === 'Problem#') return JSON.stringify
    return fastJsonStringify(schema, { schema: app.getSchemas() as Record<string, Schema> })
  }
}
