/**
 * `npm run seeded -- [name …]`: is each seeded bug caught? Every `test/seeded/<name>.patch` breaks one thing in a copy of the
 * checkout, and the test that its head names must fail because of it within a minute; unbroken it must pass. A survivor is a
 * failure, and so is a patch that no longer applies. Prints what each took, and `N passed, N failed` at the end.
 *
 * The head of a patch: `Breaks:` what is wrong, `Caught by:` the test's file, and `Test:` the name of the one test in it.
 */
import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { compileText, root } from './compile.mjs'

const caughtWithinMs = 60_000
/** An unbroken test is in no hurry: it only has to pass. */
const passesWithinMs = 180_000
/** Each works in its own copy. */
const sideBySide = 3
/** Models draw the same calls every time, and do not shrink what they find. */
const drawn = { FC_SEED: '1', FC_STOP: '1' }

const folder = path.join(root, 'test/seeded')
const copied = ['src', 'routes', 'lua', 'test', 'package.json', 'openapi.yaml']

function readPatch(file) {
  const text = readFileSync(path.join(folder, file), 'utf8')
  const head = (name) => new RegExp(`^${name}: (.+)$`, 'm').exec(text)?.[1]
  const [breaks, test, only] = [head('Breaks'), head('Caught by'), head('Test')]
  if (!breaks || !test || !only) throw new Error(`${file} does not say what it breaks, or which test catches it`)
  const changed = [...text.matchAll(/^\+\+\+ b\/(.+)$/gm)].map(([, name]) => name)
  return { name: path.basename(file, '.patch'), file: path.join(folder, file), breaks, test, only, changed }
}

/** Plain JavaScript starts a second faster than TypeScript does through tap's loader. */
function compile(copy, file) {
  const source = readFileSync(path.join(copy, file), 'utf8')
  writeFileSync(path.join(copy, file.replace(/\.ts$/, '.js')), compileText(source))
}

const isTypescript = (file) => file.endsWith('.ts') && !file.endsWith('.d.ts')

function typescriptFiles(copy) {
  const all = readdirSync(copy, { recursive: true }).map(String)
  return all.filter((file) => isTypescript(file) && !file.startsWith('node_modules'))
}

function makeCopies(into) {
  const first = path.join(into, '0')
  for (const name of copied) cpSync(path.join(root, name), path.join(first, name), { recursive: true })
  for (const file of typescriptFiles(first)) compile(first, file)
  const copies = Array.from({ length: sideBySide }, (_, at) => path.join(into, String(at)))
  for (const copy of copies.slice(1)) cpSync(first, copy, { recursive: true })
  for (const copy of copies) symlinkSync(path.join(root, 'node_modules'), path.join(copy, 'node_modules'))
  return copies
}

/** Runs to the end, to the deadline, or to the first failed test. */
function run(program, args, options, deadlineMs) {
  return new Promise((resolve) => {
    const startMs = performance.now()
    const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    const deadline = setTimeout(() => child.kill('SIGKILL'), deadlineMs)
    let said = ''
    const take = (text) => (said += text)
    child.stdout.setEncoding('utf8').on('data', take)
    child.stderr.setEncoding('utf8').on('data', take)
    child.on('error', (error) => resolve({ code: 127, said: String(error), seconds: 0 }))
    child.on('close', (code, signal) => {
      clearTimeout(deadline)
      resolve({ code: code ?? signal, said, seconds: (performance.now() - startMs) / 1000 })
    })
  })
}

/** Of one test file the one test; its first failure ends it. */
function runTest(copy, { test, only }, deadlineMs) {
  const grep = `/${only.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')}/`
  const tap = { TAP: '1', TAP_BAIL: '1', TAP_GREP: grep, TAP_TIMEOUT: String(deadlineMs / 1000) }
  const env = { ...process.env, ...drawn, ...tap, NO_COLOR: '1' }
  return run(process.execPath, [test.replace(/\.ts$/, '.js')], { cwd: copy, env }, deadlineMs)
}

/** `git apply`, and the JavaScript of what it changed. */
async function patch(copy, { file, changed }, ...options) {
  const env = { ...process.env, GIT_CEILING_DIRECTORIES: path.dirname(copy) }
  const { code, said } = await run('git', ['apply', ...options, file], { cwd: copy, env }, caughtWithinMs)
  if (code === 0) for (const name of changed.filter(isTypescript)) compile(copy, name)
  return { applies: code === 0, said }
}

const broken = /SyntaxError|ERR_MODULE_NOT_FOUND|Error compiling script|Script attempted to access nonexistent global/
/** Of a machine too busy to connect in time, not of the bug. */
const unreached = /Redis cannot be reached|redis-server did not start/
const failedTest = /^ *not ok .*/m

