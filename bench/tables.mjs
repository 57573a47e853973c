/** The tables of the page, from the figures of a run. Every figure is a median with its least and greatest round. */
import { contenders } from './contenders.mjs'
import { judge } from './goals.mjs'
import { spread, spreadOfAll } from './statistics.mjs'

/** Three significant digits, or whole numbers above a hundred. */
export function figure(value) {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US')
  return String(Number(value.toPrecision(3)))
}

function withSpread({ median, least, most, rounds }) {
  if (rounds === 0) return '–'
  return rounds === 1 ? figure(median) : `${figure(median)} (${figure(least)}–${figure(most)})`
}

const table = (heads, rows) =>
  [heads, heads.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')

const troubleOf = (results, name) => {
  const part = results.parts[name]
  return part === undefined ? 'Not part of this run.' : `Not measured: ${part.trouble}`
}

/** A table of a part of the run, or why there is none. */
const ofPart = (results, name, render) => {
  const value = results.parts[name]?.value
  return value === undefined ? troubleOf(results, name) : render(value)
}

export const machineTable = ({ machine, commandLine, date, options, minutes }) =>
  table(
    ['what', 'this run'],
    [
      ['command', `\`${commandLine}\`, ${minutes.toFixed(1)} minutes`],
      ['date', date],
      ['windows', `${options.rounds} rounds of ${options.seconds} s, ${options.connections} connections`],
      ...Object.entries(machine),
    ],
  )

export const goalsTable = (results) =>
  table(
    ['measure', 'goal', 'reached', 'verdict'],
    judge(results).map(({ measure, goal, reached, verdict }) => [measure, goal, withSpread(reached), verdict]),
  )

export function roundsTable(results) {
  const heads = [
    'contender',
    'effects/s',
    'server µs/request',
    'server µs/effect',
    'Redis µs/effect',
    'p50 ms',
    'p99 ms',
  ]
  const rows = contenders.flatMap(({ name, title, note }) => {
    const found = results.contenders[name]
    if (found === undefined) return []
    const label = note ? `${title} (${note})` : title
    if (!found.windows.some((window) => 'effectsPerSecond' in window))
      return [[label, `failed: ${oneLine(found.trouble)}`, '', '', '', '', '']]
    const of = spreadOfAll(found.windows)
    const cell = (member) => withSpread(of[member] ?? spread([]))
    const [perRequest, perEffect] = [cell('serverMicrosecondsPerRequest'), cell('serverMicrosecondsPerEffect')]
    return [
      [
        label,
        cell('effectsPerSecond'),
        perRequest,
        perEffect,
        cell('redisMicrosecondsPerEffect'),
        cell('p50'),
        cell('p99'),
      ],
    ]
  })
  return [table(heads, rows), driverNote(results)].join('\n\n')
}

const oneLine = (text) => String(text).replaceAll(/[|\s`]+/g, ' ')

/** Says where the driver itself was near the end of its processor: there, effects/s is its figure. */
const driverFull = 0.9

function driverNote({ contenders: all }) {
  const costs = Object.values(all).flatMap(({ windows }) => windows.map((one) => one.driverMicrosecondsPerRequest))
  const busy = Object.entries(all).filter(([, { windows }]) =>
    windows.some(({ driverLoad }) => driverLoad > driverFull),
  )
  const bound = busy.length === 0 ? 'no contender' : busy.map(([name]) => `\`${name}\``).join(', ')
  return (
    `The driver took ${withSpread(spread(costs))} µs a request.\nIt used over ${driverFull * 100} % of a processor in a round ` +
    `of ${bound}: effects/s there may be the driver's own bound.`
  )
}

/** Against what one would write by hand, against bare Fastify and against the best peer, each within its round. */
export function ratiosTable(results) {
  const bases = [
    ['bare-fastify', 'serverMicrosecondsPerRequest', 'server CPU a request ÷ bare Fastify'],
    ['hand', 'microsecondsPerEffect', 'server + Redis CPU an effect ÷ hand-written'],
    ['hand', 'effectsPerSecond', 'effects/s ÷ hand-written'],
    ['node-idempotency', 'effectsPerSecond', 'effects/s ÷ node-idempotency'],
  ]
  const windowsOf = (name) => results.contenders[name]?.windows ?? []
  const rows = contenders
    .filter(({ name }) => windowsOf(name).length > 0)
    .map(({ name, title }) => [
      title,
      ...bases.map(([base, member]) => {
        const pairs = windowsOf(name).map((window, at) => window[member] / windowsOf(base)[at]?.[member])
        return withSpread(spread(pairs))
      }),
    ])
  return table(['contender', ...bases.map(([, , head]) => head)], rows)
}

export const fewTable = (results) =>
  ofPart(results, 'few', (windows) =>
    table(
      ['caller', 'first request p50 ms', 'p99 ms', 'server µs/effect', 'Redis µs/effect'],
      Object.entries(windows).map(([name, taken]) => {
        const of = spreadOfAll(taken)
        const members = ['p50', 'p99', 'serverMicrosecondsPerEffect', 'redisMicrosecondsPerEffect']
        return [titleOf(name), ...members.map((member) => withSpread(of[member] ?? spread([])))]
      }),
    ),
  )

const titleOf = (name) => contenders.find((one) => one.name === name).title

export const loadsTable = (results) =>
  ofPart(results, 'loads', (curves) => {
    const loads = [...new Set(Object.values(curves).flatMap((points) => points.map(({ perSecond }) => perSecond)))]
    const cell = (points, perSecond) => {
      const point = points.find((one) => one.perSecond === perSecond)
      return point === undefined ? 'overloaded' : `${figure(point.p50)} / ${figure(point.p99)}`
    }
    const heads = Object.keys(curves).map((name) => `${titleOf(name)}: p50 / p99 ms`)
    const rows = loads.map((perSecond) => [
      figure(perSecond),
      ...Object.values(curves).map((points) => cell(points, perSecond)),
    ])
    return table(['effects offered a second', ...heads], rows)
  })

export const bytesTable = (results) =>
  ofPart(results, 'bytes', ({ effects, ours, short, long }) =>
    table(
      ['what', `bytes each, over ${figure(effects)}`, 'ratio'],
      [
        ['Effectonce: completed, with token, fingerprint, owner and times', figure(ours), figure(ours / short)],
        ['bare `SET` of the 200 bytes with TTL, a key of 44 bytes', figure(short), '1'],
        ['bare `SET` of the 200 bytes with TTL, a key as long as ours', figure(long), figure(long / short)],
      ],
    ),
  )

export function memoryTable(results) {
  const effects = ofPart(results, 'memory', (points) =>
    table(
      ['effects so far', 'service, MiB'],
      points.map((point) => [figure(point.effects), figure(point.mebibytes)]),
    ),
  )
  const waiters = ofPart(results, 'waiters', ({ waiters: count, before, waiting, answeredSeconds }) =>
    table(
      ['calls waiting', 'before, MiB', 'waiting, MiB', 'all answered within, s'],
      [[figure(count), figure(before), figure(waiting), figure(answeredSeconds)]],
    ),
  )
  return [effects, waiters].join('\n\n')
}

/** Rows of spreads under the name of what grows. */
const growthTable = (head, key, rows) =>
  table(
    [head, 'effects/s', 'server µs/effect', 'Redis µs/effect', 'claim p50 ms', 'claim p99 ms'],
    rows.map((row) => [
      figure(row[key]),
      ...['effectsPerSecond', 'serverMicrosecondsPerEffect', 'redisMicrosecondsPerEffect', 'p50', 'p99'].map((member) =>
        withSpread(row[member]),
      ),
    ]),
  )

export const effectsTable = (results) =>
  ofPart(results, 'growth', (rows) => growthTable('effects in flight', 'effects', rows))

export const jobTypesTable = (results) =>
  ofPart(results, 'job-types', (rows) => growthTable('job types', 'jobTypes', rows))

export const processesTable = (results) =>
  ofPart(results, 'processes', ({ share, windows }) =>
    growthTable(
      `processes, each with ${share} of a processor`,
      'processes',
      Object.entries(windows).map(([processes, taken]) => ({ processes: Number(processes), ...spreadOfAll(taken) })),
    ),
  )

export const replicasTable = (results) =>
  ofPart(results, 'replicas', (rows) => growthTable('replicas', 'replicas', rows))

export const sweepTable = (results) =>
  ofPart(results, 'sweep', (found) =>
    table(
      ['what', 'figure'],
      [
        ['effects in flight', figure(found.effects)],
        ['a new process is ready after, s', figure(found.startSeconds)],
        ['service, nobody asking, % of a processor', figure(found.idleServicePercent)],
        ['Redis, nobody asking, % of a processor', figure(found.idleRedisPercent)],
        ['settled a second, once all leases are over', figure(found.settledPerSecond)],
        [`settled within ${figure(found.settleSeconds)} s`, figure(found.settled)],
        ['still to settle then', figure(found.left)],
      ],
    ),
  )
