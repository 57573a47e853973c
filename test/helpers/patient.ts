/** Calls that are sent again where a busy machine did not answer them in time, as every caller should. */
import { randomUUID } from 'node:crypto'
import type { Answer, TestApp } from './app.ts'
import { waitFor } from './redis-server.ts'

const passing = new Set(['unavailable', 'outcome_unknown', 'busy', 'loading'])
const passes = ({ status, body }: Answer): boolean => status === 503 && passing.has(body.reason)

/** The same app; a claim carries a `claim_id`, so that sending it again is harmless. */
export const patient = <App extends Pick<TestApp, 'call'>>(app: App): App => ({
  ...app,
  call(method, url, body, headers) {
    const sent = url.endsWith('/claim') ? { claim_id: randomUUID(), ...(body as object) } : body
    return waitFor(async () => {
      const answer = await app.call(method, url, sent, headers)
      return passes(answer) ? undefined : answer
    }, 30_000)
  },
})
