/**
 * The catalogue of problem types (RFC 9457). Nothing else invents a status: whatever goes wrong is one of these, and
 * `/problems/<slug>` explains it. `remedy` is written for the caller who received the problem.
 */
const catalogue = {
  'invalid-request': {
    status: 400,
    title: 'The request is not valid',
    explanation:
      'A member, a parameter or the form of the body is not what this call takes. Nothing was stored or changed.',
    remedy:
      'Read `errors`: each names the place by JSON Pointer into the body (`?name` for a query parameter, `{name}` for a part of the path, a header by its name) and says what is expected.',
  },
  'invalid-json': {
    status: 400,
    title: 'The body is not JSON',
    explanation: 'The body could not be read as UTF-8 JSON. Nothing was stored or changed.',
    remedy: 'Send one JSON value, encoded in UTF-8, with `Content-Type: application/json`.',
  },
  'number-not-exact': {
    status: 400,
    title: 'A number cannot be kept exactly',
    explanation:
      'A number in the request is not the shortest spelling of any double, so two different effects could become one. Nothing was stored or changed.',
    remedy: 'Send the number as a string, for example "9007199254740993".',
  },
  unauthenticated: {
    status: 401,
    title: 'No valid API key',
    explanation: 'The call needs an API key, and none, or one that is not configured, was sent.',
    remedy: 'Send `Authorization: Bearer <api key>` with a key that the configuration lists.',
  },
  forbidden: {
    status: 403,
    title: 'Not allowed',
    explanation:
      'The API key is valid but its role does not allow this call, or the `Host` is not a loopback name while no key is configured.',
    remedy: 'Use a key with the role that `detail` names, or configure API keys.',
  },
  'not-found': {
    status: 404,
    title: 'No such resource',
    explanation: 'Nothing is served at this path.',
    remedy: 'Compare the path with `/openapi.yaml`.',
  },
  'effect-not-found': {
    status: 404,
    title: 'No such effect',
    explanation:
      'There is no record of this effect in your namespace: it was never claimed, its retention has ended, or it was deleted.',
    remedy:
      'Compare `type` and `entity` with those of the claim, member by member. Never take the absence of a record as proof that the effect did not happen.',
  },
  'method-not-allowed': {
    status: 405,
    title: 'Method not allowed',
    explanation: 'The path exists, but not with this method.',
    remedy: 'Use one of the methods in `Allow`.',
  },
  'request-timeout': {
    status: 408,
    title: 'The request did not arrive in time',
    explanation:
      'The request, or the rest of its body, did not arrive within ten seconds. Nothing was stored or changed.',
    remedy: 'Send the whole request again, over a new connection.',
  },
  'payload-too-large': {
    status: 413,
    title: 'The body or the result is too large',
    explanation:
      'The body exceeds the limit of this call, or `result` exceeds `effects.max_result_bytes`. Nothing was stored or changed.',
    remedy: 'Store a large result elsewhere and complete the effect with a reference to it, or raise the limit.',
  },
  'unsupported-media-type': {
    status: 415,
    title: 'Unsupported media type',
    explanation: 'This call takes JSON in UTF-8 only.',
    remedy: 'Send `Content-Type: application/json`.',
  },
  'headers-too-large': {
    status: 431,
    title: 'The headers are too large',
    explanation: 'The path and the headers of the request together exceed 16 KiB. Nothing was stored or changed.',
    remedy: 'Send fewer or shorter headers; a long value belongs in the body.',
  },
  internal: {
    status: 500,
    title: 'A fault of this service',
    explanation: 'The service met a condition that it does not account for. It granted nothing.',
    remedy:
      'Report `request_id`. Send the same request again with the same `claim_id` or `fencing_token`; do not execute on this answer.',
  },
  'fingerprint-mismatch': {
    status: 422,
    title: 'The same effect with another payload',
    explanation: 'The effect is known with another fingerprint: two different requests use one identity.',
    remedy: 'Give each request an `entity` of its own, or send the payload of the first one.',
  },
  'claim-ended': {
    status: 409,
    title: 'This claim has ended',
    explanation:
      'This `claim_id` was granted before and that attempt has ended without settling the effect. A late repeat must not start a run that nobody knows of.',
    remedy:
      'If you mean to try again, claim with a new `claim_id`. If you did not send this yourself, a proxy repeated it: do nothing.',
  },
  'effect-in-progress': {
    status: 409,
    title: 'Somebody else is executing this effect',
    explanation: 'Another holder has a living lease on this effect.',
    remedy: 'Do not execute. Ask again after `Retry-After`, or when `lease_expires_at` has passed.',
  },
  'effect-uncertain': {
    status: 409,
    title: 'Nobody knows whether this effect happened',
    explanation:
      'The holder went silent, or reported that it does not know whether the effect reached the outside world.',
    remedy:
      'Do not execute. Look the effect up in the outside system by `reference`, then settle it with `POST /effects/{effect_id}/resolve`.',
  },
  'circuit-open': {
    status: 409,
    title: 'The circuit breaker refuses',
    explanation:
      'The breaker of this `job_type` is open, or its half-open state has no probe left. The effect is untouched.',
    remedy:
      'Wait for `Retry-After` where it is given; where `requires_override` is true an operator must look and override.',
  },
  'stale-token': {
    status: 409,
    title: 'The fencing token is stale',
    explanation:
      'Another claim, or a person, has taken over this effect since your token was granted. Your report changed nothing.',
    remedy: 'Stop working on this effect. If you have executed it already, tell an operator: it may have run twice.',
  },
  'already-settled': {
    status: 409,
    title: 'The effect is settled already',
    explanation: 'The effect, or this attempt of it, has ended in another way. Your report changed nothing.',
    remedy: 'Read `state` and `result` or `error`: that is what every caller is told.',
  },
  'not-settled': {
    status: 409,
    title: 'The effect is not settled',
    explanation:
      'An effect that is in progress or uncertain cannot be deleted: forgetting it would let it run a second time.',
    remedy: 'Settle it first with `POST /effects/{effect_id}/resolve`.',
  },
  'result-conflict': {
    status: 409,
    title: 'The effect has another result',
    explanation:
      'The effect was completed with this token and a different result, or by another attempt while the store had lost yours. The stored result stays: results never change.',
    remedy: 'Use the stored `result`. If both results are real, the effect has run twice: tell an operator.',
  },
  'lease-expired': {
    status: 409,
    title: 'The lease has run out',
    explanation: 'The lease ended before this call. That is a fact even if nobody has taken over.',
    remedy:
      'Stop unless you have executed already; what happened can still be reported with `complete` or `fail` under the same token.',
  },
  'version-conflict': {
    status: 409,
    title: 'The breaker has moved on',
    explanation: 'The breaker has made a transition since the `version` that you looked at.',
    remedy: 'Read the breaker again and decide anew.',
  },
  'store-unavailable': {
    status: 503,
    title: 'The store cannot answer',
    explanation:
      'Redis is away, hung, loading, read-only, busy, full or unsafe; `reason` says which. Nothing was granted by this answer.',
    remedy:
      'Do not execute. Send the same request with the same `claim_id` or `fencing_token` again after `Retry-After`.',
  },
  'durability-not-reached': {
    status: 503,
    title: 'The durability asked for was not reached',
    explanation: 'Not enough replicas or disks confirmed the write in time, so the claim is not granted.',
    remedy: 'Do not execute. Send the same request with the same `claim_id` again after `Retry-After`.',
  },
  'memory-budget-exceeded': {
    status: 507,
    title: 'The memory budget is used up',
    explanation:
      'The keys of the service take more than `retry.redis.memory_budget_mb`. New effects are refused; everything about existing ones works.',
    remedy: 'Raise the budget, shorten retentions, or wait until settled records end.',
  },
} as const satisfies Record<string, { status: number; title: string; explanation: string; remedy: string }>

