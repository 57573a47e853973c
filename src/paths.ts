/** Where the project's own files are, from the sources as from `dist`. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

function folderOfNearest(file: string, from: string): string {
  if (existsSync(join(from, file))) return from
  const above = dirname(from)
  assert(above !== from, `${file} stands above the sources`)
  return folderOfNearest(file, above)
}

/** The folder of the nearest package.json. */
export const projectFolder = folderOfNearest('package.json', dirname(fileURLToPath(import.meta.url)))

const manifest = JSON.parse(readFileSync(join(projectFolder, 'package.json'), 'utf8')) as { version: string }

/** The version of this build. */
export const version = manifest.version
