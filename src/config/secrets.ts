/** What the file only points at: credentials in URLs, in files of their own and in REDIS_PASSWORD. */
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import type { ApiKey } from '../auth.ts'
import { variable, type Environment } from './environment.ts'
import type { FileConfig } from './schema.ts'
import type { Path, Report } from './yaml.ts'

/** `url` never holds credentials: they are in `username` and `password`. All of url, sentinels and cluster null: the private server. */
export type RedisConfig = Omit<FileConfig['redis'], 'password_file' | 'sentinel_password_file'>

type RedisUrl = { url: string | null; username: string | null; password: string | null }
const noUrl: RedisUrl = { url: null, username: null, password: null }

/** The file's `redis` with REDIS_URL and REDIS_PASSWORD over it, and passwords read from their files. */
export function resolveRedis(file: FileConfig['redis'], env: Environment, report: Report): RedisConfig {
  const { password_file, sentinel_password_file, ...redis } = file
  const urlFromEnv = variable(env, 'REDIS_URL')
  const inFile = splitUrl(file.url, (message) => report(['redis', 'url'], message))
  const inEnv = splitUrl(urlFromEnv ?? null, (message) => report(['REDIS_URL'], message))
  const places = urlFromEnv ? { ...inEnv, sentinels: null, name: null, cluster: null } : { ...redis, url: inFile.url }
  const login = urlFromEnv ? inEnv : inFile
  const passwordFromEnv = variable(env, 'REDIS_PASSWORD')
  if (!urlFromEnv) onlyOne([file.password, password_file, inFile.password], ['redis', 'password'], report)
  onlyOne([file.sentinel_password, sentinel_password_file], ['redis', 'sentinel_password'], report)
  checkTlsFiles(file.tls, report)
  const stored = passwordFromEnv || login.password ? null : secretIn(password_file, ['redis', 'password_file'], report)
  return {
    ...redis,
    ...places,
    username: login.username ?? file.username,
    password: passwordFromEnv ?? login.password ?? file.password ?? stored,
    sentinel_password:
      file.sentinel_password ?? secretIn(sentinel_password_file, ['redis', 'sentinel_password_file'], report),
  }
}

/** Each connection reads them anew: here a person is told in time, where otherwise the start or every connection fails. */
function checkTlsFiles(tls: FileConfig['redis']['tls'], report: Report): void {
  if (tls === null) return
  const path: Path = ['redis', 'tls']
  secretIn(tls.ca_file, [...path, 'ca_file'], report)
  const cert = secretIn(tls.cert_file, [...path, 'cert_file'], report)
  const key = secretIn(tls.key_file, [...path, 'key_file'], report)
  if (cert === null || key === null) return
  try {
    createSecureContext({ cert, key })
  } catch (error) {
    report(path, `cert_file and key_file cannot be used (${codeOf(error)})`)
  }
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? 'unknown error'

function onlyOne(values: (string | null)[], path: Path, report: Report): void {
  if (values.filter((value) => value !== null).length > 1) {
    report(path, 'given more than once: as itself, in a file of its own or in the URL')
  }
}

/** Takes `redis://host[:port][/db]`, `rediss://…` and `unix:///path` apart. Messages never repeat the URL. */
function splitUrl(value: string | null, fault: (message: string) => void): RedisUrl {
  if (value === null) return noUrl
  try {
    if (value.startsWith('unix:///') && value.length > 'unix:///'.length) return { ...noUrl, url: value }
    const url = new URL(value)
    if (!isRedisUrl(url)) throw new TypeError('not a Redis URL')
    const part = (text: string): string | null => (text === '' ? null : decodeURIComponent(text))
    const [username, password] = [part(url.username), part(url.password)]
    url.username = ''
    url.password = ''
    return { url: url.href, username, password }
  } catch {
    fault('expected redis://host:6379, rediss://host:6379 (each with an optional /db) or unix:///path/to/socket')
    return noUrl
  }
}

function isRedisUrl({ protocol, hostname, pathname, search, hash }: URL): boolean {
  const isTcp = protocol === 'redis:' || protocol === 'rediss:'
  return isTcp && hostname !== '' && search === '' && hash === '' && /^(\/\d*)?$/.test(pathname)
}

/** The content of a secret's file without the line break at its end; null (and a fault) when there is none to read. */
function secretIn(file: string | null, path: Path, report: Report): string | null {
  if (file === null) return null
  try {
    const secret = readFileSync(file, 'utf8').replace(/\r?\n$/, '')
    if (secret !== '') return secret
    report(path, `${file} is empty`)
  } catch (error) {
    report(path, `${file} cannot be read (${codeOf(error)})`)
  }
  return null
}

/** The file's keys, each with its digest. Keys of one name rotate: they must be one principal. */
export function resolveKeys(file: FileConfig['auth']['keys'], report: Report): ApiKey[] {
  const keys: ApiKey[] = []
  for (const [index, { sha256, sha256_file, ...key }] of file.entries()) {
    const path: Path = ['auth', 'keys', index]
    if ((sha256 === undefined) === (sha256_file === undefined)) report(path, 'expected either sha256 or sha256_file')
    const digest = sha256 ?? digestIn(sha256_file, [...path, 'sha256_file'], report)
    const twin = keys.find(({ name }) => name === key.name)
    if (twin && (twin.role !== key.role || twin.namespace !== key.namespace)) {
      report([...path, 'name'], `another key is named ${key.name}: keys of one name have one role and one namespace`)
    }
    if (digest !== null && keys.some((other) => other.sha256 === digest)) report(path, 'this key is listed before')
    if (digest !== null) keys.push({ ...key, sha256: digest })
  }
  return keys
}

function digestIn(file: string | undefined, path: Path, report: Report): string | null {
  const digest =
    secretIn(file ?? null, path, report)
      ?.trim()
      .toLowerCase() ?? null
  if (digest === null || /^[0-9a-f]{64}$/.test(digest)) return digest
  report(path, `${file} does not hold a SHA-256 of 64 hexadecimal digits`)
  return null
}
