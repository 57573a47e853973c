/** The environment variables. Each wins over the file; an empty one counts as unset. */
import { BlockList, isIP } from 'node:net'
import { limits } from '../limits.ts'
import type { Report } from './yaml.ts'

export type Environment = Readonly<Record<string, string | undefined>>

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

/** What the environment alone decides. */
export type ServerConfig = {
  host: string
  /** 0: any free port. */
  port: number
  log_level: (typeof logLevels)[number]
  data_dir: string
  /** `auto`: one per core. */
  processes: number | 'auto'
  allow_anonymous: boolean
  config_file: string | null
}

const standard: ServerConfig = {
  host: '127.0.0.1',
  port: 8000,
  log_level: 'info',
  data_dir: './data',
  processes: 1,
  allow_anonymous: false,
  config_file: null,
}

/** The value of a variable, undefined when it is unset or empty. */
export const variable = (env: Environment, name: string): string | undefined => env[name] || undefined

/** Reads HOST, PORT, LOG_LEVEL, DATA_DIR, PROCESSES and ALLOW_ANONYMOUS; a bad one is reported by its name. */
export function readServer(env: Environment, fileName: string | null, report: Report): ServerConfig {
  const read = <T>(name: string, fallback: T, parse: (value: string) => T | undefined, expected: string): T => {
    const value = variable(env, name)
    if (value === undefined) return fallback
    const parsed = parse(value)
    if (parsed === undefined) report([name], `expected ${expected}`)
    return parsed ?? fallback
  }
  return {
    host: read('HOST', standard.host, hostName, 'an IP address without brackets, or a host name'),
    port: read('PORT', standard.port, wholeUpTo(limits.portMax), `a port from 0 (any free one) to ${limits.portMax}`),
    log_level: read('LOG_LEVEL', standard.log_level, oneOf(logLevels), `one of ${logLevels.join(', ')}`),
    data_dir: read('DATA_DIR', standard.data_dir, (value) => value, 'a folder'),
    processes: read(
      'PROCESSES',
      standard.processes,
      processCount,
      `auto, or a number from 1 to ${limits.processesMax}`,
    ),
    allow_anonymous: read('ALLOW_ANONYMOUS', standard.allow_anonymous, trueOrFalse, 'true or false'),
    config_file: fileName,
  }
}

const hostName = (value: string): string | undefined =>
  isIP(value) > 0 || /^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$/.test(value) ? value : undefined

const wholeUpTo =
  (most: number) =>
  (value: string): number | undefined =>
    /^\d{1,6}$/.test(value) && Number(value) <= most ? Number(value) : undefined

const oneOf =
  <T extends string>(words: readonly T[]) =>
  (value: string): T | undefined =>
    words.find((word) => word === value)

const processCount = (value: string): number | 'auto' | undefined =>
  value === 'auto' ? 'auto' : wholeUpTo(limits.processesMax)(value) || undefined

const trueOrFalse = (value: string): boolean | undefined =>
  value === 'true' ? true : value === 'false' ? false : undefined

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** True for 127.0.0.0/8 (also as IPv4-mapped IPv6), ::1 and `localhost`. */
export function isLoopback(host: string): boolean {
  const family = isIP(host)
  return family === 0 ? host.toLowerCase() === 'localhost' : loopback.check(host, family === 6 ? 'ipv6' : 'ipv4')
}