export type ProblemSlug = keyof typeof catalogue
export type ProblemType = { slug: ProblemSlug; status: number; title: string; explanation: string; remedy: string }

/** All problem types, in the order of the catalogue. */
export const problemTypes: readonly ProblemType[] = Object.entries(catalogue).map(([slug, type]) => ({
  slug: slug as ProblemSlug,
  ...type,
}))

/** The problem type of a slug, or undefined for a word that is not in the catalogue. */
export const problemType = (slug: string): ProblemType | undefined => problemTypes.find((type) => type.slug === slug)

/** An answer that is a problem. `members` are added to the RFC 9457 ones; `retry_after_seconds` also becomes `Retry-After`. */
export class Problem extends Error {
  readonly slug: ProblemSlug
  readonly status: number
  readonly members: Readonly<Record<string, unknown>>

  constructor(slug: ProblemSlug, detail: string, members: Record<string, unknown> = {}) {
    // An answer, not a fault: a stack for each of thousands that are refused at once cost a tenth of the refusal.
    const { stackTraceLimit } = Error
    Error.stackTraceLimit = 0
    super(detail)
    Error.stackTraceLimit = stackTraceLimit
    this.name = 'Problem'
    this.slug = slug
    this.status = catalogue[slug].status
    this.members = members
  }
}

/** A place in a request that is not valid: a JSON Pointer into the body, `?name` for a query parameter, `{name}` for a part of the path. */
export type InvalidPlace = { pointer: string; message: string }

export function invalidRequest(
  errors: InvalidPlace[],
  slug: 'invalid-request' | 'number-not-exact' = 'invalid-request',
): Problem {
  const first = errors[0]
  const detail = first ? `${first.pointer || 'the body'}: ${first.message}` : 'The request is not valid.'
  return new Problem(slug, detail, { errors })
}

/** The body of a problem answer. */
export function problemBody(problem: Problem, requestId: string): Record<string, unknown> {
  return {
    type: `/problems/${problem.slug}`,
    code: problem.slug,
    title: catalogue[problem.slug].title,
    status: problem.status,
    detail: problem.message,
    request_id: requestId,
    ...problem.members,
  }
}
