/** Examples of requests and answers about breakers, as `openapi.yaml` shows them. */
const opened_at = '2026-11-23T21:08:41.123Z'
const overridden_at = '2026-11-23T21:12:05.456Z'
const reason = 'the exchange says that it is back, and a test order went through'

export const check = { probe_id: 'probe-7' }
export const checked = { allowed: true, would_block: false, state: 'half_open', reason: 'probe', probe_id: 'probe-7' }
export const success = { probe_id: 'probe-7', owner: 'bot-1', event_id: 'order-42:1' }
export const failure = {
  owner: 'bot-1',
  event_id: 'order-42:1',
  error: { message: 'Service unavailable', exchange: 'binance', http_status: 503 },
}
export const override = { action: 'half_open', reason, user: 'alice', version: 1 }
export const reset = { reason: 'wrong configuration, corrected', user: 'alice' }

const settings = { job_type: 'order_execution', mode: 'enforce', failure_threshold: 10, time_window_seconds: 300 }
const nothing = { opened_at: null, reason: null, last_override: null, auto_recovery_at: null, hold_until: null }
export const closed = {
  ...settings,
  ...{ state: 'closed', version: 0, failure_count: 1, requires_override: false },
  ...nothing,
}
export const open = {
  ...settings,
  ...{ state: 'open', version: 1, failure_count: 10, requires_override: true },
  ...nothing,
  ...{ opened_at, reason: 'failure_threshold' },
}
export const overridden = {
  ...open,
  ...{ state: 'half_open', version: 2, requires_override: false, reason: 'override' },
  last_override: {
    ...{ user: 'alice', on_behalf_of: null, reason, action: 'half_open', at: overridden_at, expires_at: null },
  },
}
export const wasReset = { ...closed, version: 2, failure_count: 0 }
export const list = { breakers: [open], next_cursor: null }
export const history = {
  history: [
    {
      ...{ at: overridden_at, version: 2, from: 'open', to: 'half_open', cause: 'override', action: 'half_open' },
      ...{ user: 'alice', on_behalf_of: null, reason },
    },
    {
      ...{ at: opened_at, version: 1, from: 'closed', to: 'open', cause: 'failure_threshold', action: null },
      ...{ user: null, on_behalf_of: null, reason: null },
    },
  ],
  next_cursor: null,
}
