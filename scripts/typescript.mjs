/**
 * `node --import ./scripts/typescript.mjs`: reads TypeScript, as the tests run it. swc leaves the types out; its own loader
 * for Node loads the whole compiler to read one file of settings, which takes every process of every test half a second.
 */
import { register } from 'node:module'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'
import { transform } from '@swc/core'

const options = {
  jsc: { parser: { syntax: 'typescript' }, target: 'es2023' },
  module: { type: 'es6' },
  ...{ sourceMaps: 'inline', inlineSourcesContent: true, swcrc: false, configFile: false },
}

/** Called by Node on a thread of its own. */
export async function load(url, context, next) {
  if (!url.startsWith('file:') || !url.endsWith('.ts') || url.includes('/node_modules/')) return next(url, context)
  const filename = fileURLToPath(url)
  const { code } = await transform(await readFile(filename, 'utf8'), { ...options, filename })
  return { format: 'module', source: code, shortCircuit: true }
}

if (isMainThread) {
  process.setSourceMapsEnabled(true)
  register(import.meta.url)
}
