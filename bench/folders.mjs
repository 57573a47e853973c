/** Folders for the data of this run, under the system's folder for temporary files; all gone when the driver ends. */
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'

export const runFolder = mkdtempSync(path.join(os.tmpdir(), 'effectonce-bench-'))
process.on('exit', () => rmSync(runFolder, { recursive: true, force: true }))

export const newFolder = () => mkdtempSync(path.join(runFolder, 'data-'))
