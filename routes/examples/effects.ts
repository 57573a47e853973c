/** Examples of requests and answers about effects, as `openapi.yaml` shows them. */
const effect_id = 'order_placement.b4b2d7f8b4ae1bd3d04b5c5ed6b9dd86f9a5d5e4b7bd6e4b9a4f9a0e3f8f0c11'
const reference = 'e3vq7m0c5k2h8x1r9t4w6y0p2s5u8b1d'
const fencing_token = 1795468121123456
const claimed_at = '2026-11-23T21:08:41.123Z'
const lease_expires_at = '2026-11-23T21:09:11.123Z'
const settled_at = '2026-11-23T21:08:42.456Z'
const entity = { symbol: 'BTCUSDT', side: 'BUY', quantity: '0.001', signal: 'sig-42' }
const result = { order_id: '123', status: 'FILLED' }

export const claim = {
  type: 'order_placement',
  entity,
  owner: 'bot-1',
  claim_id: '0198c7a2-5d7e-7bb1-9a40-3f1f6f1d2c11',
  lease_seconds: 30,
}
export const granted = {
  outcome: 'claimed',
  effect_id,
  fencing_token,
  attempt: 1,
  reference,
  claimed_at,
  lease_seconds: 30,
  lease_expires_at,
  lease_remaining_seconds: 30,
  durability: 'primary',
  metadata: null,
}
export const settled = { outcome: 'completed', effect_id, attempt: 1, completed_at: settled_at, result, replayed: true }
export const complete = { effect_id, fencing_token, result }
export const completed = { outcome: 'completed', effect_id, attempt: 1, completed_at: settled_at }
export const fail = {
  effect_id,
  fencing_token,
  error: { message: 'Too many requests', code: -1003, exchange: 'binance' },
}

const classification = {
  failure_type: 'RATE_LIMIT',
  retryable: true,
  execution: 'no',
  counts_for_breaker: true,
  scope: 'ip',
  code: -1003,
  exchange: 'binance',
  market: 'spot',
  rule: 'binance.spot.-1003',
  retry_after_seconds: null,
}
export const failed = {
  outcome: 'released',
  effect_id,
  attempt: 1,
  classification,
  retry: {
    retry: true,
    reason: 'retry',
    wait_seconds: 60,
    attempts_left: 2,
    not_before: '2026-11-23T21:09:42.456Z',
    classification,
    breaker: { state: 'closed' },
  },
}
export const release = { effect_id, fencing_token, reason: 'the risk gate said no' }
export const released = { outcome: 'released', effect_id, attempt: 0 }
export const renew = { effect_id, fencing_token, lease_seconds: 30 }
export const renewed = { outcome: 'renewed', effect_id, lease_expires_at, lease_remaining_seconds: 30 }
export const resolve = {
  resolution: 'executed',
  reason: 'found at the exchange by its client order id',
  evidence: { orderId: 123, status: 'FILLED' },
  result,
  fencing_token,
  user: 'alice',
}

const listed = {
  effect_id,
  type: 'order_placement',
  entity,
  state: 'uncertain',
  owner: 'bot-1',
  fencing_token,
  attempt: 1,
  reference,
  job_type: null,
  on_lease_expiry: 'hold',
  durability: 'primary',
  metadata: null,
  fingerprint: null,
  result: null,
  error: null,
  created_at: claimed_at,
  updated_at: lease_expires_at,
  lease_expires_at,
  not_before: null,
  completed_at: null,
  failed_at: null,
  expires_at: null,
}
const expired = { at: lease_expires_at, step: 'lease_expired', attempt: 1, by: 'bot-1', detail: 'uncertain' }
export const record = { ...listed, history: [expired] }
export const resolved = {
  ...listed,
  entity: null,
  state: 'completed',
  fencing_token: 1795468200123456,
  result,
  updated_at: '2026-11-23T21:10:00.123Z',
  lease_expires_at: null,
  completed_at: '2026-11-23T21:10:00.123Z',
  expires_at: '2026-11-26T21:10:00.123Z',
  history: [
    expired,
    {
      at: '2026-11-23T21:10:00.123Z',
      step: 'resolved',
      attempt: 1,
      by: 'alice',
      detail: 'executed: found at the exchange',
    },
  ],
}
export const list = { effects: [listed], next_cursor: null }

const other = { type: 'order_placement', entity: { ...entity, signal: 'sig-43' }, owner: 'bot-1' }
export const batch = {
  operations: [
    { op: 'complete', ...complete },
    { op: 'claim', ...other, claim_id: '0198c7a2-6e2b-7c10-8d3f-5a0b9c4e7f21' },
  ],
}
const otherId = 'order_placement.9d5c0f6a1b7e3d8240c9a6f1e5b27d3c8f04a1b6d9e2735c0f8a4b1d6e9c3057'
export const batchAnswered = {
  results: [
    { status: 200, body: completed },
    { status: 201, body: { ...granted, effect_id: otherId, reference: 'ek1z8v4n7b0q3d6g9j2m5p8s1w4y7c0f' } },
  ],
}
