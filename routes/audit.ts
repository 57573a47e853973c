/** The audit: who did what, and whether the record of it is whole. */
import type { Audit } from '../src/audit/audit.ts'
import * as schema from '../src/audit/schema.ts'
import type { Declare } from '../src/http/operation.ts'
import * as examples from './examples/audit.ts'

const tag = 'audit'

export function auditRoutes(declare: Declare, audit: Audit): void {
  declare(
    {
      id: 'listAuditEntries',
      method: 'GET',
      url: '/api/v1/audit',
      role: 'operator',
      tag,
      summary: 'Overrides, resets, resolves, deletes and late completions, newest first',
      query: schema.listQuery,
      answers: { 200: { description: 'One page.', schema: schema.entryList, example: examples.list } },
    },
    async ({ principal, query }) => ({ status: 200, body: await audit.list(principal.namespace, query) }),
  )
  declare(
    {
      id: 'verifyAudit',
      method: 'GET',
      url: '/api/v1/audit/verify',
      role: 'operator',
      tag,
      summary: 'Find any edited, dropped or reordered entry',
      description:
        'Reads the whole chain of the namespace. What was cut from the end together with the head shows only against a ' +
        'head noted elsewhere: the service logs every head once a minute. A walk that takes longer than a call goes on: ask ' +
        'again after the 503 for its verdict.',
      answers: { 200: { description: 'The finding.', schema: schema.verification, example: examples.verification } },
    },
    async ({ principal }) => ({ status: 200, body: await audit.verify(principal.namespace) }),
  )
}
