/** Shapes of requests and answers about effects; snake_case, as callers see them. */
import { z } from 'zod'
import { instantField, jobTypeField, nextCursor, pageQuery, rawJson, reasonField, userField } from '../http/fields.ts'
import { inDigits } from '../http/query.ts'
import { isJsonObject, type JsonObject } from '../json.ts'
import { limits } from '../limits.ts'
import { effectIdPattern, effectTypePattern } from '../names.ts'
import { isWithin } from '../text.ts'
import { listedStates } from './read.ts'
import { effectStates } from './scripts.ts'
import { resolutions } from './settle.ts'

const exampleId = 'order_placement.3f0e1b0d6d0f1f7c7f0f4c1f1d7e2b9a8c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f'

const effectType = z
  .string()
  .regex(effectTypePattern, `must match ${effectTypePattern.source}`)
  .meta({ description: 'What kind of side effect it is.', examples: ['order_placement'] })
const effectId = z
  .string()
  .regex(effectIdPattern, 'must be <type>.<64 hex digits>')
  .meta({ description: '`<type>.<64 hex digits of SHA-256 over the RFC 8785 text of entity>`.', examples: [exampleId] })
// Not z.record: zod drops a member `__proto__`, and two effects would become one.
const entity = z
  .custom<string | JsonObject>(
    (value) => typeof value === 'string' || isJsonObject(value),
    'must be a string or an object',
  )
  .meta({
    anyOf: [{ type: 'string', minLength: 1 }, { type: 'object' }],
    description: `What the effect is about: a string or an object, at most ${limits.entityBytesMax} bytes.`,
  })
const token = z
  .int()
  .min(1)
  .max(limits.fencingTokenMax)
  .meta({ description: 'The token of the grant.', examples: [1795468121123456] })
const leaseSeconds = z.number().min(limits.leaseSecondsMin).max(limits.leaseSecondsMax)
const jobType = jobTypeField
const execution = z.enum(['no', 'unknown', 'yes', 'partial'])
const leasePolicy = z.enum(['hold', 'reclaim'])
const short = (text: unknown): boolean => typeof text === 'string' && isWithin(text, limits.metadataCharsMax)
const metadata = z
  .custom<Record<string, string>>(
    (value) =>
      isJsonObject(value) &&
      Object.keys(value).length <= limits.metadataPairsMax &&
      Object.entries(value).every((pair) => pair.every(short)),
    `must be an object of at most ${limits.metadataPairsMax} pairs of strings of at most ${limits.metadataCharsMax} characters`,
  )
  .meta({ type: 'object', maxProperties: limits.metadataPairsMax, additionalProperties: { type: 'string' } })

/** The members that name an effect: `type` and `entity`, or `effect_id`. */
const effectName = {
  type: effectType.optional(),
  entity: entity.optional(),
  effect_id: effectId.optional(),
}

type Named = { type?: string | undefined; entity?: unknown; effect_id?: string | undefined }

/** Either `effect_id` alone or `type` with `entity`. */
function namesOneEffect(body: Named, context: z.RefinementCtx): void {
  const missing = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
  if (body.effect_id !== undefined) {
    if (body.type !== undefined) missing('type', 'is not sent together with effect_id')
    if (body.entity !== undefined) missing('entity', 'is not sent together with effect_id')
    return
  }
  if (body.type === undefined) missing('type', 'is required where effect_id is not sent')
  if (body.entity === undefined) missing('entity', 'is required where effect_id is not sent')
}

export const claimBody = z
  .strictObject({
    ...effectName,
    owner: z
      .string()
      .min(1)
      .max(limits.ownerCharsMax)
      .meta({ description: 'Who will execute.', examples: ['bot-1'] }),
    claim_id: z.string().min(1).max(limits.claimIdCharsMax).optional().meta({
      description: 'A UUID that names this attempt of this process: made anew in memory, never stored or shared.',
    }),
    payload: z
      .unknown()
      .optional()
      .meta({ description: 'The request that the effect stands for; only its hash is kept.' }),
    fingerprint: z.string().min(1).max(limits.fingerprintCharsMax).optional(),
    lease_seconds: leaseSeconds.optional().meta({ description: 'Default: of the effect type, 30 s.' }),
    retention_seconds: z.number().min(limits.retentionSecondsMin).max(limits.retentionSecondsMax).optional(),
    on_lease_expiry: leasePolicy.optional(),
    job_type: jobType.optional().meta({ description: 'Meets its breaker, and feeds breaker and retry metrics.' }),
    probe_id: z.string().min(1).max(limits.claimIdCharsMax).optional().meta({ description: 'Of the `check` before.' }),
    metadata: metadata.optional(),
    wait_seconds: z.number().min(0).max(limits.waitSecondsMax).optional().meta({
      description: 'Where another holds the effect: wait so long for its outcome, or for being granted it.',
    }),
    result: rawJson('The effect has happened already, or claiming it is the effect.').optional(),
  })
  .superRefine(namesOneEffect)
  .superRefine((body, context) => {
    if (body.wait_seconds === undefined || body.claim_id !== undefined) return
    context.addIssue({ code: 'custom', path: ['claim_id'], message: 'is required with wait_seconds' })
  })
  .meta({ id: 'ClaimRequest', description: 'Asks to execute an effect.' })

