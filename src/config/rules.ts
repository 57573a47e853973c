/** What a schema cannot say: settings that contradict each other. */
import { isLoopback, variable, type Environment } from './environment.ts'
import type { Config } from './types.ts'
import type { Path, Report } from './yaml.ts'

/** Reports every contradiction in `config`, which was read under the variables of `env`. */
export function checkRules(config: Config, env: Environment, report: Report): void {
  checkRedis(config.redis, env, report)
  checkTls(config.redis, report)
  checkBreakers(config.retry, report)
  checkFailureRules(config.failures.rules, report)
  if (!isLoopback(config.server.host) && config.auth.keys.length === 0 && !config.server.allow_anonymous) {
    report(['HOST'], 'not a loopback address and no API key is configured: add auth.keys, or set ALLOW_ANONYMOUS=true')
  }
}

function checkRedis(redis: Config['redis'], env: Environment, report: Report): void {
  const places = [redis.url, redis.sentinels, redis.cluster].filter((place) => place !== null).length
  if (places > 1) report(['redis'], 'expected only one of url, sentinels and cluster')
  if ((redis.sentinels === null) !== (redis.name === null)) report(['redis'], 'sentinels and name belong together')
  if (redis.sentinel_password !== null && redis.sentinels === null) {
    report(['redis', 'sentinel_password'], 'has no effect without sentinels')
  }
  if (places > 0) return
  for (const key of ['username', 'password', 'tls'] as const) {
    const fromEnv = key === 'password' && variable(env, 'REDIS_PASSWORD') !== undefined
    const path = fromEnv ? ['REDIS_PASSWORD'] : ['redis', key]
    if (redis[key] !== null) report(path, 'has no effect on the private Redis: set redis.url or REDIS_URL')
  }
}

function checkTls({ tls, url }: Config['redis'], report: Report): void {
  if (tls === null) return
  if (url !== null && !url.startsWith('rediss:')) report(['redis', 'tls'], 'needs a URL that begins with rediss://')
  if ((tls.cert_file === null) !== (tls.key_file === null)) {
    report(['redis', 'tls'], 'cert_file and key_file belong together')
  }
}

/** More owners than failures could never open the breaker. */
function checkBreakers(retry: Config['retry'], report: Report): void {
  const base = retry.circuit_breaker
  const check = (breaker: Partial<typeof base>, path: Path): void => {
    const { min_distinct_owners, failure_threshold } = { ...base, ...breaker }
    if (min_distinct_owners > failure_threshold) {
      report([...path, 'min_distinct_owners'], `more than failure_threshold (${failure_threshold})`)
    }
  }
  check(base, ['retry', 'circuit_breaker'])
  for (const [name, { circuit_breaker }] of Object.entries(retry.job_types)) {
    if (circuit_breaker) check(circuit_breaker, ['retry', 'job_types', name, 'circuit_breaker'])
  }
}

function checkFailureRules(rules: Config['failures']['rules'], report: Report): void {
  for (const [index, { code, http_status, pattern }] of rules.entries()) {
    if (code === undefined && http_status === undefined && pattern === undefined) {
      report(['failures', 'rules', index], 'expected at least one of code, http_status and pattern')
    }
  }
}
