/** Every failure becomes a problem (RFC 9457); what is nobody's fault but ours becomes `internal` and a log line. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { stringifyWithRaw } from '../json.ts'
import { Problem, problemBody, type ProblemSlug } from '../problems.ts'

/** Of a refusal that is not known by its code. */
const slugs: Readonly<Record<number, ProblemSlug>> = {
  404: 'not-found',
  405: 'method-not-allowed',
  413: 'payload-too-large',
  415: 'unsupported-media-type',
}

/** Of a request that cannot be read at all, so that no place in it can be named. */
export const unreadable = (detail: string): Problem => new Problem('invalid-request', detail, { errors: [] })

/** Whatever Fastify blames the caller for is no fault of ours, whether or not it stands below. */
function blamed({ statusCode = 500, message }: FastifyError): Problem | undefined {
  if (statusCode < 400 || statusCode > 499) return undefined
  const slug = slugs[statusCode]
  return slug ? new Problem(slug, message) : unreadable(message)
}

/** Fastify's own refusals, by code. Source: Fastify 5, docs/Reference/Errors.md. */
function translate(error: FastifyError): Problem | undefined {
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new Problem('payload-too-large', 'The body exceeds the limit of this call.')
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
    case 'FST_ERR_CTP_INVALID_TYPE':
      return new Problem('unsupported-media-type', 'Send JSON with Content-Type: application/json.')
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new Problem('invalid-json', 'The body does not have the length that was announced.')
    case 'FST_ERR_BAD_URL':
    case 'FST_ERR_MAX_PARAM_LENGTH':
    case 'FST_ERR_ASYNC_CONSTRAINT':
      return unreadable('The path cannot be read.')
    default:
      return error.code.startsWith('FST_') ? blamed(error) : undefined
  }
}

/** The problem that an error is. Anything that nobody accounted for is our own mistake. */
function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error
  const known =
    error instanceof Error && 'code' in error && typeof error.code === 'string'
      ? translate(error as FastifyError)
      : undefined
  return known ?? new Problem('internal', 'The service met a condition that it does not account for.')
}

/** Whole seconds for `Retry-After`: the member of the same name, rounded up. */
function retryAfter(problem: Problem): number | undefined {
  const seconds = problem.members['retry_after_seconds']
  return typeof seconds === 'number' ? Math.ceil(seconds) : undefined
}

export function sendProblem(problem: Problem, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const seconds = retryAfter(problem)
  if (seconds !== undefined) void reply.header('retry-after', seconds)
  if (problem.slug === 'unauthenticated') void reply.header('www-authenticate', 'Bearer')
  return reply
    .code(problem.status)
    .type('application/problem+json')
    .serializer((body: unknown) => body as string)
    .send(stringifyWithRaw(problemBody(problem, request.id), JSON.stringify))
}

/** The problem that an error is; a mistake of ours goes to the log. */
export function problemOf(error: unknown, request: FastifyRequest): Problem {
  const problem = toProblem(error)
  const named = { err: error, request_id: request.id }
  if (problem.slug === 'internal') request.log.error(named, 'an assumption of ours does not hold')
  return problem
}

/** The error handler of the server. */
export const handleError = (error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply =>
  sendProblem(problemOf(error, request), request, reply)
