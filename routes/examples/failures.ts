/** Examples of requests and answers about failures, as `openapi.yaml` shows them. */
export const classify = { error: 'BinanceAPIException: -1003 TOO_MANY_REQUESTS' }

const meaning = {
  failure_type: 'RATE_LIMIT',
  retryable: true,
  execution: 'no',
  counts_for_breaker: true,
  scope: 'ip',
}

export const classified = {
  ...meaning,
  code: -1003,
  exchange: 'binance',
  market: 'spot',
  rule: 'binance.spot.-1003',
  retry_after_seconds: null,
}

export const types = {
  types: [
    {
      ...meaning,
      description: 'Too many requests or orders; the request was refused before it was looked at.',
    },
  ],
}

export const rules = {
  rules: [
    {
      rule: 'binance.spot.-1003',
      source: 'Binance Spot API, errors.md, 10xx - General Server or Network issues',
      meaning: 'TOO_MANY_REQUESTS',
      exchange: 'binance',
      market: 'spot',
      code: -1003,
      http_status: null,
      pattern: null,
      example: null,
      ...meaning,
    },
  ],
}
