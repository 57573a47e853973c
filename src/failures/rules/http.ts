/**
 * HTTP statuses, for every exchange. A status is the least exact thing an answer says, so these come last. A 4xx says
 * that the request was not accepted; a 5xx says nothing about what happened before it.
 */
import { rule, type Rule, type RuleSpec } from '../rule.ts'

const rfc9110 = { source: 'RFC 9110, HTTP Semantics, section 15' }
const unlistedCode = { source: 'Effectonce: a code that no table lists may mean anything, a duplicate too' }

const statuses: readonly (readonly [status: number, spec: Omit<RuleSpec, 'id' | 'http_status'>, source?: string])[] = [
  [401, { meaning: 'Unauthorized', failure_type: 'AUTHENTICATION_ERROR' }],
  [403, { meaning: 'Forbidden', failure_type: 'PERMISSION_DENIED' }],
  [404, { meaning: 'Not Found', failure_type: 'NOT_FOUND' }],
  [408, { meaning: 'Request Timeout', failure_type: 'TIMEOUT' }],
  [410, { meaning: 'Gone', failure_type: 'NOT_FOUND' }],
  // A conflict may be with an earlier attempt of the same effect.
  [409, { meaning: 'Conflict', failure_type: 'UNKNOWN' }],
  [
    418,
    { meaning: 'The exchange calls the client a teapot: a ban', failure_type: 'EXCHANGE_BAN' },
    'ccxt, httpExceptions',
  ],
  [422, { meaning: 'Unprocessable Content', failure_type: 'VALIDATION_ERROR' }],
  [425, { meaning: 'Too Early', failure_type: 'TEMPORARY_ERROR', execution: 'no' }, 'RFC 8470, section 5.2'],
  [429, { meaning: 'Too Many Requests', failure_type: 'RATE_LIMIT' }, 'RFC 6585, section 4'],
  [
    451,
    { meaning: 'Unavailable For Legal Reasons', failure_type: 'PERMISSION_DENIED', scope: 'ip' },
    'RFC 7725, section 3',
  ],
  [499, { meaning: 'The client closed the request', failure_type: 'TIMEOUT' }, 'nginx, ngx_http_request.h'],
  [500, { meaning: 'Internal Server Error', failure_type: 'TEMPORARY_ERROR' }],
  [502, { meaning: 'Bad Gateway', failure_type: 'SERVICE_UNAVAILABLE' }],
  [503, { meaning: 'Service Unavailable', failure_type: 'SERVICE_UNAVAILABLE' }],
  [504, { meaning: 'Gateway Timeout', failure_type: 'TIMEOUT' }],
  [524, { meaning: 'A timeout occurred', failure_type: 'TIMEOUT' }, 'Cloudflare, 5xx errors, Error 524'],
]

export const http: readonly Rule[] = [
  ...statuses.map(([status, spec, source]) =>
    rule(source === undefined ? rfc9110 : { source }, { ...spec, id: `http.${status}`, http_status: status }),
  ),
  rule(unlistedCode, {
    id: 'http.4xx.unlisted-code',
    meaning: 'A refusal with a code that no table lists',
    failure_type: 'UNKNOWN',
    code: 'any',
    http_status: '4xx',
  }),
  rule(rfc9110, { id: 'http.4xx', meaning: 'Any other client error', failure_type: 'BAD_REQUEST', http_status: '4xx' }),
  rule(rfc9110, {
    id: 'http.5xx',
    meaning: 'Any other server error',
    failure_type: 'SERVICE_UNAVAILABLE',
    http_status: '5xx',
  }),
]
