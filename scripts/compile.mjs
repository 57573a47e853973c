/** TypeScript as JavaScript: of one file, or all of it in a folder of this run, for programs outside the tests. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { transformSync } from '@swc/core'

export const root = path.dirname(import.meta.dirname)
const jsc = { parser: { syntax: 'typescript' }, target: 'es2023' }
const options = { jsc, module: { type: 'es6' }, swcrc: false, configFile: false }

/** The JavaScript of a TypeScript file's text; it imports the JavaScript of the others. */
export const compileText = (text) =>
  transformSync(text, { ...options, jsc: { ...jsc, rewriteRelativeImportExtensions: true } }).code

/** The same in the place of the file `filename`, with its source map: the others are imported by their own names. */
export const compileInPlace = (text, filename) =>
  transformSync(text, { ...options, filename, sourceMaps: 'inline', inlineSourcesContent: true }).code

function compile(folder, from) {
  for (const name of readdirSync(path.join(root, from), { recursive: true })) {
    if (!name.endsWith('.ts') || name.endsWith('.d.ts') || name.endsWith('.test.ts')) continue
    const text = readFileSync(path.join(root, from, name), 'utf8')
    const target = path.join(folder, from, name.replace(/\.ts$/, '.js'))
    mkdirSync(path.dirname(target), { recursive: true })
    writeFileSync(target, compileText(text))
  }
}

/**
 * Compiles src/, routes/ and test/ and gives the folder: inside the project, so that packages and lua/ are found; of this run
 * only, so that runs do not disturb each other. It goes with the process.
 */
export function compileAll(name) {
  const folder = path.join(root, '.tap', `${name}-${process.pid}`)
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))
  for (const from of ['src', 'routes', 'test']) compile(folder, from)
  return folder
}
