/**
 * `node --import ./scripts/typescript.mjs`: reads TypeScript, as the tests run it. swc leaves the types out; its own loader
 * for Node loads the whole compiler to read one file of settings, which takes every process of every test half a second.
 * What has been compiled is kept in .tap/typescript, by its text and the compiler's.
 */
import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { register } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMainThread, threadId } from 'node:worker_threads'

const compiler = path.join(import.meta.dirname, 'compile.mjs')
const compilerText = readFileSync(compiler, 'utf8')
const folder = path.join(import.meta.dirname, '../.tap/typescript')

/** Several processes may compile the same file: each puts a whole one in its place. */
async function keep(file, code) {
  const mine = `${file}.${process.pid}.${threadId}`
  await mkdir(folder, { recursive: true })
  await writeFile(mine, code)
  await rename(mine, file)
}

async function compiled(filename) {
  const text = await readFile(filename, 'utf8')
  const file = path.join(folder, hash('sha256', JSON.stringify([filename, text, compilerText])))
  try {
    return await readFile(file, 'utf8')
  } catch {
    const { compileInPlace } = await import(compiler)
    const code = compileInPlace(text, filename)
    await keep(file, code)
    return code
  }
}

/** Called by Node on a thread of its own. */
export async function load(url, context, next) {
  if (!url.startsWith('file:') || !url.endsWith('.ts') || url.includes('/node_modules/')) return next(url, context)
  return { format: 'module', source: await compiled(fileURLToPath(url)), shortCircuit: true }
}

if (isMainThread) {
  process.setSourceMapsEnabled(true)
  register(import.meta.url)
}
