/**
 * What deploy/ tells Prometheus and Grafana: rules that promtool proves, names and labels that exist, and one real
 * Prometheus that reads one really started service with this configuration.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { parse, stringify } from 'yaml'
import { emptyCounts } from '../../src/retries/window.ts'
import { retryMetricsText } from '../../src/retries/prometheus.ts'
import { startApp } from '../helpers/app.ts'
import { freePort, startRedis, waitFor } from '../helpers/redis-server.ts'

/** `name` is the alert's, or that of the series it records. */
interface Rule {
  name: string
  expr: string
  for?: string
  labels?: Record<string, string>
  annotations?: Record<string, string>
}

interface RuleTests {
  rule_files: string[]
  tests: {
    input_series: { series: string }[]
    alert_rule_test?: { alertname: string; exp_alerts: unknown[] }[]
    promql_expr_test?: { expr: string }[]
  }[]
}

interface Panel {
  id: number
  type: string
  title: string
  gridPos: { h: number; w: number; x: number; y: number }
  datasource?: { uid: string }
  targets?: { expr: string; datasource: { uid: string } }[]
}

interface ScrapeConfig {
  job_name: string
  metrics_path: string
  static_configs: { targets: string[] }[]
}

interface PrometheusConfig {
  global: Record<string, string>
  rule_files: string[]
  scrape_configs: ScrapeConfig[]
}

const folder = 'deploy/prometheus'
const read = <T>(file: string): T => parse(readFileSync(file, 'utf8')) as T
const rulesOf = (file: string, kind: 'alert' | 'record'): Rule[] =>
  read<{ groups: { rules: (Rule & Record<typeof kind, string>)[] }[] }>(path.join(folder, file)).groups.flatMap(
    ({ rules }) => rules.map((rule) => ({ ...rule, name: rule[kind] })),
  )

const alerts = rulesOf('alerts.yml', 'alert')
const records = rulesOf('recording.yml', 'record')
const testFiles = readdirSync(`${folder}/tests`).map((file) => `${folder}/tests/${file}`)
const ruleTests = testFiles.flatMap((file) => read<RuleTests>(file).tests)
const config = read<PrometheusConfig>(`${folder}/prometheus.yml`)
const dashboardFile = 'deploy/grafana/dashboards/effectonce.json'
const dashboard = JSON.parse(readFileSync(dashboardFile, 'utf8')) as { uid: string; panels: Panel[] }
const panels = dashboard.panels.filter(({ type }) => type !== 'row')
const dashboardExpressions = panels.flatMap(({ targets }) => (targets ?? []).map(({ expr }) => expr))

/** Rejects with what the program said unless it ends with 0, and so where it is missing. */
const promtool = async (...args: string[]) => (await promisify(execFile)('promtool', args)).stdout

t.test('promtool takes the configuration and every rule', async (t) => {
  await t.resolves(promtool('check', 'config', `${folder}/prometheus.yml`))
  await t.resolves(promtool('check', 'rules', '--lint=all', '--lint-fatal', ...config.rule_files.map(inFolder)))
  await t.resolves(promtool('test', 'rules', ...testFiles))
})

const inFolder = (file: string) => path.join(folder, file)

t.test('the tests of the rules notice when a threshold moves', async (t) => {
  const dir = await temporaryFolder(t)
  await mkdir(path.join(dir, 'tests'))
  for (const file of config.rule_files) {
    const text = readFileSync(inFolder(file), 'utf8')
    await writeFile(path.join(dir, file), text.replace('> 0.05', '> 0.5'))
  }
  const copy = path.join(dir, 'tests/service.yml')
  await writeFile(copy, readFileSync(`${folder}/tests/service.yml`))
  const failed = await promtool('test', 'rules', copy).then(
    (said) => `it passed: ${said}`,
    (error: { stdout: string; stderr: string }) => error.stdout + error.stderr,
  )
  t.match(failed, /FAILED[^]*EffectonceCallsUnavailable/)
})

