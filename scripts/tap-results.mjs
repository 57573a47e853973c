/**
 * Reads TAP 14 as tap prints it (subtests indented by four spaces) and counts the innermost tests: a file or a group
 * is not a result of its own, and an assertion is part of its test. What fails outside of them (a time-out, a crash
 * while a file loads, a teardown) counts as a failure too.
 */
const point = /^( *)(not )?ok \d+(?: - (.*))?$/
const subtest = /^( *)# Subtest: (.*)$/
/** A test that was not run, for whatever reason; a `#` in a test's name is escaped, and `# time=` is no directive. */
const directive = /(?<!\\)# [A-Z]{4}\b/

/** @returns {{ passed: number, failed: number, skipped: number, failures: { name: string, details: string }[] }} */
export function readTap(text) {
  const results = { passed: 0, failed: 0, skipped: 0, failures: [] }
  const open = [newGroup('')]
  const lines = text.split('\n')
  for (let at = 0; at < lines.length; at++) {
    const opened = subtest.exec(lines[at])
    if (opened) {
      open.length = depthOf(opened[1]) + 1
      open.push(newGroup(opened[2]))
      continue
    }
    const found = point.exec(lines[at])
    if (!found) continue
    const { details, next } = detailsAfter(lines, at + 1)
    at = next - 1
    const name = (found[3] ?? '').replace(/ *# time=.*$/, '')
    takePoint(results, open, { depth: depthOf(found[1]), ok: !found[2], name, details })
  }
  results.failed += open[0].failed
  return results
}

const newGroup = (name) => ({ name, groups: 0, failed: 0, failuresInside: 0 })

const depthOf = (indent) => indent.length / 4

/** The block between `---` and `...` behind a test point; a line in it may look like anything. */
function detailsAfter(lines, at) {
  if (lines[at]?.trim() !== '---') return { details: '', next: at }
  const indent = lines[at].indexOf('---')
  const close = lines[at].replace('---', '...')
  const end = lines.indexOf(close, at)
  const next = end < 0 ? lines.length : end
  return {
    details: lines
      .slice(at + 1, next)
      .map((line) => line.slice(indent))
      .join('\n'),
    next,
  }
}

function takePoint(results, open, { depth, ok, name, details }) {
  const closed = open[depth + 1]
  open.length = depth + 1
  const parent = open[depth]
  if (directive.test(name)) results.skipped++
  else if (closed) closeGroup(results, parent, closed, ok)
  else if (!ok) parent.failed++
  if (ok || directive.test(name)) return
  const alreadyTold = closed && closed.failuresInside > 0
  for (const group of open) group.failuresInside++
  if (alreadyTold) return
  const path = [...open.slice(1).map((group) => group.name), name].join(' > ')
  results.failures.push({ name: path, details })
}

function closeGroup(results, parent, closed, ok) {
  parent.groups++
  if (closed.groups === 0) {
    if (ok) results.passed++
    else results.failed++
  } else if (closed.failed > 0) {
    results.failed += closed.failed
  } else if (!ok && closed.failuresInside === 0) {
    results.failed++
  }
}
