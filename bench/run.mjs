/** `npm run bench`: installs the peers where they are missing, builds the service, measures, and writes docs/benchmarks.md. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { contenders, deployments } from './contenders.mjs'
import { judge } from './goals.mjs'
import { describeMachine } from './machine.mjs'
import { readOptions, usage } from './options.mjs'
import { writePage } from './page.mjs'
import { Pool } from './pool.mjs'
import { growthOfEffects, growthOfJobTypes, growthOfReplicas, sweepOfMany } from './sections/growth.mjs'
import { fewConnections, offeredLoads } from './sections/latency.mjs'
import { effectsByProcesses } from './sections/processes.mjs'
import { runRounds } from './sections/rounds.mjs'
import { bytesPerEffect, memoryOfWaiters, memoryOverEffects } from './sections/storage.mjs'
import { figure } from './tables.mjs'

const root = path.dirname(import.meta.dirname)
const say = (text) => process.stdout.write(`${text}\n`)

/** Parts that use what the rounds have started, and those that start their own once that is gone. */
const sharedParts = { few: fewConnections, loads: offeredLoads }
const ownParts = {
  bytes: bytesPerEffect,
  memory: memoryOverEffects,
  waiters: memoryOfWaiters,
  processes: effectsByProcesses,
  replicas: growthOfReplicas,
  'job-types': growthOfJobTypes,
  sweep: sweepOfMany,
  growth: growthOfEffects,
}
const partNames = [...Object.keys(sharedParts), ...Object.keys(ownParts)]

function command(file, args, cwd) {
  const { status } = spawnSync(file, args, { cwd, stdio: ['ignore', 'inherit', 'inherit'] })
  if (status !== 0) throw new Error(`${file} ${args.join(' ')} failed`)
}

/** The peers are no dependencies of the service: they live in bench/node_modules, as bench/package-lock.json has them. */
function installPeers() {
  const lock = path.join(import.meta.dirname, 'package-lock.json')
  const installed = path.join(import.meta.dirname, 'node_modules/.bench-lock')
  if (existsSync(installed) && readFileSync(installed).equals(readFileSync(lock))) return
  say('installing the peers in bench/ …')
  command('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], import.meta.dirname)
  copyFileSync(lock, installed)
}

function chosenNames(only) {
  const known = [...contenders.map(({ name }) => name), ...partNames]
  const unknown = (only ?? []).filter((name) => !known.includes(name))
  if (unknown.length > 0)
    throw new Error(`No such contender or part: ${unknown.join(', ')}. There are: ${known.join(', ')}`)
  return new Set(only ?? known)
}

/** A part that fails, or for which no time is left, leaves the others alone. */
async function runParts(parts, chosen, context) {
  const results = {}
  for (const [name, run] of Object.entries(parts)) {
    if (!chosen.has(name)) continue
    say(name)
    try {
      if (context.late()) throw new Error('time was over')
      results[name] = { value: await run(context) }
    } catch (error) {
      results[name] = { trouble: error.message.slice(0, 400) }
      say(`  ${results[name].trouble}`)
    }
  }
  return results
}

async function measureAll(options, chosen) {
  const start = performance.now()
  const minutes = () => (performance.now() - start) / 60_000
  const pool = new Pool(deployments)
  const context = { pool, options, say, late: () => minutes() > options.minutes }
  const machine = describeMachine()
  const date = new Date().toISOString().slice(0, 16).replace('T', ' ')
  try {
    say('rounds')
    const taking = contenders.filter(({ name }) => chosen.has(name))
    const windows = taking.length === 0 ? {} : await runRounds(taking, context)
    const shared = await runParts(sharedParts, chosen, context)
    await pool.stop()
    const parts = { ...shared, ...(await runParts(ownParts, chosen, context)) }
    const { commandLine } = options
    return { machine, date: `${date} UTC`, commandLine, options, minutes: minutes(), contenders: windows, parts }
  } finally {
    await pool.stop()
  }
}

/** The page of docs/ is for whole runs; others have their own in data/bench/, which git does not keep. */
function report(results, { only, quick }) {
  const aside = path.join(root, 'data/bench')
  mkdirSync(aside, { recursive: true })
  const figures = path.join(aside, 'results.json')
  writeFileSync(figures, `${JSON.stringify(results, null, 2)}\n`)
  const page = writePage(results, only === null && !quick ? path.join(root, 'docs') : aside)
  for (const { measure, goal, reached, verdict } of judge(results)) {
    say(`${verdict.replaceAll('*', '').padEnd(26)} ${figure(reached.median).padStart(8)} (${goal})  ${measure}`)
  }
  say(`written: ${path.relative(root, page)}, ${path.relative(root, figures)}`)
}

async function main() {
  const options = readOptions(process.argv.slice(2))
  const list = `contenders: ${contenders.map(({ name }) => name).join(' ')}\nparts: ${partNames.join(' ')}`
  if (options.help || options.list) return say(options.help ? usage : list)
  if (options.render !== null) return report(JSON.parse(readFileSync(options.render, 'utf8')), options)
  const chosen = chosenNames(options.only)
  installPeers()
  command('npm', ['run', '--silent', 'build'], root)
  report(await measureAll(options, chosen), options)
}

for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))
main().catch((error) => {
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
})
