/**
 * `npm run loss -- [--rounds N]`: kills Redis, or promotes its replica, under workers that claim and complete, counts what was
 * acknowledged and is gone, for each set-up of test/helpers/loss.ts, and writes the table into docs/guarantees.md.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { format, resolveConfig } from 'prettier'
import { compileAll, root } from './compile.mjs'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '10' } } })
const rounds = Number(values.rounds)
const say = (line) => process.stdout.write(`${line}\n`)

const folder = compileAll('loss')
const { lose, setUps, durabilityName } = await import(path.join(folder, 'test/helpers/loss.js'))

/** What a round opened, ended with the round, the last first. */
async function round(setUp) {
  const ends = []
  try {
    return await lose({ teardown: (end) => void ends.unshift(end) }, setUp)
  } finally {
    for (const end of ends) await end()
  }
}

/** Set-ups in turns, so that a bad moment of the machine concerns all of them. */
async function measure() {
  const losses = setUps.map(() => [])
  for (let turn = 1; turn <= rounds; turn++) {
    for (const [index, setUp] of setUps.entries()) {
      const loss = await round(setUp)
      losses[index].push(loss)
      say(`${turn}/${rounds} ${setUp.name}, ${durabilityName(setUp)}: ${JSON.stringify(loss)}`)
    }
  }
  return losses
}

const number = (value) => value.toLocaleString('en-US')

function rowOf(setUp, losses) {
  const sum = (of) => number(losses.reduce((total, loss) => total + of(loss), 0))
  const worst = Math.max(...losses.map(({ claimsGone, completesGone }) => claimsGone + completesGone))
  const cells = [
    setUp.name,
    `\`${durabilityName(setUp)}\``,
    `${sum(({ claims }) => claims)} and ${sum(({ completes }) => completes)}`,
    `${sum(({ claimsGone }) => claimsGone)} and ${sum(({ completesGone }) => completesGone)}`,
    number(worst),
  ]
  return `| ${cells.join(' | ')} |`
}

function page(losses) {
  const redis = /v=(\S+)/.exec(execFileSync('redis-server', ['--version'], { encoding: 'utf8' }))[1]
  return [
    `Redis ${redis}, Node ${process.versions.node}, ${rounds} rounds of each, in turns.`,
    '',
    '| set-up | durability | claims and completes acknowledged | of them gone | gone in the worst round |',
    '| --- | --- | --- | --- | --- |',
    ...setUps.map((setUp, index) => rowOf(setUp, losses[index])),
  ].join('\n')
}

const file = path.join(root, 'docs/guarantees.md')
const marked = /(<!-- measured: loss -->)[^]*?(<!-- end -->)/
const text = readFileSync(file, 'utf8')
if (!marked.test(text)) throw new Error(`${file} has no place for the table`)
const losses = await measure()
const written = text.replace(marked, (_, begin, end) => `${begin}\n\n${page(losses)}\n\n${end}`)
writeFileSync(file, await format(written, { ...(await resolveConfig(file)), filepath: file }))
say(page(losses))
process.exit(0)