t.test('every alert has a severity, a text, a test in which it fires and one in which it does not', async (t) => {
  const checked = ruleTests.flatMap((test) => test.alert_rule_test ?? [])
  t.ok(alerts.length > 0)
  for (const { name, labels, annotations } of alerts) {
    t.match(labels?.severity, /^(critical|warning)$/, name)
    t.same(Object.keys(annotations ?? {}), ['summary', 'description', 'action'], name)
    const own = checked.filter(({ alertname }) => alertname === name)
    t.ok(
      own.some(({ exp_alerts }) => exp_alerts.length > 0),
      `${name} fires`,
    )
    t.ok(
      own.some(({ exp_alerts }) => exp_alerts.length === 0),
      `${name} keeps quiet`,
    )
  }
  const names = new Set(alerts.map(({ name }) => name))
  t.same(
    checked.map(({ alertname }) => alertname).filter((name) => !names.has(name)),
    [],
    'tests of no alert',
  )
})

t.test('every recording rule is tested, and used by the dashboard or an alert', async (t) => {
  const tested = ruleTests.flatMap((test) => (test.promql_expr_test ?? []).map(({ expr }) => expr)).join('\n')
  const used = [...dashboardExpressions, ...alerts.map(({ expr }) => expr)].flatMap(namesIn)
  t.ok(records.length > 0)
  for (const { name } of records) {
    t.ok(tested.includes(name), `${name} is tested`)
    t.ok(used.includes(name), `${name} is used`)
  }
})

t.test('docs/alerts.md lists the alerts, their severity and their delay, and no others', async (t) => {
  const rows = [
    ...readFileSync('docs/alerts.md', 'utf8').matchAll(/^\| `(Effectonce\w+)`\s*\| (\w+)\s*\| (\w+)\s*\|/gm),
  ]
  t.same(
    rows.map((row) => row.slice(1, 4)),
    alerts.map(({ name, labels, for: delay }) => [name, labels?.severity, delay ?? '0m']),
  )
})

const words = new Set(['and', 'or', 'unless', 'offset', 'bool', 'by', 'without', 'on', 'ignoring'])

/** The metrics of a PromQL expression: its words that are no function, label, keyword or duration. */
function namesIn(expression: string): string[] {
  const bare = expression
    .replace(/"[^"]*"/g, '')
    .replace(/\{[^}]*\}|\[[^\]]*\]/g, ' ')
    .replace(/\b(by|without|on|ignoring)\s*\([^)]*\)/g, ' ')
  return [...bare.matchAll(/(?<![\w.:])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])/g)].map(([name]) => name).filter(isNoWord)
}
const isNoWord = (name: string) => !words.has(name)

/** Metrics with the labels that an expression selects by. */
const selectorsIn = (expression: string) =>
  [...expression.matchAll(/([a-zA-Z_:][\w:]*)\{([^}]*)\}/g)].map(([, name, matchers]) => ({
    name: name!,
    labels: [...matchers!.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g)].map(([, label]) => label!),
  }))

t.test('metrics and labels are found in an expression', async (t) => {
  const expression =
    'sum by (a, le) (rate(x_total{b="c d", e=~"f"}[5m])) / on(g) (h:i:j > bool 0.5) or vector(0) offset 1h'
  t.same(namesIn(expression), ['x_total', 'h:i:j'])
  t.same(selectorsIn(expression), [{ name: 'x_total', labels: ['b', 'e'] }])
})

/** Labels of every series that /metrics can have, by its name; a histogram has three. */
async function metricsOfService(t: Test): Promise<Map<string, string[]>> {
  const { services } = await startApp(t)
  const found = services.metrics.registry.getMetricsAsArray() as unknown as { name: string; labelNames: string[] }[]
  const types = new Map(
    (await services.metrics.registry.getMetricsAsJSON()).map(({ name, type }) => [name, String(type)]),
  )
  return new Map(
    found.flatMap(({ name, labelNames }): [string, string[]][] =>
      types.get(name) !== 'histogram'
        ? [[name, labelNames]]
        : [
            [`${name}_bucket`, [...labelNames, 'le']],
            [`${name}_sum`, labelNames],
            [`${name}_count`, labelNames],
          ],
    ),
  )
}

