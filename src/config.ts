/**
 * The configuration: a YAML file and the environment become one frozen `Config`. Nothing else reads `process.env`.
 * docs/effectonce.yaml shows every key with its default; src/config/schema.ts holds the bounds.
 */
import { readFileSync } from 'node:fs'
import { isLoopback, readServer, variable, type Environment } from './config/environment.ts'
import { checkRules } from './config/rules.ts'
import { resolveKeys, resolveRedis } from './config/secrets.ts'
import type { Config } from './config/types.ts'
import { readConfigFile, showPath, type Path } from './config/yaml.ts'
import { limits } from './limits.ts'

export { builtInEffectTypes } from './config/schema.ts'
export type { Config } from './config/types.ts'
export {
  effectTypeConfig,
  jobTypeConfig,
  maxAttempts,
  type EffectTypeConfig,
  type JobTypeConfig,
  usesPrivateRedis,
} from './config/resolve.ts'

/** Every fault of a configuration, one a line: `file:line: path: message`, or `environment: NAME: message`. */
export class ConfigError extends Error {
  readonly faults: readonly string[]

  constructor(faults: readonly string[]) {
    super(faults.join('\n'))
    this.name = 'ConfigError'
    this.faults = faults
  }
}

/** The configuration of this process. `fileName` is CONFIG_FILE unless given; without one all defaults hold. */
export function loadConfig(env: Environment = process.env, fileName = variable(env, 'CONFIG_FILE')): Config {
  return fileName === undefined ? parseConfig('', env, null) : parseConfig(readText(fileName), env, fileName)
}

function readText(fileName: string): string {
  try {
    const bytes = readFileSync(fileName)
    if (bytes.length > limits.configFileBytesMax) throw new Error(`larger than ${limits.configFileBytesMax} bytes`)
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new ConfigError([`${fileName}: cannot be read: ${error instanceof Error ? error.message : String(error)}`])
  }
}

/**
 * The configuration in `text`, under the variables of `env`. `fileName` (null: no file) is used in messages and kept as
 * `server.config_file`. Throws ConfigError with every fault that was found.
 */
export function parseConfig(text: string, env: Environment, fileName: string | null): Config {
  const faults: string[] = []
  const inFile = (line: number, path: Path, message: string): void => {
    const place = path.length === 0 ? '' : `${showPath(path)}: `
    faults.push(`${fileName ?? 'configuration'}:${line}: ${place}${message}`)
  }
  const { settings, lineOf } = readConfigFile(text, ({ line, path, message }) => inFile(line, path, message))
  const report = (path: Path, message: string): void => {
    if (isVariable(path)) faults.push(`environment: ${showPath(path)}: ${message}`)
    else inFile(lineOf(path), path, message)
  }
  const server = readServer(env, fileName, report)
  if (settings === undefined) throw new ConfigError(faults)
  const config: Config = freeze({
    ...settings,
    redis: resolveRedis(settings.redis, env, report),
    auth: { ...settings.auth, keys: resolveKeys(settings.auth.keys, report) },
    server,
  })
  checkRules(config, env, report)
  if (faults.length > 0) throw new ConfigError(faults)
  return config
}

/** Keys of the file are in lower case. */
const isVariable = (path: Path): boolean => /^[A-Z_]+$/.test(String(path[0]))

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) for (const member of Object.values(value)) freeze(member)
  return Object.freeze(value)
}

const mask = <T extends string | null>(secret: T): T | '***' => (secret === null ? secret : '***')

/** The configuration fit to be shown: no password, and of an API key's digest only the first eight digits. */
export function maskSecrets(config: Config): Config {
  const { redis, auth } = config
  return freeze({
    ...config,
    redis: { ...redis, password: mask(redis.password), sentinel_password: mask(redis.sentinel_password) },
    auth: { ...auth, keys: auth.keys.map((key) => ({ ...key, sha256: `${key.sha256.slice(0, 8)}…` })) },
  })
}

/** Where the service listens, and what to warn of at start-up. `port` is the one bound when 0 was asked for. */
export type Binding = { url: string; warning: string | null }

export function describeBinding({ server, auth }: Config, port: number = server.port): Binding {
  const host = server.host.includes(':') ? `[${server.host}]` : server.host
  const open = 'No API key is configured: everybody is operator of namespace default'
  const reach = isLoopback(server.host) ? 'on this machine only' : 'from every machine that reaches this address'
  return { url: `http://${host}:${port}`, warning: auth.keys.length > 0 ? null : `${open}, ${reach}.` }
}
