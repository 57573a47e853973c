/** The checker itself: every rule lets a good history pass and finds what it is for. */
import t from 'tap'
import { checkAudit, checkBreakers, checkEffects } from '../helpers/checker/check.ts'
import { type CallName, createReader, createRecorder, type Sent, type Told } from '../helpers/checker/history.ts'
import { type AuditEntry, hashOf } from '../helpers/checker/rules/audit.ts'
import type { BreakerCall, BreakerHistory, Transition } from '../helpers/checker/rules/breaker.ts'
import { createRandom, type Random } from '../helpers/crew/random.ts'

const effect = 'order_placement.e1'
const startMs = 1_800_000_000_000
const leaseMs = 30_000

/** Writes a history by hand: the clock moves only where a test says so, and is Redis's clock too. */
function createScript() {
  let now = 0
  const reader = createReader()
  const recorder = createRecorder('p', reader.read, () => ++now)
  const redisMs = () => startMs + now
  const token = (ageMs = 0) => (redisMs() - ageMs) * 1000
  const call = (f: CallName, sent: Sent, told: Told) =>
    recorder.call(f, effect, sent, async () => {
      now += 2
      return { told }
    })
  const script = {
    recorder,
    token,
    wait: (ms: number) => (now += ms),
    call,
    claim(claim: string, changes: Told | { status?: number } = {}, sent: Sent = {}) {
      const grant = {
        status: 201,
        outcome: 'claimed',
        token: token(),
        attempt: 1,
        reference: 'e0',
        claimed_at: redisMs(),
      }
      const told: Told = { ...grant, lease_expires_at: redisMs() + leaseMs, ...changes }
      void call('claim', { owner: 'bot', claim, lease_ms: leaseMs, policy: 'hold', ...sent }, told)
      return told.token!
    },
    complete: (of: number, result = '1', status = 200) =>
      call('complete', { token: of, result }, { status, ...(status === 200 ? { outcome: 'completed' } : {}) }),
    fail: (of: number, execution: string, outcome: string) =>
      call('fail', { token: of, execution, retryable: true }, { status: 200, outcome }),
    resolve: (of: number, resolution: string, result?: string) =>
      call('resolve', { token: of, resolution, ...(result ? { result } : {}) }, { status: 200, token: token() }),
    get: (state: string, result?: string) =>
      call('get', {}, { status: state === 'absent' ? 404 : 200, state, ...(result ? { result } : {}) }),
    rules() {
      const history = reader.history()
      return [...new Set(checkEffects(history.effects.values(), history).violations.map(({ rule }) => rule))]
    },
    history: () => reader.history(),
  }
  return script
}

type Script = ReturnType<typeof createScript>
type Story = (script: Script) => Promise<unknown> | void

/** Calls are recorded at once and answered in the next turn; a story awaits them where the order matters. */
const turn = () => new Promise(setImmediate)

const good: Record<string, Story> = {
  'claim and complete, then everybody is told the result': async (s) => {
    const token = s.claim('a')
    await turn()
    s.recorder.executed(effect, 'x1', token)
    await s.complete(token)
    await s.call('claim', { owner: 'b', claim: 'b' }, { status: 200, outcome: 'completed', result: '1' })
    await s.get('completed', '1')
  },
  'a release makes way, and gives the attempt back': async (s) => {
    const token = s.claim('a')
    await turn()
    await s.call('release', { token }, { status: 200, outcome: 'released' })
    s.claim('b')
  },
  'a clear failure makes way for the next attempt': async (s) => {
    const token = s.claim('a')
    await turn()
    await s.fail(token, 'no', 'released')
    s.claim('b', { attempt: 2 } as Told)
  },
  'a person looks, then it goes again': async (s) => {
    const token = s.claim('a')
    await turn()
    await s.fail(token, 'unknown', 'uncertain')
    await s.resolve(token, 'not_executed')
    s.claim('b')
  },
  'under reclaim the end of the lease makes way': async (s) => {
    s.claim('a', {}, { policy: 'reclaim' })
    await turn()
    s.wait(leaseMs + 10)
    s.claim('b', { attempt: 2 } as Told, { policy: 'reclaim' })
  },
  'under reclaim a silent holder may have carried it out': async (s) => {
    const token = s.claim('a', {}, { policy: 'reclaim' })
    await turn()
    s.recorder.executed(effect, 'x1', token)
    s.wait(leaseMs + 10)
    await s.get('released')
  },
  'the same claim is told the same grant again': async (s) => {
    const token = s.claim('a')
    await turn()
    s.claim('a', { token, replayed: true } as Told)
  },
  'a silent holder is told of in time': async (s) => {
    s.claim('a')
    await turn()
    s.wait(leaseMs + 1000)
    s.recorder.saw('uncertain', effect)
    s.wait(60_000)
    await s.get('uncertain')
  },
  'nobody is told while nobody can be': async (s) => {
    s.claim('a')
    await turn()
    s.recorder.fault('invoke', 'cut', true)
    s.wait(leaseMs + 60_000)
    s.recorder.fault('ok', 'cut', true)
    s.wait(1000)
    s.recorder.saw('uncertain', effect)
    s.wait(60_000)
    await s.get('uncertain')
  },
}

