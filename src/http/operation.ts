/** How an endpoint is declared: once, with its schemas, role and problems, for validation and `openapi.yaml` alike. */
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify'
import { z } from 'zod'
import { authorise, type Principal, type Role } from '../auth.ts'
import { limits } from '../limits.ts'
import { type InvalidPlace, invalidRequest, problemBody, Problem, type ProblemSlug, problemType } from '../problems.ts'
import { type Components, jsonSchema, type JsonSchema } from './json-schema.ts'
import { sendProblem } from './errors.ts'
import { readQuery } from './query.ts'
import { storeUnavailable } from '../redis/refusals.ts'
import type { BodyNotes } from './openapi.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the authentication hook on every route that is not open. */
    principal: Principal
    /** Of the time until the answer, what the caller has asked to wait for. */
    waitedMs: number
  }
  interface FastifyContextConfig {
    /** The least role; `open` needs no key at all. */
    role?: Role | 'open' | 'metrics'
  }
}

/** One possible answer that is no problem, with an example that `openapi.yaml` shows. `schema: null`: no body. */
export type Answer = {
  description: string
  schema: z.ZodType | null
  example?: unknown
  /** Default: `application/json`. */
  mediaType?: string
  /** Whether a browser is answered with a page instead. */
  orHtml?: boolean
}

export type Operation<Body, Query, Params> = {
  id: string
  method: HTTPMethods
  url: string
  tag: string
  role: Role | 'open' | 'metrics'
  summary: string
  description?: string
  body?: z.ZodType<Body>
  /** What the document says of the body, where the handler validates parts of it itself. */
  bodyShown?: z.ZodType
  /** What the body may be, as an example. */
  bodyExample?: unknown
  query?: z.ZodType<Query>
  /** What the document says of headers, which the handler reads itself. */
  headersShown?: z.ZodType
  params?: z.ZodType<Params>
  answers: Record<number, Answer>
  /** Problems of this call beside those that every call has. */
  problems?: readonly ProblemSlug[]
  bodyBytesMax?: number
  /** How long the caller is ready to wait beyond the deadline of every call. */
  waitSeconds?: (body: Body) => number
}

export type Call<Body, Query, Params> = {
  principal: Principal
  body: Body
  query: Query
  params: Params
  request: FastifyRequest
  reply: FastifyReply
}

/** What a handler answers; `body` undefined for an answer without one. */
export type Answered = { status: number; body?: unknown }

/** Problems that any call may meet. */
const common: readonly ProblemSlug[] = ['internal']
const keyed: readonly ProblemSlug[] = ['unauthenticated', 'forbidden', 'store-unavailable']
const withInput: readonly ProblemSlug[] = ['invalid-request']
const withBody: readonly ProblemSlug[] = [
  'invalid-json',
  'number-not-exact',
  'payload-too-large',
  'unsupported-media-type',
]

/** RFC 6901: `~` and `/` inside a member name are escaped. */
const escapePointer = (part: PropertyKey): string => String(part).replaceAll('~', '~0').replaceAll('/', '~1')

function placesOf(issue: z.core.$ZodIssue, root: (path: PropertyKey[]) => string): InvalidPlace[] {
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys : []
  if (unknown.length > 0) {
    return unknown.map((key) => ({ pointer: root([...issue.path, key]), message: 'is not known' }))
  }
  const missing = issue.code === 'invalid_type' && issue.message.endsWith('received undefined')
  return [{ pointer: root(issue.path), message: missing ? 'is required' : issue.message }]
}

const roots = {
  body: (path: PropertyKey[]) => path.map((part) => `/${escapePointer(part)}`).join(''),
  querystring: (path: PropertyKey[]) => `?${path.map(String).join('.')}`,
  params: (path: PropertyKey[]) => `{${path.map(String).join('.')}}`,
}

/** Validates one part of a request; throws `invalid-request` that names every place. */
function parsePart<T>(schema: z.ZodType<T>, value: unknown, part: keyof typeof roots): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  throw invalidRequest(result.error.issues.flatMap((issue) => placesOf(issue, roots[part])))
}

/** As the body of a call would be validated. */
export const parseBody = <T>(schema: z.ZodType<T>, value: unknown): T => parsePart(schema, value, 'body')

const problemExample = (slug: ProblemSlug): unknown =>
  problemBody(new Problem(slug, problemType(slug)?.explanation ?? ''), '0198c7a2-5d7e-7bb1-9a40-3f1f6f1d2c11')

/** The answers of an operation that are problems, grouped by status. */
function problemAnswers(slugs: readonly ProblemSlug[]): Record<string, JsonSchema> {
  const byStatus = new Map<number, ProblemSlug[]>()
  for (const slug of slugs) {
    const status = problemType(slug)?.status ?? 500
    byStatus.set(status, [...(byStatus.get(status) ?? []), slug])
  }
  return Object.fromEntries(
    [...byStatus].map(([status, listed]) => {
      const examples = Object.fromEntries(listed.map((slug) => [slug, { value: problemExample(slug) }]))
      const content = { 'application/problem+json': { schema: { $ref: 'Problem#' }, examples } }
      return [status, { description: listed.map((slug) => `\`${slug}\``).join(', '), content }]
    }),
  )
}

/** What the document says of a body beside its schema: it may be left out where no member is required. */
const bodyNotes = (body: z.ZodType, example: unknown): BodyNotes => ({
  ...{ example, required: !body.safeParse({}).success },
})

const htmlPage = { schema: { type: 'string' }, example: '<!doctype html>…' }

