/** What the peers share: where to listen and where Redis is, from the command line: `node <peer>.mjs <port> <redis url>`. */
export const [port, redisUrl] = [Number(process.argv[2]), process.argv[3]]

/** The bodies of a claim and a complete, checked by AJV as a careful hand would. */
const text = { type: 'string', minLength: 1, maxLength: 1024 }
export const claimSchema = {
  type: 'object',
  additionalProperties: false,
  required: ['type', 'entity', 'owner'],
  properties: { type: text, entity: text, owner: text, claim_id: text },
}
export const completeSchema = {
  type: 'object',
  additionalProperties: false,
  required: ['type', 'entity', 'fencing_token', 'result'],
  properties: { type: text, entity: text, fencing_token: { type: 'integer' }, result: { type: 'object' } },
}

/** The answer to a claim, serialised by a compiled schema as Fastify offers it. */
export const grantSchema = {
  type: 'object',
  properties: {
    outcome: text,
    effect_id: text,
    fencing_token: { type: 'integer' },
    attempt: { type: 'integer' },
    claimed_at: text,
    lease_seconds: { type: 'number' },
  },
}

export const grantOf = ({ type, entity }) => ({
  outcome: 'claimed',
  effect_id: `${type}.${entity}`,
  fencing_token: 1,
  attempt: 1,
  claimed_at: new Date().toISOString(),
  lease_seconds: 30,
})
