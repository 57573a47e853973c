/**
 * `npm run soak -- --minutes N --topology standalone|sentinel|cluster [--seed S] [--orders N] [--faults all|processes]
 * [--loops N]`: workers, services and Redis under a nemesis for so long or until there were so many orders, then the checker
 * over all that happened. With `--faults processes` the store is left in peace, and many more orders are had in the same time;
 * `--loops`: orders that each worker has in hand. Ends with 1 if any promise was broken.
 */
import path from 'node:path'
import { parseArgs } from 'node:util'
import { compileAll } from './compile.mjs'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    topology: { type: 'string', default: 'standalone' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    orders: { type: 'string', default: 'Infinity' },
    faults: { type: 'string', default: 'all' },
    loops: { type: 'string', default: '8' },
  },
})

const folder = compileAll('soak')
const { soak, topologies, faultSets } = await import(path.join(folder, 'test/helpers/crew/soak.js'))
for (const [option, choice] of Object.entries({ topology: topologies, faults: faultSets })) {
  if (choice.includes(values[option])) continue
  process.stderr.write(`--${option} is one of ${choice.join(', ')}\n`)
  process.exit(2)
}
const say = (line) => process.stdout.write(`${line}\n`)
say(`seed ${values.seed}, ${values.topology}, ${values.minutes} minutes`)
const result = await soak({
  topology: values.topology,
  seconds: Number(values.minutes) * 60,
  seed: Number(values.seed),
  orders: Number(values.orders),
  faults: values.faults,
  loops: Number(values.loops),
  say,
})
const { violations, events, orders, carriedOut, doubles, checks, faults } = result
say(`${orders} orders, ${carriedOut} carried out, ${doubles} of them more than once`)
say(`history: ${events} events; faults: ${JSON.stringify(faults)}`)
say(`${checks} checks, ${violations.length} violations`)
for (const { rule, subject, message } of violations.slice(0, 50)) say(`${rule}: ${subject} ${message}`)
process.exit(violations.length > 0 ? 1 : 0)
