/** The command line: what is measured, and for how long. */
import { parseArgs } from 'node:util'

const full = {
  rounds: 5,
  seconds: 2,
  warmupSeconds: 0.4,
  minutes: 15,
  connections: 50,
  bytesEffects: 200_000,
  memoryEffects: 1_000_000,
  waiters: 10_000,
  growth: [10_000, 100_000, 1_000_000, 5_000_000],
  growthWindows: 3,
  sweepEffects: 1_000_000,
  sweepSeconds: 20,
  loads: [500, 1000, 2000, 4000, 6000, 8000, 10_000, 12_000, 14_000],
  jobTypes: [1, 10, 1000],
  replicas: [1, 2, 4],
  processShare: 0.35,
  processWarmupSeconds: 6,
  processWindows: 15,
}

/** Only to see that everything runs: its figures say nothing. */
const quick = {
  ...full,
  rounds: 1,
  seconds: 0.3,
  warmupSeconds: 0.1,
  minutes: 2,
  bytesEffects: 5000,
  memoryEffects: 5000,
  waiters: 500,
  growth: [500, 2000],
  growthWindows: 1,
  sweepEffects: 2000,
  sweepSeconds: 5,
  processWarmupSeconds: 0.5,
  processWindows: 1,
  loads: [100, 400],
}

export const usage = `npm run bench -- [--rounds N] [--seconds S] [--minutes M] [--only a,b] [--quick] [--render file] [--list]
  --rounds   how often each contender has its turn (default ${full.rounds})
  --seconds  how long a turn is measured (default ${full.seconds})
  --minutes  no new part begins after so many (default ${full.minutes})
  --only     names of contenders and parts, see --list; the page in docs/ stays as it is
  --quick    everything once and briefly, to see that it runs; the page in docs/ stays as it is
  --render   a file of figures of an earlier run, to write the page anew from it
  --list     prints the names`

/** Answers the settings; `only` is null for everything, `list` and `help` ask for words instead of a run. */
export function readOptions(args) {
  const text = { type: 'string' }
  const flag = { type: 'boolean', default: false }
  const { values } = parseArgs({
    args,
    options: {
      rounds: text,
      seconds: text,
      minutes: text,
      only: text,
      render: text,
      quick: flag,
      list: flag,
      help: flag,
    },
  })
  const chosen = values.quick ? quick : full
  const numbers = ['rounds', 'seconds', 'minutes'].filter((name) => values[name] !== undefined)
  for (const name of numbers) if (!(Number(values[name]) > 0)) throw new Error(`--${name}: expected a number above 0`)
  return {
    ...chosen,
    ...Object.fromEntries(numbers.map((name) => [name, Number(values[name])])),
    render: values.render ?? null,
    ...{ quick: values.quick, list: values.list, help: values.help },
    only: values.only === undefined ? null : values.only.split(','),
    commandLine: ['npm run bench', ...(args.length > 0 ? ['--', ...args] : [])].join(' '),
  }
}
