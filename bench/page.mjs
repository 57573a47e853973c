/** Writes the page and its plots: between `<!-- measured: name -->` and `<!-- end -->` everything is put in anew. */
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { linePlot } from './plot.mjs'
import * as tables from './tables.mjs'

const root = path.dirname(import.meta.dirname)
const template = path.join(root, 'docs/benchmarks.md')

const loadPlot = {
  file: 'latency.svg',
  part: 'loads',
  alt: 'latency of an effect against offered load',
  draw: (curves) =>
    linePlot({
      title: 'Latency of an effect, from its arrival, against offered load',
      x: 'effects offered a second',
      y: 'ms (logarithmic)',
      logarithmic: true,
      series: withPoints(curves).flatMap(([name, points], tone) => [
        { name: `${plain(name)}, p50`, tone, points: points.map(({ perSecond, p50 }) => [perSecond, p50]) },
        {
          name: `${plain(name)}, p99`,
          tone,
          points: points.map(({ perSecond, p99 }) => [perSecond, p99]),
          dashed: true,
        },
      ]),
    }),
}

const replicasPlot = {
  file: 'replicas.svg',
  part: 'replicas',
  alt: 'processor time of an effect against replicas',
  draw: (rows) => {
    const of = (member) => rows.map((row) => [row.replicas, row[member].median])
    return linePlot({
      title: 'Processor time of an effect against replicas of the service, Cluster of three',
      x: 'replicas',
      y: 'µs an effect',
      series: [
        { name: 'service and Redis', points: of('microsecondsPerEffect') },
        { name: 'service', points: of('serverMicrosecondsPerEffect') },
        { name: 'Redis', points: of('redisMicrosecondsPerEffect') },
      ],
    })
  },
}

const withPoints = (curves) => Object.entries(curves).filter(([, points]) => points.length > 0)

const plain = (name) => ({ single: 'Effectonce', hand: 'hand-written' })[name] ?? name

/** Draws into `folder`/benchmarks what the run has figures for; answers the line of Markdown that shows it. */
function picture(results, folder, { file, part, alt, draw }) {
  const value = results.parts[part]?.value
  const drawable = value !== undefined && Object.values(value).flat().length > 1
  if (!drawable) return ''
  mkdirSync(path.join(folder, 'benchmarks'), { recursive: true })
  writeFileSync(path.join(folder, 'benchmarks', file), draw(value))
  return `\n\n![${alt}](benchmarks/${file})`
}

/** The page with the figures of this run, in `folder`. Answers where it is. */
export function writePage(results, folder) {
  mkdirSync(folder, { recursive: true })
  const page = path.join(folder, 'benchmarks.md')
  if (page !== template) copyFileSync(template, page)
  const parts = {
    machine: tables.machineTable(results),
    goals: tables.goalsTable(results),
    rounds: tables.roundsTable(results),
    ratios: tables.ratiosTable(results),
    few: tables.fewTable(results),
    loads: tables.loadsTable(results) + picture(results, folder, loadPlot),
    bytes: tables.bytesTable(results),
    memory: tables.memoryTable(results),
    effects: tables.effectsTable(results),
    'job-types': tables.jobTypesTable(results),
    processes: tables.processesTable(results),
    replicas: tables.replicasTable(results) + picture(results, folder, replicasPlot),
    sweep: tables.sweepTable(results),
  }
  const text = Object.entries(parts).reduce(putIn, readFileSync(page, 'utf8'))
  writeFileSync(page, text)
  tidy(page)
  return page
}

function putIn(text, [name, content]) {
  const start = `<!-- measured: ${name} -->`
  const from = text.indexOf(start)
  const to = text.indexOf('<!-- end -->', from)
  if (from < 0 || to < 0) throw new Error(`docs/benchmarks.md has no place for "${name}"`)
  return `${text.slice(0, from + start.length)}\n\n${content}\n\n${text.slice(to)}`
}

/** As the checks want Markdown; without the packages for checks it stays as it is. */
function tidy(page) {
  const prettier = path.join(root, 'node_modules/.bin/prettier')
  if (existsSync(prettier))
    execFileSync(prettier, ['--ignore-path', os.devNull, '--write', '--log-level', 'warn', page])
}