const held = { ...effectName, fencing_token: token }
/** Not checked further: what reports an outcome is hard to refuse. */
const grantReference = z.string().optional().meta({
  description: 'The one of the grant: where the store has lost the grant, it shows that there was one.',
})
const granted = { ...held, reference: grantReference }

export const completeBody = z
  .strictObject({
    ...granted,
    result: rawJson('Any JSON, kept and given back byte for byte; absent: null.').optional(),
  })
  .superRefine(namesOneEffect)
  .meta({ id: 'CompleteRequest', description: 'The effect happened.' })

export const failBody = z
  .strictObject({
    ...granted,
    error: z.unknown().meta({ description: 'A string, or an object with `message` and what else is known.' }),
    retryable: z.boolean().optional().meta({ description: 'Overrides the classification.' }),
    job_type: jobType.optional().meta({ description: 'Where the claim had none.' }),
    execution: execution
      .optional()
      .meta({ description: 'Did the effect reach the outside world? Default: the classification.' }),
  })
  .superRefine(namesOneEffect)
  .superRefine((body, context) => {
    if (body.error === undefined) context.addIssue({ code: 'custom', path: ['error'], message: 'is required' })
  })
  .meta({ id: 'FailRequest', description: 'The effect did not happen, or nobody knows.' })

export const releaseBody = z
  .strictObject({ ...held, reason: z.string().max(limits.reasonCharsMax).optional() })
  .superRefine(namesOneEffect)
  .meta({ id: 'ReleaseRequest', description: 'Gives the claim back unused.' })

export const renewBody = z
  .strictObject({ ...granted, lease_seconds: leaseSeconds.optional() })
  .superRefine(namesOneEffect)
  .meta({ id: 'RenewRequest', description: 'Extends the lease.' })

export const resolveBody = z
  .strictObject({
    resolution: z.enum(resolutions),
    reason: reasonField,
    evidence: rawJson('What shows it; required of a worker.').optional(),
    result: rawJson('With `executed`: the result for every later caller; absent: null.').optional(),
    fencing_token: token.optional(),
    user: userField.optional(),
  })
  .meta({ id: 'ResolveRequest', description: 'Settles an effect by decision.' })

/** As an operation of a batch, where no path names the effect. */
export const resolveOperation = resolveBody.extend({ effect_id: effectId })

export const batchBody = z.strictObject({ operations: z.array(z.unknown()).max(limits.batchOperationsMax) })

const { wait_seconds: _, ...claimAtOnce } = claimBody.shape

const operation = <Op extends string, Shape extends z.core.$ZodLooseShape>(op: Op, shape: Shape, id: string) =>
  z.strictObject({ op: z.literal(op), ...shape }).meta({ id, description: `One \`${op}\` of a batch.` })

/** Each operation is validated by itself, as the single call would validate it. */
export const batchShown = z
  .strictObject({
    operations: z
      .array(
        z.discriminatedUnion('op', [
          operation('claim', claimAtOnce, 'ClaimOperation'),
          operation('complete', completeBody.shape, 'CompleteOperation'),
          operation('fail', failBody.shape, 'FailOperation'),
          operation('release', releaseBody.shape, 'ReleaseOperation'),
          operation('renew', renewBody.shape, 'RenewOperation'),
          operation('resolve', resolveOperation.shape, 'ResolveOperation'),
        ]),
      )
      .max(limits.batchOperationsMax),
  })
  .meta({ id: 'BatchRequest', description: 'Operations on effects; those on one effect run in the order given.' })

export const effectParams = z.object({ effect_id: effectId })

export const lookupQuery = z
  .strictObject({
    type: effectType,
    entity: z.string().min(1).optional().meta({ description: 'A string entity.' }),
    entity_json: z.string().min(2).optional().meta({ description: 'The JSON of an object entity.' }),
  })
  .superRefine((query, context) => {
    if ((query.entity === undefined) === (query.entity_json === undefined)) {
      context.addIssue({ code: 'custom', path: ['entity'], message: 'send either entity or entity_json' })
    }
  })

export const listQuery = z.strictObject({
  state: z.enum(listedStates).optional(),
  type: effectType.optional(),
  owner: z.string().min(1).max(limits.ownerCharsMax).optional(),
  ...pageQuery,
})

export const deleteQuery = z.strictObject({
  reason: reasonField,
  fencing_token: inDigits(z.int().min(1).max(limits.fencingTokenMax)).optional(),
  user: userField.optional(),
})

// Answers

const state = z.enum(effectStates)
const recovered = z
  .literal(true)
  .optional()
  .meta({ description: 'The store had lost the grant, and knows of it by this report.' })
