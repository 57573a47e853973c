/**
 * `npm run check`: everything that proves a change; `node scripts/check.mjs <part> …`: some of it. Each part prints one
 * line, and its output only when it fails. The last line counts checks and tests together: `N passed, N failed`.
 */
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { compileText } from './compile.mjs'
import { runSeeded } from './seeded.mjs'
import { readTap } from './tap-results.mjs'

/** Lines of src/ and routes/ that the tests must run, in percent. It may be raised, not lowered. */
const coverageFloor = 95
const coverageSummary = '.tap/report/coverage-summary.json'
const tapOutput = '.tap/check.tap'

/** Two at a time; then the tests, which need the build, and the processors for themselves. */
const sideBySide = 2
const checks = {
  lint: ['eslint', '--max-warnings', '0', '.'],
  types: ['tsc', '--noEmit', '-p', 'tsconfig.json'],
  build: ['tsc', '-p', 'tsconfig.build.json'],
  format: ['prettier', '--check', '--log-level', 'warn', '.'],
  dead: ['knip', '--no-config-hints'],
  imports: ['depcruise', '--config', '.dependency-cruiser.cjs', 'src', 'routes', 'test', 'scripts', 'bench'],
  lua: ['luacheck', '--no-color', '--quiet', 'lua'],
}
/** An old dist/ could keep a module alive that no longer exists. */
const before = { build: () => rmSync('dist', { recursive: true, force: true }) }
const parts = [...Object.keys(checks), 'test', 'seeded']

const root = path.dirname(import.meta.dirname)
const environment = {
  ...process.env,
  NO_COLOR: '1',
  PATH: `${path.join(root, 'node_modules/.bin')}${path.delimiter}${process.env.PATH}`,
}

async function main(wanted) {
  const unknown = wanted.filter((name) => !parts.includes(name))
  if (unknown.length > 0) {
    process.stderr.write(`No such part: ${unknown.join(', ')}. There are: ${parts.join(', ')}\n`)
    return 2
  }
  const chosen = wanted.length === 0 ? parts : parts.filter((name) => wanted.includes(name))
  const results = await runChecks(chosen.filter((name) => name in checks))
  const tests = chosen.includes('test') ? await runPart('test', runTests) : undefined
  if (tests) results.push(tests)
  if (chosen.includes('seeded')) results.push(await runPart('seeded', () => checkSeeded(tests?.failed === 0)))
  const sum = (of) => results.reduce((total, result) => total + result[of], 0)
  const skipped = sum('skipped') > 0 ? `, ${sum('skipped')} skipped` : ''
  process.stdout.write(`${sum('passed')} passed, ${sum('failed')} failed${skipped}\n`)
  return sum('failed') > 0 || sum('passed') === 0 ? 1 : 0
}

async function runChecks(names) {
  const waiting = [...names]
  const results = []
  const worker = async () => {
    for (let name = waiting.shift(); name; name = waiting.shift()) {
      before[name]?.()
      const command = checks[name]
      results.push(await runPart(name, async () => oneCheck(await run(command))))
    }
  }
  await Promise.all(Array.from({ length: sideBySide }, worker))
  return results
}

/** Prints a part's line when it ends, and what it said when it failed. */
async function runPart(name, part) {
  const start = performance.now()
  const result = await part()
  const seconds = ((performance.now() - start) / 1000).toFixed(1)
  const verdict = result.failed === 0 ? 'ok    ' : 'FAILED'
  process.stdout.write(`${name.padEnd(8)} ${verdict} ${seconds.padStart(6)} s  ${result.note ?? ''}`.trimEnd() + '\n')
  if (result.failed > 0) process.stdout.write(`${result.output.trimEnd().replace(/^/gm, '  ')}\n`)
  return result
}

const oneCheck = ({ code, stdout, stderr }) => ({
  passed: code === 0 ? 1 : 0,
  failed: code === 0 ? 0 : 1,
  skipped: 0,
  output: `${stdout}${stderr}`,
})