function goodAnswers(answers: Record<number, Answer>, components: Components): Record<string, JsonSchema> {
  return Object.fromEntries(
    Object.entries(answers).map(([status, answer]): [string, JsonSchema] => {
      const { description, schema, example, mediaType = 'application/json' } = answer
      if (schema === null) return [status, { description, type: 'null' }]
      const media = { schema: jsonSchema(schema, 'output', components), ...(example === undefined ? {} : { example }) }
      const page = answer.orHtml ? { 'text/html': htmlPage } : {}
      return [status, { description, content: { [mediaType]: media, ...page } }]
    }),
  )
}

function refuseLate(reply: FastifyReply): void {
  if (reply.sent) return
  const problem = storeUnavailable('outcome_unknown', 'The call took too long: send it again; do not execute.')
  sendProblem(problem, reply.request, reply)
}

/**
 * Sends what the handler answers, or refuses in time where it takes too long: every call is answered within
 * `limits.requestDeadlineMs` and the time that its caller asked to wait. What the handler does goes on, so the outcome is
 * unknown.
 */
function answerInTime(reply: FastifyReply, work: Promise<Answered>, waitMs: number): Promise<void> {
  const timer = setTimeout(refuseLate, limits.handlerDeadlineMs + waitMs, reply)
  return work.then(
    (answer) => {
      clearTimeout(timer)
      if (!reply.sent) sendAnswer(reply, answer)
    },
    (error: unknown) => {
      clearTimeout(timer)
      throw error
    },
  )
}

/** A parameter that a call does not take must not silently do nothing; probes and browsers add what they like. */
const noQuery = { closed: z.strictObject({}), open: z.unknown() }

/** Declares endpoints on `app`; their named schemas are collected in `components`. */
export function createDeclare(app: FastifyInstance, components: Components) {
  return function declare<Body = undefined, Query = undefined, Params = undefined>(
    operation: Operation<Body, Query, Params>,
    handle: (call: Call<Body, Query, Params>) => Promise<Answered> | Answered,
  ): void {
    const { body, query, params, role } = operation
    const keyedCall = role !== 'open' && role !== 'metrics'
    const taken: z.ZodType = query ?? noQuery[keyedCall ? 'closed' : 'open']
    const input = (schema: z.ZodType) => jsonSchema(schema, 'input', components)
    const slugs = [
      ...(operation.problems ?? []),
      ...(role === 'open' ? [] : keyed),
      ...(body || query || params || keyedCall ? withInput : []),
      ...(body ? withBody : []),
      ...common,
    ]
    const response = { ...goodAnswers(operation.answers, components), ...problemAnswers(slugs) }
    for (const component of components.keys()) shareComponent(app, components, component)
    app.route({
      method: operation.method,
      url: operation.url,
      config: { role },
      ...(operation.bodyBytesMax === undefined ? {} : { bodyLimit: operation.bodyBytesMax }),
      // zod validates below, where its messages keep their place; Fastify needs the schemas for the document only.
      validatorCompiler: () => () => true,
      schema: {
        operationId: operation.id,
        tags: [operation.tag],
        summary: operation.summary,
        ...(operation.description === undefined ? {} : { description: operation.description }),
        // src/http/openapi.ts moves it into the request body, where the generator leaves no room for it.
        ...(body ? { body: input(operation.bodyShown ?? body), 'x-body': bodyNotes(body, operation.bodyExample) } : {}),
        ...(query ? { querystring: input(query) } : {}),
        ...(operation.headersShown ? { headers: input(operation.headersShown) } : {}),
        ...(params ? { params: input(params) } : {}),
        ...(role === 'open' ? { security: [] } : { security: [{ apiKey: [] }] }),
        response,
      },
      handler: (request, reply) => {
        const call = {
          principal: request.principal,
          params: params && parsePart(params, request.params, 'params'),
          query: parsePart(taken, keyedCall ? readQuery(request.query) : request.query, 'querystring'),
          body: body && parsePart(body, request.body === undefined ? {} : request.body, 'body'),
          request,
          reply,
        } as Call<Body, Query, Params>
        const answer = handle(call)
        const waitMs = (operation.waitSeconds?.(call.body) ?? 0) * 1000
        if (answer instanceof Promise) return answerInTime(reply, answer, waitMs)
        sendAnswer(reply, answer)
      },
    })
  }
}

function shareComponent(app: FastifyInstance, components: Components, id: string): void {
  if (app.getSchema(id) === undefined) app.addSchema({ $id: id, ...components.get(id) })
}

/** What a header says is a member too, and the other way round. */
function sendAnswer(reply: FastifyReply, { status, body }: Answered): void {
  const replayed = typeof body === 'object' && body !== null && 'replayed' in body && body.replayed === true
  if (replayed) void reply.header('idempotent-replayed', 'true')
  void reply.code(status).send(body)
}

/** The hook that finds out who is calling, and refuses before anything else of the request is read. */
export function authorisation(
  authenticate: (authorization?: string, host?: string) => Principal,
  metricsOpen: boolean,
) {
  return (request: FastifyRequest, _reply: FastifyReply, done: () => void): void => {
    const role = request.routeOptions.config.role ?? 'open'
    if (role !== 'open' && !(role === 'metrics' && metricsOpen)) {
      request.principal = authenticate(request.headers.authorization, request.headers.host)
      if (role !== 'metrics') authorise(request.principal, role)
    }
    done()
  }
}

export type Declare = ReturnType<typeof createDeclare>
