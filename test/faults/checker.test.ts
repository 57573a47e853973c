/** Whatever goes wrong between workers, service and Redis, every promise holds: a short run, checked whole. */
import t from 'tap'
import { runScenario } from '../helpers/crew/scenario.ts'

t.test('a crew of workers, an exchange that lies, lost replies and a jumping clock', async (t) => {
  const { seed, history, checks, carriedOut, faults } = await runScenario(t)
  t.comment(`seed ${seed}: ${history.events} events, ${checks} checks, ${carriedOut} orders carried out`)
  t.comment(`faults: ${JSON.stringify(faults)}`)
  t.ok(checks > 1000)
})
