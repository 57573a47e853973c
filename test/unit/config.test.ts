import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import {
  ConfigError,
  describeBinding,
  effectTypeConfig,
  jobTypeConfig,
  loadConfig,
  maskSecrets,
  maxAttempts,
  parseConfig,
} from '../../src/config.ts'
import { isLoopback } from '../../src/config/environment.ts'
import { defaults } from '../../src/config/schema.ts'
import { fileShape } from '../../src/config/yaml.ts'

type Environment = Record<string, string>
const read = (text: string, env: Environment = {}) => parseConfig(text, env, 'c.yaml')

/** The faults of a configuration; none when it loads. */
function faultsOf(text: string, env: Environment = {}): readonly string[] {
  try {
    read(text, env)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
}

const digest = (key: string) => createHash('sha256').update(key).digest('hex')
const key = (more: string, sha = digest('a')) => `auth: {keys: [{name: bot, sha256: ${sha}, role: worker${more}}]}`

const seedRetryBlock = `retry:
  max_attempts: 3
  cooldown_seconds: 60
  exponential_backoff: true
  max_cooldown_seconds: 3600
  audit_log_path: "logs/job_retry_audit"
  
  # Circuit breaker configuration
  circuit_breaker:
    enabled: true
    failure_threshold: 10
    time_window_minutes: 5
  
  # Metrics configuration
  metrics:
    enabled: true
    time_window_minutes: 60
  
  # Redis safety configuration
  redis:
    namespace: "idempotency"
    ttl_seconds: 259200  # 72 hours
    memory_budget_mb: 100
    check_eviction_policy: true
`

const { password_file: _file, sentinel_password_file: _sentinelFile, ...defaultRedis } = defaults.redis
const standard = {
  ...{ ...defaults, redis: defaultRedis },
  server: {
    ...{ host: '127.0.0.1', port: 8000, log_level: 'info', data_dir: './data', processes: 1 },
    ...{ allow_anonymous: false, config_file: 'c.yaml' },
  },
}

t.test('an empty file, null, empty sections and the block of the original package are all the defaults', async (t) => {
  for (const text of ['', '# nothing\n', 'null', '{}', 'retry:\nauth:\n  keys:\nredis:\n', seedRetryBlock]) {
    t.strictSame(read(text), standard, JSON.stringify(text.slice(0, 20)))
  }
  t.strictSame(loadConfig({}), { ...standard, server: { ...standard.server, config_file: null } })
})

t.test('what a file says reaches the configuration; the rest keeps its defaults', async (t) => {
  const text = `
redis: {url: 'redis://r:7000/2', require_safe: true, failover_grace_seconds: 0}
effects: {types: {order_placement: {lease_seconds: 0.5}}}
retry: {jitter: full, budget: {ratio: 0.5}, job_types: {order_job: {max_attempts: 5}}, redis: {memory_budget_mb: null}}
failures: {rules: [{exchange: okx, code: 51000, failure_type: BAD_REQUEST}]}`
  const config = read(text)
  t.match(config.redis, { url: 'redis://r:7000/2', require_safe: true, readiness_grace_seconds: 15 })
  t.strictSame(config.effects.types, {
    signal_consumption: { on_lease_expiry: 'reclaim' },
    order_placement: { lease_seconds: 0.5 },
  })
  t.strictSame(config.retry.budget, { ratio: 0.5, min_per_second: 1, window_seconds: 10 })
  t.strictSame(config.retry.redis, { ...defaults.retry.redis, memory_budget_mb: null })
  t.strictSame(config.failures.rules, [{ exchange: 'okx', code: 51000, failure_type: 'BAD_REQUEST' }])
})

t.test('the configuration is frozen to its depth', async (t) => {
  const config = read(key(''))
  for (const part of [config, config.retry.circuit_breaker, config.auth.keys, config.auth.keys[0], config.server]) {
    t.ok(Object.isFrozen(part))
  }
  t.ok(Object.isFrozen(maskSecrets(config).auth.keys[0]))
})

t.test('the sample file gives exactly the defaults', async (t) => {
  t.strictSame(read(readFileSync('docs/effectonce.yaml', 'utf8')), standard)
})

t.test('the sample file writes out every default, and names every key of the schema', async (t) => {
  const text = readFileSync('docs/effectonce.yaml', 'utf8')
  t.strictSame(parse(text), defaults, 'nothing left to the defaults')
  const missing = keysOf(fileShape()).filter((name) => !new RegExp(`(^|[\\s{,#-])${name}(:|[, ]|$)`, 'm').test(text))
  t.strictSame(missing, [])
  t.ok(keysOf(fileShape()).length > 70, 'the schema was walked')
})

function keysOf(shape: ReturnType<typeof fileShape>): string[] {
  const further = typeof shape.additionalProperties === 'object' ? [shape.additionalProperties] : []
  const below = [...Object.values(shape.properties ?? {}), ...further, ...(shape.anyOf ?? [])]
  if (shape.items) below.push(shape.items)
  return [...new Set([...Object.keys(shape.properties ?? {}), ...below.flatMap(keysOf)])]
}

t.test('every fault names file, line, path and what is expected', async (t) => {
  const cases: [text: string, fault: string][] = [
    ['retry:\n  max_attemps: 3', 'c.yaml:2: retry.max_attemps: unknown key; did you mean max_attempts?'],
    ['\nbinance: 1', 'c.yaml:2: binance: unknown key; known here: redis, auth, effects, retry, audit, failures'],
    ['retry:\n  max_attempts: 1\n\n  max_attempts: 2', 'c.yaml:4: this key was given before: keys must be unique'],
    ['retry:\n  max_attempts: three', 'c.yaml:2: retry.max_attempts: expected a number, got text'],
    ['retry:\n  max_attempts: 1.5', 'c.yaml:2: retry.max_attempts: expected a whole number, got a number'],
    ['retry:\n  max_attempts:', 'c.yaml:2: retry.max_attempts: expected a number, got null'],
    ['retry:\n  max_attempts: 0', 'c.yaml:2: retry.max_attempts: expected at least 1'],
    ['retry: {cooldown_seconds: 86401}', 'c.yaml:1: retry.cooldown_seconds: expected at most 86400'],
    ['retry:\n  jitter: half', 'c.yaml:2: retry.jitter: expected one of none, full, equal'],
    ['retry: 5', 'c.yaml:1: retry: expected a mapping of keys, got a whole number'],
    ['- 1', 'c.yaml:1: expected a mapping of keys, got a list'],
    ['auth: {metrics_anonymous: yes}', 'c.yaml:1: auth.metrics_anonymous: expected true or false, got text'],
    ['redis: {password: 1234}', 'c.yaml:1: redis.password: expected text, got a whole number (put it in quotes)'],
    ['retry:\n  redis: {namespace: "a{b"}', 'c.yaml:2: retry.redis.namespace: expected a prefix'],
    ['effects:\n  types:\n    Order: {}', 'c.yaml:3: effects.types.Order: expected an effect type'],
    ['effects:\n types:\n  a: {lease: 1}', 'c.yaml:3: effects.types.a.lease: unknown key'],
    ['effects: {defaults: {durability: safe}}', 'c.yaml:1: effects.defaults.durability: expected primary, fsynced or'],
    [
      'effects: {defaults: {durability: {replicated: 0}}}',
      'c.yaml:1: effects.defaults.durability.replicated: expected',
    ],
    ['retry:\n  job_types:\n    prometheus: {}', 'c.yaml:3: retry.job_types.prometheus: expected a job type'],
    ['retry:\n  job_types:\n    a:\n      jiter: full', 'c.yaml:4: retry.job_types.a.jiter: unknown key; did you mean'],
    ['auth:\n  keys:\n    - {name: a}', 'c.yaml:3: auth.keys[0].role: expected one of reader, worker, operator'],
    ['auth:\n  keys:\n    - role: worker', 'c.yaml:3: auth.keys[0].name: expected text, got nothing'],
    ['a: &x {b: 1}\nb: *y', 'c.yaml:1: Unresolved alias'],
    ['a: !secret 1', 'c.yaml:1: Unresolved tag: !secret'],
    ['retry: {', 'c.yaml:1: '],
    ['a: 1\n---\nb: 2', 'c.yaml:2: Source contains multiple documents'],
    ['failures:\n rules:\n - {exchange: okx, failure_type: TIMEOUT}', 'c.yaml:3: failures.rules[0]: expected at least'],
    ['failures: {rules: [{exchange: a, pattern: "(", failure_type: TIMEOUT}]}', 'c.yaml:1: failures.rules[0].pattern'],
    ['failures: {rules: [{exchange: a, code: 1, failure_type: OOPS}]}', 'c.yaml:1: failures.rules[0].failure_type'],
    [
      'retry:\n circuit_breaker:\n  min_distinct_owners: 11',
      'c.yaml:3: retry.circuit_breaker.min_distinct_owners: more than failure_threshold (10)',
    ],
    [
      'retry:\n job_types:\n  a: {circuit_breaker: {failure_threshold: 1, min_distinct_owners: 2}}',
      'c.yaml:3: retry.job_types.a.circuit_breaker.min_distinct_owners: more than failure_threshold (1)',
    ],
  ]
  for (const [text, fault] of cases) {
    const faults = faultsOf(text)
    t.ok(
      faults.some((line) => line.startsWith(fault)),
      `${fault} (got ${faults.join(' | ')})`,
    )
  }
})

t.test('the line of a value behind an alias is that of its anchor', async (t) => {
  const text = 'effects:\n  defaults: &d\n    lease_seconds: 0\n  types:\n    a: *d'
  t.match(faultsOf(text), [/c\.yaml:3: effects\.defaults/, /c\.yaml:3: effects\.types\.a\.lease_seconds/])
})

t.test('all faults of file and environment come at once', async (t) => {
  const faults = faultsOf('retry:\n  max_attempts: 0\n  jitter: x\nfoo: 1', { PORT: 'x', LOG_LEVEL: 'loud' })
  t.equal(faults.length, 5)
  t.equal(new ConfigError(faults).message, faults.join('\n'))
})

t.test('a bad variable is named', async (t) => {
  const bad: [name: string, value: string][] = [
    ...(['-1', '65536', '80a', '1.5', ' 80'] as const).map((value): [string, string] => ['PORT', value]),
    ...(['[::1]', 'a b', 'http://x'] as const).map((value): [string, string] => ['HOST', value]),
    ...(['0', '-1', '257', 'all'] as const).map((value): [string, string] => ['PROCESSES', value]),
    ...[['LOG_LEVEL', 'INFO'] as [string, string], ['ALLOW_ANONYMOUS', '1'] as [string, string]],
    ...(
      [
        'http://x',
        'redis://',
        'redis:h',
        'redis://h/a',
        'redis://h?a=1',
        'redis://h:99999',
        'unix:///',
        'unix:/r',
        'r',
      ] as const
    ).map((value): [string, string] => ['REDIS_URL', value]),
  ]
  for (const [name, value] of bad) t.match(faultsOf('', { [name]: value })[0], `environment: ${name}: expected`, value)
})

t.test('variables reach the configuration; an empty one counts as unset', async (t) => {
  const env = { HOST: '::1', PORT: '0', LOG_LEVEL: 'warn', DATA_DIR: '/var/d', ALLOW_ANONYMOUS: 'true' }
  t.match(read('', env).server, { host: '::1', port: 0, log_level: 'warn', data_dir: '/var/d', allow_anonymous: true })
  const names = ['HOST', 'PORT', 'REDIS_URL', 'REDIS_PASSWORD', 'DATA_DIR', 'LOG_LEVEL', 'PROCESSES', 'ALLOW_ANONYMOUS']
  t.strictSame(read('', Object.fromEntries(names.map((name) => [name, '']))), standard)
  t.equal(loadConfig({ CONFIG_FILE: '' }).server.config_file, null)
})

t.test('CONFIG_FILE is read; one that cannot be read is a fault', async (t) => {
  const dir = t.testdir({ 'c.yaml': 'retry: {max_attempts: 7}', 'latin1.yaml': Buffer.from([0x61, 0xe9]) })
  const CONFIG_FILE = join(dir, 'c.yaml')
  const config = loadConfig({ CONFIG_FILE })
  t.equal(config.retry.max_attempts, 7)
  t.equal(config.server.config_file, CONFIG_FILE)
  t.throws(() => loadConfig({ CONFIG_FILE: join(dir, 'none.yaml') }), { name: 'ConfigError', message: /ENOENT/ })
  t.throws(() => loadConfig({ CONFIG_FILE: join(dir, 'latin1.yaml') }), { name: 'ConfigError' })
  writeFileSync(join(dir, 'large.yaml'), '#'.repeat(1024 * 1024 + 1))
  t.throws(() => loadConfig({ CONFIG_FILE: join(dir, 'large.yaml') }), { name: 'ConfigError', message: /larger than/ })
})

t.test('a Redis URL is taken in each of its forms, its credentials taken out of it', async (t) => {
  for (const url of [
    'redis://h',
    'redis://h:1/2',
    'rediss://[::1]:6379',
    'unix:///run/r.sock',
    'unix:///with space/r.sock',
  ]) {
    t.equal(read(`redis: {url: "${url}"}`).redis.url, url)
  }
  t.match(read('', { REDIS_URL: 'redis://me:p%40ss@h:1/2' }).redis, {
    ...{ url: 'redis://h:1/2', username: 'me', password: 'p@ss' },
  })
})

t.test('REDIS_URL and REDIS_PASSWORD win over the file', async (t) => {
  const file = 'redis: {url: "redis://f:pw@file", username: u}'
  t.match(read(file).redis, { url: 'redis://file', username: 'f', password: 'pw' })
  t.match(read(file, { REDIS_PASSWORD: 'e' }).redis, { url: 'redis://file', password: 'e' })
  t.match(read(file, { REDIS_URL: 'redis://env' }).redis, { url: 'redis://env', username: 'u', password: null })
  t.match(read('', { REDIS_URL: 'redis://:x@env', REDIS_PASSWORD: 'e' }).redis, { password: 'e' })
  const sentinels = 'redis: {sentinels: [{host: a}], name: m}'
  t.match(read(sentinels, { REDIS_URL: 'redis://env' }).redis, { url: 'redis://env', sentinels: null, name: null })
})

t.test('a password may stand in a file of its own, and only in one place', async (t) => {
  const dir = t.testdir({ pw: ' se cret \n', empty: '\n' })
  const redis = (more: string) => `redis: {url: "redis://h", ${more}}`
  t.equal(read(redis(`password_file: ${dir}/pw`)).redis.password, ' se cret ')
  t.equal(read(redis(`password_file: ${dir}/none`), { REDIS_PASSWORD: 'e' }).redis.password, 'e')
  t.match(faultsOf(redis(`password_file: ${dir}/none`)), [
    /c\.yaml:1: redis\.password_file: .* cannot be read \(ENOENT\)/,
  ])
  t.match(faultsOf(redis(`password_file: ${dir}/empty`)), [/is empty/])
  t.match(faultsOf(redis(`password: a, password_file: ${dir}/pw`)), [/redis\.password: given more than once/])
  t.match(faultsOf('redis: {url: "redis://:a@h", password: b}'), [/given more than once/])
})

t.test('contradictions about Redis are faults, never ignored', async (t) => {
  t.match(faultsOf('redis: {password: a}'), [/redis\.password: has no effect on the private Redis/])
  const REDIS_PASSWORD = 'e'
  t.match(faultsOf('', { REDIS_PASSWORD }), [/^environment: REDIS_PASSWORD: has no effect on the private Redis/])
  t.match(faultsOf('redis: {password: a}', { REDIS_PASSWORD }), [/^environment: REDIS_PASSWORD: has no effect/])
  t.match(faultsOf('redis: {tls: {}}'), [/redis\.tls: has no effect/])
  t.match(faultsOf('redis: {url: "redis://h", tls: {}}'), [/redis\.tls: needs a URL that begins with rediss/])
  t.match(faultsOf('redis: {url: "rediss://h", tls: {cert_file: a}}').join(), /belong together/)
  t.match(faultsOf('redis: {url: "redis://h", name: a}'), [/sentinels and name belong together/])
  t.match(faultsOf('redis: {url: "redis://h", sentinel_password: a}'), [/has no effect without sentinels/])
  t.match(faultsOf('redis: {url: "redis://h", cluster: [{host: a}]}').join(), /only one of url, sentinels and cluster/)
})

t.test(
  'a file of TLS that cannot be read or used is a fault with its line, not a start that fails later',
  async (t) => {
    const dir = t.testdir({ 'ca.pem': 'a', empty: '\n', not: 'a key' })
    const tls = (more: string) => `redis:\n  url: "rediss://h"\n  tls:\n    ${more}\n`
    t.strictSame(read(tls(`ca_file: ${dir}/ca.pem`)).redis.tls, {
      ...{ ca_file: `${dir}/ca.pem`, cert_file: null, key_file: null, servername: null },
    })
    t.match(faultsOf(tls(`ca_file: ${dir}/none`)), [/^c\.yaml:4: redis\.tls\.ca_file: .* cannot be read \(ENOENT\)$/])
    t.match(faultsOf(tls(`ca_file: ${dir}`)), [/redis\.tls\.ca_file: .* cannot be read \(EISDIR\)/])
    t.match(faultsOf(tls(`ca_file: ${dir}/empty`)), [/redis\.tls\.ca_file: .* is empty/])
    t.match(faultsOf(tls(`cert_file: ${dir}/none\n    key_file: ${dir}/gone`)), [
      /^c\.yaml:4: redis\.tls\.cert_file: .*none cannot be read \(ENOENT\)$/,
      /^c\.yaml:5: redis\.tls\.key_file: .*gone cannot be read \(ENOENT\)$/,
    ])
    t.match(faultsOf(tls(`cert_file: ${dir}/not\n    key_file: ${dir}/not`)), [
      /^c\.yaml:3: redis\.tls: cert_file and key_file cannot be used \(ERR_OSSL_/,
    ])
  },
)

t.test('one process, several, and one per core load', async (t) => {
  for (const PROCESSES of ['1', '2', 'auto']) t.strictSame(faultsOf('', { PROCESSES }), [])
})

t.test('every topology and every durability loads', async (t) => {
  for (const place of ['sentinels: [{host: a}], name: m', 'cluster: [{host: a}]', 'url: redis://a']) {
    t.strictSame(faultsOf(`redis: {${place}}`), [])
  }
  for (const durability of ['primary', 'fsynced', '{replicated: 2}']) {
    t.strictSame(faultsOf(`effects: {defaults: {durability: ${durability}}}`), [])
    t.strictSame(faultsOf(`effects: {types: {a: {durability: ${durability}}}}`), [])
  }
})

t.test('an address that is not loopback needs a key or ALLOW_ANONYMOUS', async (t) => {
  for (const HOST of ['0.0.0.0', '::', '10.1.2.3', 'example.org', '128.0.0.1']) {
    t.match(faultsOf('', { HOST }), [/^environment: HOST: not a loopback address/])
    t.strictSame(faultsOf(key(''), { HOST }), [])
    t.strictSame(faultsOf('', { HOST, ALLOW_ANONYMOUS: 'true' }), [])
  }
  for (const HOST of ['127.0.0.1', '127.9.9.9', '::1', 'localhost']) t.strictSame(faultsOf('', { HOST }), [])
  t.ok(isLoopback('::ffff:127.0.0.1'))
  t.notOk(isLoopback('::ffff:10.0.0.1'))
  t.notOk(isLoopback('127.0.0.1.example.org'))
})

t.test('start-up is told the address, and warned where everybody is let in', async (t) => {
  t.match(describeBinding(read('', { HOST: '::1', PORT: '0' }), 81), {
    url: 'http://[::1]:81',
    warning: /this machine/,
  })
  const open = read('', { HOST: '0.0.0.0', ALLOW_ANONYMOUS: 'true' })
  t.match(describeBinding(open), { url: 'http://0.0.0.0:8000', warning: /every machine/ })
  t.equal(describeBinding(read(key(''))).warning, null)
})

t.test('API keys: digests in either case or in a file, in namespace default unless told', async (t) => {
  t.strictSame(read(key('', digest('a').toUpperCase())).auth.keys, [
    { name: 'bot', sha256: digest('a'), role: 'worker', namespace: 'default' },
  ])
  const dir = t.testdir({ sha: ` ${digest('b').toUpperCase()} \n`, bad: 'abc' })
  const fromFile = (file: string) => `auth: {keys: [{name: b, sha256_file: ${dir}/${file}, role: reader}]}`
  t.equal(read(fromFile('sha')).auth.keys[0]?.sha256, digest('b'))
  t.match(faultsOf(fromFile('bad')), [/auth\.keys\[0\]\.sha256_file: .* does not hold a SHA-256/])
  t.match(faultsOf(fromFile('none')), [/cannot be read/])
  t.match(faultsOf('auth: {keys: [{name: b, role: reader}]}'), [/expected either sha256 or sha256_file/])
  t.match(faultsOf(key(', sha256_file: /x')).join(), /expected either sha256 or sha256_file/)
  for (const sha of ['abc', `${digest('a')}0`, `g${digest('a').slice(1)}`]) t.match(faultsOf(key('', sha)), [/SHA-256/])
  t.match(faultsOf(key(', namespace: A')), [/auth\.keys\[0\]\.namespace: expected a namespace/])
})

t.test('two keys of one name are a rotation of one principal; one key twice is a fault', async (t) => {
  const two = (first: string, second: string) => `auth:\n  keys:\n    - {${first}}\n    - {${second}}`
  const bot = (sha: string, role = 'worker') => `name: bot, sha256: ${sha}, role: ${role}`
  t.equal(read(two(bot(digest('a')), bot(digest('b')))).auth.keys.length, 2)
  t.match(faultsOf(two(bot(digest('a')), bot(digest('b'), 'reader'))), [
    /c\.yaml:4: auth\.keys\[1\]\.name: another key/,
  ])
  t.match(faultsOf(two(bot(digest('a')), `name: other, sha256: ${digest('a').toUpperCase()}, role: reader`)), [
    /c\.yaml:4: auth\.keys\[1\]: this key is listed before/,
  ])
})

t.test('secrets are masked, and no fault repeats one', async (t) => {
  const secret = 'hunter2secret'
  const masked = maskSecrets(read(`${key('')}\nredis: {url: "redis://u:${secret}@h"}`))
  t.notMatch(JSON.stringify(masked), secret)
  t.notMatch(JSON.stringify(masked), digest('a'))
  t.match(masked.redis, { url: 'redis://h', password: '***' })
  t.equal(maskSecrets(read('')).redis.password, null)
  const faults = [
    faultsOf(`redis: {url: "http://:${secret}@h"}`),
    faultsOf('', { REDIS_URL: `redis://:${secret}@h:99999` }),
    faultsOf(`redis: {require_safe: ${secret}, password: [${secret}]}`),
    faultsOf(`auth: {keys: [{name: a, role: worker, sha256: ${secret}}]}`),
  ].flat()
  t.equal(faults.length, 5)
  t.notMatch(faults.join(), secret)
})

t.test('an effect type: built-in over defaults, the file over both, retention never null', async (t) => {
  const config = read(`
effects: {defaults: {lease_seconds: 5, on_lease_expiry: hold}, types: {a: {retention_seconds: 9, mode: shadow}}}
retry: {redis: {ttl_seconds: 77}}`)
  t.match(effectTypeConfig(config, 'order_placement'), { lease_seconds: 5, retention_seconds: 77, mode: 'enforce' })
  t.match(effectTypeConfig(config, 'signal_consumption'), { lease_seconds: 5, on_lease_expiry: 'reclaim' })
  t.match(effectTypeConfig(config, 'a'), { lease_seconds: 5, retention_seconds: 9, mode: 'shadow' })
  t.equal(effectTypeConfig(config, 'a'), effectTypeConfig(config, 'a'), 'resolved once')
  t.equal(effectTypeConfig(config, 'constructor'), effectTypeConfig(config, 'order_placement'), 'no inherited name')
  const holding = read('effects: {types: {signal_consumption: {on_lease_expiry: hold}}}')
  t.equal(effectTypeConfig(holding, 'signal_consumption').on_lease_expiry, 'hold')
  const longer = read('effects: {types: {signal_consumption: {lease_seconds: 60}}}')
  t.equal(effectTypeConfig(longer, 'signal_consumption').on_lease_expiry, 'reclaim', 'kept beside another member')
})

t.test('a job type goes over retry, its breaker member by member', async (t) => {
  const config = read(`
retry:
  max_attempts: 4
  budget: {}
  circuit_breaker: {failure_threshold: 20, time_window_minutes: 1}
  job_types:
    a: {cooldown_seconds: 1, budget: null, circuit_breaker: {failure_threshold: 2}}`)
  const { circuit_breaker, ...policy } = jobTypeConfig(config, 'a')
  t.match(circuit_breaker, { failure_threshold: 2, time_window_minutes: 1, mode: 'enforce' })
  t.strictSame(policy, {
    ...{ max_attempts: 4, cooldown_seconds: 1, exponential_backoff: true, max_cooldown_seconds: 3600 },
    ...{ jitter: 'none', budget: null },
  })
  for (const other of ['b', 'toString', null]) {
    t.match(jobTypeConfig(config, other), { cooldown_seconds: 60, circuit_breaker: { failure_threshold: 20 } })
  }
  t.ok(Object.isFrozen(jobTypeConfig(config, 'a').circuit_breaker))
})

t.test('enabled: false is mode: disabled; the nearer word wins', async (t) => {
  const mode = (base: string, own: string) => {
    const config = read(`retry: {circuit_breaker: {${base}}, job_types: {a: {circuit_breaker: {${own}}}}}`)
    const breaker = jobTypeConfig(config, 'a').circuit_breaker
    t.equal(breaker.enabled, breaker.mode !== 'disabled')
    return breaker.mode
  }
  t.equal(mode('enabled: false', ''), 'disabled')
  t.equal(mode('mode: disabled', ''), 'disabled')
  t.equal(mode('mode: shadow', ''), 'shadow')
  t.equal(mode('', 'enabled: false'), 'disabled')
  t.equal(mode('enabled: false', 'mode: shadow'), 'shadow')
  t.equal(mode('enabled: false', 'enabled: true'), 'enforce')
  t.equal(mode('mode: disabled', 'enabled: true'), 'enforce')
  t.equal(mode('mode: shadow', 'failure_threshold: 2'), 'shadow')
  t.equal(mode('enabled: false', 'failure_threshold: 2'), 'disabled')
})

t.test("attempts: the effect type's, else the job type's, else retry.max_attempts", async (t) => {
  const config = read('effects: {types: {a: {max_attempts: 1}}}\nretry: {job_types: {j: {max_attempts: 2}}}')
  t.equal(maxAttempts(config, 'a', 'j'), 1)
  t.equal(maxAttempts(config, 'b', 'j'), 2)
  t.equal(maxAttempts(config, 'b', 'k'), 3)
  t.equal(maxAttempts(config, 'b', null), 3)
})

/** Runs a command line program from its source, without any setting of this shell. */
function run(program: string, parameters: string[], env: Environment = {}) {
  const { PATH } = process.env
  const compiler = process.execArgv.filter((option) => option.includes('typescript.mjs'))
  return spawnSync(process.execPath, [...compiler, `src/${program}.ts`, ...parameters], {
    ...{ encoding: 'utf8', env: { PATH, ...env } },
  })
}

t.test('check-config prints the effective configuration masked, which loads again, or the faults', async (t) => {
  const dir = t.testdir({ 'good.yaml': 'redis: {url: "redis://:topsecret@h"}', 'bad.yaml': 'a: 1\nredis: {ur: x}' })
  const good = run('check-config', [join(dir, 'good.yaml')], { PORT: '9' })
  t.equal(good.status, 0, good.stderr)
  t.match(good.stdout, /^#\s+port: 9$/m)
  t.notMatch(good.stdout, 'topsecret')
  t.match(read(good.stdout), { redis: { url: 'redis://h', password: '***' }, retry: defaults.retry })
  const bad = run('check-config', [join(dir, 'bad.yaml')])
  t.equal(bad.status, 1)
  t.equal(bad.stdout, '')
  t.match(bad.stderr, /bad\.yaml:1: a: unknown key/)
  t.match(bad.stderr, /bad\.yaml:2: redis\.ur: unknown key; did you mean url\?/)
})

t.test('check-config and the start alike say which file of TLS cannot be read, without a stack', async (t) => {
  const dir = t.testdir({ 'tls.yaml': 'redis: {url: "rediss://127.0.0.1:1", tls: {ca_file: /nonexist}}' })
  const file = join(dir, 'tls.yaml')
  for (const told of [run('check-config', [file]), run('main', [], { CONFIG_FILE: file, PORT: '0' })]) {
    t.equal(told.status, 1)
    t.equal(told.stderr, `${file}:1: redis.tls.ca_file: /nonexist cannot be read (ENOENT)\n`)
  }
})

t.test('make-key prints a fresh key and an entry that admits it, or its usage', async (t) => {
  const made = run('make-key', ['bot-1', 'worker', 'prod'])
  t.equal(made.status, 0, made.stderr)
  const secret = /^eo_[A-Za-z0-9_-]{43}$/m.exec(made.stdout)?.[0] ?? ''
  const entry = made.stdout.slice(made.stdout.indexOf('auth:'))
  t.strictSame(read(entry).auth.keys, [{ name: 'bot-1', sha256: digest(secret), role: 'worker', namespace: 'prod' }])
  t.notMatch(run('make-key', ['bot-1', 'worker', 'prod']).stdout, secret, 'another each time')
  const refused = run('make-key', ['bot-1', 'admin', 'prod'])
  t.equal(refused.status, 2)
  t.match(refused.stderr, /^usage: npm run make-key/)
  t.equal(refused.stdout, '')
})