/** An empty run of tap ends with 0, and a run that dies early prints no failure: both are failures here. */
async function runTests() {
  rmSync(coverageSummary, { force: true })
  const { code, stdout, stderr } = await run(['tap', '--reporter=tap', '--coverage-report=json-summary'])
  const tests = readTap(stdout)
  if (existsSync('.tap')) writeFileSync(tapOutput, stdout)
  const problems = tests.failures.map(({ name, details }) => `not ok ${name}\n${details}`)
  const broken = tests.failed === 0 && (code !== 0 || tests.passed === 0)
  if (broken) problems.push(`tap ended with ${code} after ${tests.passed} tests\n${stdout.slice(-2000)}`)
  const coverage = readCoverage()
  const tooLow = coverage.percent < coverageFloor
  if (tooLow)
    problems.push(`lines covered: ${coverage.text}, at least ${coverageFloor} % are needed\n${coverage.lowest}`)
  return {
    passed: tests.passed,
    failed: tests.failed + Number(broken) + Number(tooLow),
    skipped: tests.skipped,
    note: `${tests.passed} passed, ${tests.failed} failed, ${tests.skipped} skipped; lines covered: ${coverage.text}`,
    output: `${problems.join('\n')}\n${stderr}\nEverything tap said: ${tapOutput}`,
  }
}

/** The checks are checked: what each seeded bug breaks must be noticed. */
async function checkSeeded(testsPassed) {
  const lines = []
  const { passed, failed, caught, slowest } = await runSeeded([], (line) => lines.push(line), testsPassed)
  const note = `${caught} bugs caught, each within ${slowest.toFixed(1)} s; ${failed} failed`
  return { passed, failed, skipped: 0, note, output: lines.join('\n') }
}

/** A file that no test loads is missing in the summary: if it holds more than types, its lines count as not covered. */
function readCoverage() {
  const summary = existsSync(coverageSummary) ? JSON.parse(readFileSync(coverageSummary, 'utf8')) : {}
  const files = ['src', 'routes'].flatMap(typescriptFiles).map((file) => {
    const lines = summary[path.resolve(file)]?.lines
    return { file, covered: lines?.covered ?? 0, total: lines?.total ?? linesToRun(file) }
  })
  const sum = (of) => files.reduce((total, file) => total + file[of], 0)
  const percent = sum('total') === 0 ? 100 : (100 * sum('covered')) / sum('total')
  const lowest = files
    .toSorted((a, b) => b.total - b.covered - (a.total - a.covered))
    .slice(0, 10)
    .map(({ file, covered, total }) => `${file}: ${total - covered} of ${total} lines not covered`)
  return { percent, text: `${percent.toFixed(1)} %`, lowest: lowest.join('\n') }
}

const typescriptFiles = (folder) =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true })
        .filter((name) => name.endsWith('.ts'))
        .map((name) => path.join(folder, name))
    : []

function linesToRun(file) {
  const text = readFileSync(file, 'utf8')
  const code = compileText(text).replace(/\/\*[^]*?\*\/|\/\/.*$/gm, '')
  // The mark of a module is all that is left of types.
  return /^\s*(export \{\s*\};)?\s*$/.test(code) ? 0 : text.trimEnd().split('\n').length
}

/** Runs a program of node_modules/.bin or of the system to its end. It never rejects: a missing program is a result. */
function run([program, ...args]) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
    const said = { stdout: '', stderr: '' }
    child.stdout.setEncoding('utf8').on('data', (text) => (said.stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text) => (said.stderr += text))
    child.on('error', () => {
      const remedy = 'is missing: `sh scripts/setup.sh --checks` installs what the checks need'
      resolve({ code: 127, stdout: '', stderr: `${program} ${remedy}` })
    })
    child.on('close', (code, signal) => resolve({ code: code ?? signal, ...said }))
  })
}

process.chdir(root)
process.exitCode = await main(process.argv.slice(2))