/** Whether the test fails because of the bug; a failure that says nothing is no answer. */
async function failsFor(copy, bug) {
  const untilMs = performance.now() + caughtWithinMs
  for (;;) {
    const outcome = await runTest(copy, bug, untilMs - performance.now())
    const failed = outcome.code !== 0 && failedTest.test(outcome.said)
    if (!(failed && unreached.test(outcome.said))) return { failed, said: outcome.said }
  }
}

async function isCaught(copy, bug) {
  const { applies, said: refusal } = await patch(copy, bug)
  if (!applies) return { ok: false, note: 'the patch does not apply', said: refusal }
  const startMs = performance.now()
  const { failed, said } = await failsFor(copy, bug)
  const seconds = (performance.now() - startMs) / 1000
  await patch(copy, bug, '-R')
  const note = `${seconds.toFixed(1).padStart(5)} s`
  if (broken.test(said)) return { ok: false, note: `${note}  breaks more than it says:`, said, seconds }
  if (!failed)
    return { ok: false, note: `${note}  SURVIVES ${bug.test}: ${bug.only}:`, said: said.slice(-2000), seconds }
  return { ok: true, note, said: failedTest.exec(said)[0].trim().slice(0, 300), seconds }
}

/** The unbroken copy passes; an empty run does not count. */
async function passes(copy, command) {
  const { code, said, seconds } = await runTest(copy, command, passesWithinMs)
  if (unreached.test(said)) return passes(copy, command)
  const ok = code === 0 && new RegExp(`^ok \\d+ - .*# time`, 'm').test(said)
  return { ok, note: `${seconds.toFixed(1).padStart(5)} s`, said }
}

/** Everything in the queue, each by the next copy that is free. */
async function spread(copies, queue, work) {
  const waiting = [...queue]
  const results = []
  const worker = async (copy) => {
    for (let item = waiting.shift(); item; item = waiting.shift()) results.push(await work(copy, item))
  }
  await Promise.all(copies.map(worker))
  return results
}

const distinct = (bugs) => [...new Map(bugs.map((bug) => [`${bug.test} ${bug.only}`, bug])).values()]

/** The bugs of these names, or all. */
function chosenBugs(names) {
  const files = readdirSync(folder).filter((file) => file.endsWith('.patch'))
  const all = files.toSorted().map(readPatch)
  const unknown = names.filter((name) => !all.some((bug) => bug.name === name))
  if (unknown.length > 0) throw new Error(`No such seeded bug: ${unknown.join(', ')}`)
  return names.length === 0 ? all : all.filter(({ name }) => names.includes(name))
}

/** Models draw other calls here than the tests did. */
const drawsItsOwn = ({ test }) => test.startsWith('test/models/')

/**
 * `tell` takes a line for each bug, and for those that were named what the test said. `testsPassed`: the tests have just passed
 * unbroken, and are not run so again but where chance has a part. Answers how many were caught and how
 * many tests passed unbroken, how many were not, and how long the slowest took.
 */
export async function runSeeded(names, tell, testsPassed = false) {
  const bugs = chosenBugs(names)
  const into = mkdtempSync(path.join(os.tmpdir(), 'effectonce-seeded-'))
  const told = (verdict, title, outcome) => {
    const { ok, note, said } = outcome
    tell(`${ok ? verdict : 'FAILED'} ${note}  ${title}`)
    if (!ok || (names.length > 0 && verdict === 'caught')) tell(said.trimEnd().replace(/^/gm, '  '))
    return outcome
  }
  try {
    const copies = makeCopies(into)
    const doubtful = distinct(bugs).filter((bug) => !testsPassed || drawsItsOwn(bug))
    const unbroken = await spread(copies, doubtful, async (copy, bug) =>
      told('passes', `unbroken: ${bug.test}: ${bug.only}`, await passes(copy, bug)),
    )
    const broken = await spread(copies, bugs, async (copy, bug) =>
      told('caught', `${bug.name}: ${bug.breaks}`, await isCaught(copy, bug)),
    )
    const all = [...unbroken, ...broken]
    const good = all.filter(({ ok }) => ok).length
    const caught = broken.filter(({ ok }) => ok)
    const slowest = Math.max(0, ...caught.map(({ seconds }) => seconds))
    return { passed: good, failed: all.length - good, caught: caught.length, slowest }
  } finally {
    rmSync(into, { recursive: true, force: true })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { passed, failed } = await runSeeded(process.argv.slice(2), (line) => process.stdout.write(`${line}\n`))
  process.stdout.write(`${passed} passed, ${failed} failed\n`)
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0
}
