import t from 'tap'
import { limits } from '../../src/limits.ts'
import { createKeys } from '../../src/redis/keys.ts'
import { createReset, type ResetDependencies } from '../../src/retries/reset.ts'

t.test('a reset that meets new job types at every try says so, and that nothing was forgotten', async (t) => {
  let tries = 0
  const run = async () => {
    tries += 1
    return { entry: null }
  }
  const store = { read: async () => [], run }
  const audit = { entryArgs: () => ({}), tell: () => t.fail('nothing was done') }
  const dependencies = { store, audit, keys: createKeys('idempotency'), newId: () => 'id' }
  const reset = createReset(dependencies as unknown as ResetDependencies)
  await t.rejects(reset('default', 'a test', { user: 'alice', on_behalf_of: null }), {
    slug: 'store-unavailable',
    message: 'New job types came during each try, so nothing was forgotten.',
    members: { reason: 'busy' },
  })
  t.equal(tries, limits.retryResetTries)
})
