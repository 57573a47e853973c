/** Where a Valkey server is, for the tests that run on it. */
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { projectFolder } from '../../src/paths.ts'

/** Where `scripts/setup.sh --checks` puts the one of PyPI; else the one of the system. */
const programs = [path.join(projectFolder, '.cache/valkey/valkey-server'), 'valkey-server']

const runs = (program: string): boolean => spawnSync(program, ['--version']).status === 0

export const valkeyServer: string | undefined = programs.find(runs)