/** The same of the retry metrics, from a text in which each has a sample. */
async function metricsOfRetries(): Promise<Map<string, string[]>> {
  const total = { ...emptyCounts(), blocked: new Map([['circuit_open', 1]]) }
  const { text } = await retryMetricsText(new Map([['a_job', { window: emptyCounts(), total }]]), 60)
  return new Map([...text.matchAll(/^(\w+)\{([^}]*)\}/gm)].map(([, name, labels]) => [name!, labelsIn(labels!)]))
}
const labelsIn = (text: string) => [...text.matchAll(/(\w+)="/g)].map(([, label]) => label!)

/** What Prometheus itself makes, and what it adds to everything that it reads. */
const ofPrometheus = new Map([
  ['up', []],
  ['ALERTS', ['alertname', 'alertstate']],
])
const added = ['instance', 'job']

t.test('rules, their tests and the dashboard name only metrics and labels that the service has', async (t) => {
  const known = new Map<string, string[]>([
    ...(await metricsOfService(t)),
    ...(await metricsOfRetries()),
    ...ofPrometheus,
  ])
  const recorded = new Set(records.map(({ name }) => name))
  const isKnown = (name: string) => known.has(name) || recorded.has(name)
  for (const { name, expr } of [...alerts, ...records]) t.same(unknownIn(expr), [], name)
  for (const expr of dashboardExpressions) t.same(unknownIn(expr), [], expr)
  for (const { series } of ruleTests.flatMap(({ input_series }) => input_series)) {
    const [{ name, labels }] = selectorsIn(series) as [{ name: string; labels: string[] }]
    t.same(labels.sort(), [...(known.get(name) ?? ['no such metric']), ...added].sort(), series)
  }

  function unknownIn(expr: string): string[] {
    const labels = selectorsIn(expr).flatMap(({ name, labels }) => {
      const own = known.get(name)
      return own
        ? labels.filter((label) => ![...own, ...added].includes(label)).map((label) => `${name}{${label}}`)
        : []
    })
    return [...namesIn(expr).filter((name) => !isKnown(name)), ...labels]
  }
})

t.test('every panel asks the provisioned Prometheus, and no two overlap', async (t) => {
  const provisioned = 'deploy/grafana/provisioning'
  const { datasources } = read<{ datasources: { uid: string; url: string }[] }>(
    `${provisioned}/datasources/prometheus.yml`,
  )
  const { providers } = read<{ providers: { options: { path: string } }[] }>(`${provisioned}/dashboards/effectonce.yml`)
  const { services } = read<{ services: Record<string, { volumes: string[] }> }>('docker-compose.yml')
  t.same(
    datasources.map(({ uid, url }) => [uid, url]),
    [['prometheus', 'http://prometheus:9090']],
  )
  t.same(
    providers.map(({ options }) => options.path),
    ['/etc/grafana/dashboards'],
  )
  for (const mount of ['provisioning:/etc/grafana/provisioning:ro', 'dashboards:/etc/grafana/dashboards:ro']) {
    t.ok(services.grafana!.volumes.includes(`./deploy/grafana/${mount}`), mount)
  }
  for (const file of ['prometheus.yml', ...config.rule_files]) {
    t.ok(services.prometheus!.volumes.includes(`./${folder}/${file}:/etc/prometheus/${file}:ro`), file)
  }
  t.equal(new Set(dashboard.panels.map(({ id }) => id)).size, dashboard.panels.length)
  for (const { title, datasource, targets } of panels) {
    t.equal(datasource?.uid, 'prometheus', title)
    t.ok(targets!.length > 0 && targets!.every((target) => target.datasource.uid === 'prometheus'), title)
  }
  const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, at) => `${x + (at % w)},${y + Math.floor(at / w)}`),
  )
  t.equal(new Set(cells).size, cells.length)
})

t.test('a real Prometheus reads a really started service with this configuration', async (t) => {
  const service = await startService(t)
  const prometheus = await startPrometheus(t, service.port)
  const claim = { type: 'order_placement', entity: 'order-1', owner: 'bot-1', job_type: 'place_order' }
  const claimed = await fetch(`${service.url}/api/v1/effects/claim`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(claim),
  })
  t.equal(claimed.status, 201, await claimed.text())
  for (const { job_name } of config.scrape_configs) {
    await t.resolves(prometheus.until(`up{job="${job_name}"} == 1`), `${job_name} is read`)
  }
  const counted = await prometheus.until('effectonce_claims_total{outcome="claimed"} > 0')
  t.same(
    counted.map(({ metric, value }) => [metric.type, value[1]]),
    [['order_placement', '1']],
  )
  await t.resolves(
    prometheus.until('type_state:effectonce_effects:max{state="in_progress"} == 1'),
    'rules are evaluated',
  )
  await t.resolves(prometheus.until('effectonce:memory_budget:ratio < 1'), 'the budget is known')

  const { groups } = await prometheus.ask<{ groups: { rules: { name: string; health: string }[] }[] }>('rules')
  const judged = groups.flatMap(({ rules }) => rules)
  t.equal(judged.length, alerts.length + records.length)
  t.same(
    judged.filter(({ health }) => health === 'err').map(({ name }) => name),
    [],
    'no rule has an error',
  )
  for (const expr of dashboardExpressions) await t.resolves(prometheus.query(expr), expr)
  t.same(await prometheus.query('ALERTS{alertstate="firing"}'), [], 'nothing is wrong')
})

