/**
 * `npm run soak -- --minutes N --topology standalone|sentinel|cluster [--seed S] [--orders N] [--faults all|processes]
 * [--loops N]`: workers, services and Redis under a nemesis for so long or until there were so many orders, then the checker
 * over all that happened. With `--faults processes` the store is left in peace, and many more orders are had in the same time;
 * `--loops`: orders that each worker has in hand. Ends with 1 if any promise was broken.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import typescript from 'typescript'

const root = path.dirname(import.meta.dirname)
/** Inside the project, so that packages and lua/ are found; of this run only, so that runs do not disturb each other. */
const folder = path.join(root, '.tap', `soak-${process.pid}`)
const compilerOptions = {
  target: typescript.ScriptTarget.ES2023,
  module: typescript.ModuleKind.ESNext,
  verbatimModuleSyntax: true,
  rewriteRelativeImportExtensions: true,
}

function compile(from) {
  for (const name of readdirSync(path.join(root, from), { recursive: true })) {
    if (!name.endsWith('.ts') || name.endsWith('.d.ts') || name.endsWith('.test.ts')) continue
    const text = readFileSync(path.join(root, from, name), 'utf8')
    const target = path.join(folder, from, name.replace(/\.ts$/, '.js'))
    mkdirSync(path.dirname(target), { recursive: true })
    writeFileSync(target, typescript.transpileModule(text, { compilerOptions }).outputText)
  }
}

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

process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))
for (const from of ['src', 'routes', 'test']) compile(from)
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
