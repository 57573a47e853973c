/** Examples of the audit's answers, as `openapi.yaml` shows them. The hashes are those of this entry. */
const hash = '1f8a492a1d61698c2701723d5fb81c628c19c8299849b5601ae108ee2f06627f'

const resolved = {
  seq: 17,
  at: '2026-11-23T21:08:42.456Z',
  action: 'effect.resolve',
  subject: 'order_placement.b4b2d7f8b4ae1bd3d04b5c5ed6b9dd86f9a5d5e4b7bd6e4b9a4f9a0e3f8f0c11',
  user: 'ops-key',
  on_behalf_of: 'alice',
  reason: 'found on the exchange',
  before: { state: 'uncertain' },
  after: { state: 'completed' },
  evidence: { order_id: '123' },
  previous_hash: 'a3135e485d69e5b99291faf3003e9dc505baa49e51da10debebd88afdf0a6374',
  hash,
}

export const list = { entries: [resolved], next_cursor: null }
export const verification = { ok: true, entries: 17, head: { seq: 17, hash }, first_bad_seq: null }