async function temporaryFolder(t: Test): Promise<string> {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'effectonce-prometheus-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

/** Asks the kernel to end the program with this process, however that ends. */
const setpriv = ['/usr/bin/setpriv', '/bin/setpriv'].filter((file) => existsSync(file))
const withParent = setpriv.slice(0, 1).flatMap((file) => [file, '--pdeathsig', 'KILL'])

interface Program {
  command: [string, ...string[]]
  cwd: string
  env?: NodeJS.ProcessEnv
}

/** `failed` answers what the program said once it has ended by itself. The end of the test ends it, by its pid. */
function start(t: Test, { command, cwd, env }: Program) {
  const [file, ...args] = [...withParent, ...command]
  const child: ChildProcess = spawn(file!, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  let ended = false
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (data) => (said += String(data)))
  const exit = new Promise<void>((resolve) => {
    const end = () => {
      ended = true
      resolve()
    }
    child.once('exit', end)
    child.once('error', (error) => {
      said += String(error)
      end()
    })
  })
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
  })
  return { failed: () => (ended ? said : undefined) }
}

const startDeadlineMs = 30_000
const pollMs = 100

/** Resolves when the address answers 200. */
async function answering(url: string, { failed }: { failed: () => string | undefined }): Promise<void> {
  await waitFor(async () => {
    const trouble = failed()
    if (trouble !== undefined) throw new Error(`it ended: ${trouble}`)
    return fetch(url).then(
      ({ ok }) => ok,
      () => false,
    )
  }, startDeadlineMs)
}

/** The build, as `npm start` runs it, in a folder of its own. */
async function startService(t: Test): Promise<{ port: number; url: string }> {
  const main = path.resolve('dist/src/main.js')
  if (!existsSync(main)) throw new Error('There is no build: npm run build')
  const cwd = await temporaryFolder(t)
  const redis = await startRedis(t)
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const env = { PORT: String(port), REDIS_URL: redis.url, LOG_LEVEL: 'warn', NODE_OPTIONS: '' }
  await answering(`${url}/readyz`, start(t, { command: [process.execPath, main], cwd, env }))
  return { port, url }
}

interface Sample {
  metric: Record<string, string>
  value: [number, string]
}

/** deploy/prometheus/prometheus.yml with another target, and every second. */
function configFor(port: number): string {
  const scrape_configs = config.scrape_configs.map((job) => ({
    ...job,
    static_configs: [{ targets: [`127.0.0.1:${port}`] }],
  }))
  return stringify({
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: config.rule_files.map((file) => path.resolve(folder, file)),
    scrape_configs,
  })
}

async function startPrometheus(t: Test, servicePort: number) {
  const dir = await temporaryFolder(t)
  await writeFile(path.join(dir, 'prometheus.yml'), configFor(servicePort))
  const address = `127.0.0.1:${await freePort()}`
  const flags = ['--config.file=prometheus.yml', '--storage.tsdb.path=data', `--web.listen-address=${address}`]
  await answering(`http://${address}/-/ready`, start(t, { command: ['prometheus', ...flags], cwd: dir }))
  const ask = async <T>(what: string): Promise<T> => {
    const answer = (await (await fetch(`http://${address}/api/v1/${what}`)).json()) as { data: T; error?: string }
    if (answer.error !== undefined) throw new Error(answer.error)
    return answer.data
  }
  const query = async (expr: string) =>
    (await ask<{ result: Sample[] }>(`query?query=${encodeURIComponent(expr)}`)).result
  /** The samples, as soon as there are some. */
  const until = (expr: string) =>
    waitFor(async () => {
      const samples = await query(expr)
      if (samples.length > 0) return samples
      await delay(pollMs)
      return undefined
    }, startDeadlineMs)
  return { ask, query, until }
}
