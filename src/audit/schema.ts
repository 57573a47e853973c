/** What the audit's calls take and answer. */
import { z } from 'zod'
import { instantField, nextCursor, pageQuery, rawJson } from '../http/fields.ts'
import { limits } from '../limits.ts'
import { auditActions } from './audit.ts'

const hashField = (description: string) => z.string().meta({ description, pattern: '^[0-9a-f]{64}$' })

export const listQuery = z.strictObject({
  action: z
    .string()
    .min(1)
    .max(64)
    .optional()
    .meta({ description: 'Only this action: `refused` acts have the suffix `.refused`.', examples: [...auditActions] }),
  subject: z
    .string()
    .min(1)
    .max(limits.auditSubjectCharsMax)
    .optional()
    .meta({ description: 'Only what was done to this: an effect_id, `breaker:<job_type>` or `jobs:metrics`.' }),
  since: z.iso
    .datetime({ offset: true })
    .optional()
    .meta({ description: 'Only entries of this instant (RFC 3339) and later.' }),
  ...pageQuery,
})

const entry = z
  .object({
    seq: z.int().meta({ description: 'Its number in the namespace, from 1, without gaps.' }),
    at: instantField('When, by the clock of Redis; never before the entry in front of it.'),
    action: z.string().meta({ description: `What was done: ${auditActions.join(', ')}; with \`.refused\`: not done.` }),
    subject: z.string().meta({ description: 'To what.' }),
    user: z.string().meta({ description: 'Who: the name of the API key, or `user` where there are no keys.' }),
    on_behalf_of: z.string().nullable().meta({ description: '`user` of the request, where a key made it.' }),
    reason: z.string().nullable(),
    before: rawJson('The state before, where it is known; else null.'),
    after: rawJson('The state after it, or what was asked for; else null.'),
    evidence: rawJson('As it was sent, byte for byte: evidence, or the result that came too late; else null.'),
    previous_hash: hashField('`hash` of the entry before; 64 zeros for the first of all.'),
    hash: hashField(
      'Hex SHA-256 of these lines, joined by a line feed: previous_hash, seq, at in milliseconds, statement, before, after. ' +
        'The statement is the hex SHA-256 of the JSON array [action, subject, user, on_behalf_of, reason, text of evidence], ' +
        '"" for null, as JSON.stringify writes it. A state over 256 bytes is its hex SHA-256.',
    ),
  })
  .meta({ id: 'AuditEntry', description: 'One act, chained to the one before.' })

export const entryList = z.object({ entries: z.array(entry), next_cursor: nextCursor }).meta({ id: 'AuditEntryList' })

export const verification = z
  .object({
    ok: z
      .boolean()
      .meta({ description: 'Every entry from the oldest kept to the head is there, in order, unchanged.' }),
    entries: z.int().meta({ description: 'How many entries were found to be good.' }),
    head: z
      .object({ seq: z.int(), hash: hashField('Of the newest entry. Note it elsewhere: a later cut then shows.') })
      .nullable()
      .meta({ description: 'The end of the chain; null while it is empty.' }),
    first_bad_seq: z
      .int()
      .nullable()
      .meta({ description: 'The first number whose entry was edited, dropped or put elsewhere.' }),
  })
  .meta({ id: 'AuditVerification' })