const bad: Record<string, Story> = {
  'one live holder': async (s) => {
    s.claim('a')
    await turn()
    s.wait(100)
    s.claim('b', { attempt: 2 } as Told)
  },
  'no silent second run': async (s) => {
    s.claim('a')
    await turn()
    s.wait(leaseMs + 10)
    s.claim('b', { attempt: 2 } as Told)
  },
  'tokens unique and rising': async (s) => {
    s.claim('a', {}, { policy: 'reclaim' })
    await turn()
    s.wait(leaseMs + 10)
    s.claim('b', { attempt: 2, token: s.token(2 * leaseMs) } as Told, { policy: 'reclaim' })
  },
  'same nonce, same grant': async (s) => {
    s.claim('a')
    await turn()
    await s.call('release', { token: s.token(5) }, { status: 0 })
    s.claim('a', { replayed: true } as Told)
  },
  'one reference': async (s) => {
    const token = s.claim('a')
    await turn()
    s.claim('a', { token, replayed: true, reference: 'e1' } as Told)
  },
  'no grant after complete': async (s) => {
    const token = s.claim('a')
    await turn()
    await s.complete(token)
    s.claim('b', { attempt: 2 } as Told)
  },
  'results never change': async (s) => {
    const token = s.claim('a')
    await turn()
    await s.complete(token, '1')
    await s.complete(token, '2')
  },
  'results never vanish': async (s) => {
    const token = s.claim('a')
    await turn()
    await s.complete(token)
    await s.get('absent')
  },
  'stale tokens fail': async (s) => {
    const token = s.claim('a')
    await turn()
    await s.call('release', { token }, { status: 200, outcome: 'released' })
    s.claim('b')
    await turn()
    await s.call('renew', { token, lease_ms: leaseMs }, { status: 200, lease_expires_at: 0 })
  },
  'leases stay over': async (s) => {
    const token = s.claim('a')
    await turn()
    s.wait(leaseMs + 10)
    const lease_expires_at = startMs + 2 * leaseMs + 30
    await s.call('renew', { token, lease_ms: leaseMs }, { status: 200, lease_expires_at })
  },
  'doubt is explicit': async (s) => {
    const token = s.claim('a')
    await turn()
    await s.fail(token, 'unknown', 'released')
  },
  'uncertain is told': async (s) => {
    s.claim('a')
    await turn()
    s.wait(leaseMs + 16_000)
    s.recorder.saw('uncertain', effect)
  },
  'attempts are counted': async (s) => {
    const token = s.claim('a')
    await turn()
    await s.fail(token, 'no', 'released')
    s.claim('b', { attempt: 1 } as Told)
  },
  'no internal errors': (s) => void s.call('claim', { owner: 'b', claim: 'b' }, { status: 500 }),
  'no silent double': async (s) => {
    const token = s.claim('a')
    await turn()
    s.recorder.executed(effect, 'x1', token)
    s.recorder.executed(effect, 'x2', token)
    await s.complete(token)
  },
  'the outcome fits the ledger': async (s) => {
    const token = s.claim('a')
    await turn()
    s.recorder.executed(effect, 'x1', token)
    await s.fail(token, 'no', 'failed')
    await s.get('failed')
  },
}

for (const [name, story] of Object.entries(good)) {
  t.test(`passes: ${name}`, async (t) => {
    const script = createScript()
    await story(script)
    await turn()
    t.same(script.rules(), [])
  })
}

for (const [rule, story] of Object.entries(bad)) {
  t.test(`finds: ${rule}`, async (t) => {
    const script = createScript()
    await story(script)
    await turn()
    t.ok(script.rules().includes(rule), script.rules().join(', '))
  })
}

/** A register that does everything right, driven by chance. */
async function obey(script: Script, random: Random): Promise<number> {
  let [holder, attempt] = [0, 0]
  for (let step = 0; step < 12; step++) {
    script.wait(random.between(1, 500))
    if (holder === 0) {
      holder = script.claim(`c${step}`, { attempt: ++attempt } as Told)
      await turn()
    } else if (random.chance(0.3) || attempt === 3) {
      script.recorder.executed(effect, `x${step}`, holder)
      await script.complete(holder, String(step))
      await script.get('completed', String(step))
      return holder
    } else if (random.chance(0.5)) {
      await script.call('release', { token: holder }, { status: random.chance(0.5) ? 200 : 0, outcome: 'released' })
      ;[holder, attempt] = [0, attempt - 1]
    } else {
      await script.fail(holder, 'no', 'released')
      holder = 0
    }
  }
  return holder
}