const replayed = z.literal(true).optional().meta({ description: 'The answer repeats an earlier one.' })
const anyJson = (description: string) => z.unknown().meta({ description })
const leaseEnd = instantField('When the lease is over, by the clock of Redis.')

export const claimGranted = z
  .object({
    outcome: z.enum(['claimed', 'completed']),
    effect_id: effectId,
    fencing_token: token,
    attempt: z.int(),
    reference: z.string().meta({ description: 'A name for the de-duplication of the outside system.' }),
    claimed_at: instantField('When it was granted.'),
    lease_seconds: z.number(),
    lease_expires_at: leaseEnd.nullable(),
    lease_remaining_seconds: z.number().meta({ description: 'At the moment of this answer.' }),
    durability: z.string(),
    metadata: anyJson('The pairs of the last claim that sent some, or null.'),
    completed_at: instantField('With `result` in the claim: grant and completion are one.').optional(),
    result: anyJson('With `result` in the claim.').optional(),
    would_be: z.string().optional().meta({ description: 'In shadow mode: the true outcome, where it is no grant.' }),
    replayed,
  })
  .meta({ id: 'ClaimGranted', description: 'Execute now; you are the only holder.' })

export const claimSettled = z
  .object({
    outcome: z.enum(['completed', 'failed']),
    effect_id: effectId,
    attempt: z.int(),
    completed_at: instantField('When it was completed.').optional(),
    failed_at: instantField('When it failed for good.').optional(),
    result: anyJson('The stored result, byte for byte.').optional(),
    error: anyJson('The stored error.').optional(),
    replayed,
  })
  .meta({ id: 'ClaimSettled', description: 'Do not execute; this is the outcome.' })

export const completed = z
  .object({
    outcome: z.literal('completed'),
    effect_id: effectId,
    attempt: z.int(),
    completed_at: instantField('When it was completed.'),
    recovered,
    replayed,
  })
  .meta({ id: 'Completed', description: 'The result is stored.' })

export const failed = z
  .object({
    outcome: z.enum(['released', 'failed', 'uncertain']),
    effect_id: effectId,
    attempt: z.int(),
    classification: anyJson('As `/failures/classify` answers.'),
    retry: anyJson('As `/retries/decide` answers.'),
    recovered,
    replayed,
  })
  .meta({ id: 'Failed', description: 'What the failure means, and whether and when to try again.' })

export const released = z
  .object({ outcome: z.literal('released'), effect_id: effectId, attempt: z.int(), replayed })
  .meta({ id: 'Released', description: 'The claim is given back.' })

export const renewed = z
  .object({
    outcome: z.literal('renewed'),
    effect_id: effectId,
    lease_expires_at: leaseEnd,
    lease_remaining_seconds: z.number(),
    recovered,
  })
  .meta({ id: 'Renewed', description: 'The lease is extended.' })

export const batchAnswered = z
  .object({
    results: z.array(
      z
        .object({
          status: z.int().meta({ description: 'The status that the single call would have been answered with.' }),
          body: anyJson('Its body, a problem too; pointers are relative to the operation.'),
        })
        .meta({ id: 'BatchResult', description: 'What one operation was answered.' }),
    ),
  })
  .meta({ id: 'BatchAnswered', description: 'Answers in the order of the operations.' })

const recordFields = {
  effect_id: effectId,
  type: effectType,
  entity: anyJson('As it was sent, until the effect settles; else null.'),
  state,
  owner: z.string().nullable(),
  fencing_token: token,
  attempt: z.int(),
  reference: z.string(),
  job_type: z.string().nullable(),
  on_lease_expiry: leasePolicy,
  durability: z.string(),
  metadata: anyJson('The pairs of the last claim that sent some, or null.'),
  fingerprint: z.string().nullable(),
  result: anyJson('The result of a completed effect, else null.'),
  error: anyJson('The last error of an effect that is not completed, else null.'),
  created_at: instantField('First claim.'),
  updated_at: instantField('Last change.'),
  lease_expires_at: leaseEnd.nullable(),
  not_before: instantField('Advice for the next attempt.').nullable(),
  completed_at: instantField('When it was completed.').nullable(),
  failed_at: instantField('When it failed for good.').nullable(),
  expires_at: instantField('When the record vanishes.').nullable(),
}

const step = z
  .object({
    at: instantField('When.'),
    step: z.string(),
    attempt: z.int(),
    by: z.string(),
    detail: z.string().nullable(),
  })
  .meta({ id: 'EffectStep', description: 'A step other than plain claim and complete.' })

export const effectRecord = z
  .object({ ...recordFields, history: z.array(step), replayed })
  .meta({ id: 'Effect', description: 'The record of an effect. A member without a value is null.' })

export const effectList = z
  .object({
    effects: z.array(
      z.object(recordFields).meta({ id: 'ListedEffect', description: 'The record of an effect, without its history.' }),
    ),
    next_cursor: nextCursor,
  })
  .meta({ id: 'EffectList', description: 'Effects in progress and uncertain, in no promised order.' })
