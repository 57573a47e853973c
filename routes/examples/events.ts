/** An example of the event stream, as `openapi.yaml` shows it. */
const opened = { event: 'breaker.opened', at: '2026-11-23T21:08:42.456Z', job_type: 'place_order', failure_count: 10 }
const uncertain = {
  event: 'effect.uncertain',
  at: '2026-11-23T21:09:11.512Z',
  effect_id: 'order_placement.b4b2d7f8b4ae1bd3d04b5c5ed6b9dd86f9a5d5e4b7bd6e4b9a4f9a0e3f8f0c11',
  owner: 'bot-1',
  attempt: 1,
  cause: 'lease_expired',
}

export const stream = [
  ['id: 1795468122456-0', 'event: breaker.opened', `data: ${JSON.stringify(opened)}`, '', ''],
  ['id: 1795468151512-0', 'event: effect.uncertain', `data: ${JSON.stringify(uncertain)}`, '', ''],
]
  .map((lines) => lines.join('\n'))
  .join('')