t.test('any history of a register that obeys passes, and one more grant after its end does not', async (t) => {
  const [refused, passed]: [number[], number[]] = [[], []]
  for (let seed = 1; seed <= 200; seed++) {
    const script = createScript()
    const holder = await obey(script, createRandom(seed))
    if (script.rules().length > 0) refused.push(seed)
    if (holder === 0) continue
    script.wait(10)
    script.claim('one more', { attempt: 3 } as Told)
    await turn()
    if (script.rules().length === 0) passed.push(seed)
  }
  t.same(refused, [], 'seeds of good histories that were refused')
  t.same(passed, [], 'seeds where one grant too many was not found')
})

const transition = (version: number, from: string, to: string, cause: string) =>
  ({ version, from, to, cause }) as Transition

const report = (at: number, event: string, state: 'closed' | 'open', failures: number): BreakerCall => ({
  ...{ f: 'failure', event, invokedAt: at, endedAt: at + 1, verdict: 'ok' },
  told: { state, version: 0, failures },
})

const breakerRules = (changes: Partial<BreakerHistory>) => [
  ...new Set(
    checkBreakers([{ job: 'j', threshold: 2, lossy: false, calls: [], transitions: [], ...changes }]).violations.map(
      ({ rule }) => rule,
    ),
  ),
]

t.test('breakers', async (t) => {
  const opened = [transition(2, 'open', 'closed', 'override'), transition(1, 'closed', 'open', 'failure_threshold')]
  const counted = [report(1, 'a', 'closed', 1), report(3, 'a', 'closed', 1), report(5, 'b', 'open', 2)]
  t.same(breakerRules({ transitions: opened, calls: counted }), [])
  const legality = ['breaker transitions are legal']
  t.match(breakerRules({ transitions: opened.slice().reverse() }), legality, 'in order')
  t.same(breakerRules({ transitions: [transition(1, 'closed', 'half_open', 'auto_recovery')] }), legality)
  t.same(breakerRules({ transitions: [transition(1, 'open', 'closed', 'override')] }), legality, 'from what it was')
  t.same(breakerRules({ transitions: [transition(3, 'closed', 'open', 'forced_open'), ...opened.slice(1)] }), legality)
  const exact = ['breaker failures are counted']
  t.same(breakerRules({ calls: [report(1, 'a', 'closed', 1), report(3, 'a', 'closed', 2)] }), exact, 'one event once')
  t.same(breakerRules({ calls: [report(1, 'a', 'closed', 1), report(3, 'b', 'closed', 1)] }), exact, 'none lost')
  t.same(breakerRules({ calls: [report(1, 'a', 'open', 1)] }), exact, 'not too early')
  const late = [report(1, 'a', 'closed', 1), report(3, 'b', 'open', 2), report(5, 'c', 'closed', 2)]
  t.same(breakerRules({ calls: late }), exact, 'not too late')
})

/** Entries as the service would list them, newest first. */
function chain(length: number): AuditEntry[] {
  const entries: AuditEntry[] = []
  for (let seq = 1; seq <= length; seq++) {
    const told = { action: 'effect.resolve', subject: effect, user: 'anna', on_behalf_of: null, reason: 'looked' }
    const states = { before: { state: 'uncertain' }, after: { text: 'x'.repeat(300) }, evidence: null }
    const previous_hash = entries[0]?.hash ?? '0'.repeat(64)
    const entry = { seq, at: new Date(startMs + seq).toISOString(), ...told, ...states, previous_hash }
    entries.unshift({ ...entry, hash: hashOf(entry) })
  }
  return entries
}

t.test('the audit', async (t) => {
  const none = createScript().history()
  const rules = (entries: AuditEntry[], verified = true) =>
    checkAudit(entries, verified, none).violations.map(({ rule }) => rule)
  t.same(rules(chain(4)), [])
  t.match(rules(chain(4).toSpliced(1, 1)), ['audit without gaps'], 'a missing entry')
  t.match(rules(chain(4).with(2, { ...chain(4)[2]!, user: 'eve' })), ['audit without gaps'], 'an edited entry')
  t.match(rules(chain(4), false), ['audit without gaps'], 'what the service finds itself')
  const script = createScript()
  await script.resolve(script.token(), 'executed', '1')
  script.recorder.saw('late_completion', effect)
  const acts = checkAudit([], true, script.history()).violations.map(({ rule }) => rule)
  t.same(acts, ['no act without its entry', 'no act without its entry'])
  t.same(checkAudit(chain(1), true, script.history()).violations.length, 1, 'the late completion has none')
})
