/** TypeScript as programs outside the tests run it: compiled into a folder of this run. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import typescript from 'typescript'

export const root = path.dirname(import.meta.dirname)
const compilerOptions = {
  target: typescript.ScriptTarget.ES2023,
  module: typescript.ModuleKind.ESNext,
  verbatimModuleSyntax: true,
  rewriteRelativeImportExtensions: true,
}

/** The JavaScript of a TypeScript file's text. */
export const compileText = (text) => typescript.transpileModule(text, { compilerOptions }).outputText

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
