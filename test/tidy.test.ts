/**
 * Style is a test: what the formatter, the linters and the import rules do not see. Each rule is first shown a sample
 * that it must refuse, so that none can pass by seeing nothing.
 */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import ts from 'typescript'

const lineCharsMax = 140
const functionLinesMax = 60
/** A ratchet: it may be lowered. */
const medianFunctionLinesMax = 10

const topLevel = new Set([
  ...['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'LICENSE', 'openapi.yaml'],
  ...['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json'],
  ...['Dockerfile', 'docker-compose.yml', '.dockerignore', '.gitignore', '.gitattributes', '.editorconfig', '.nvmrc'],
  ...['.prettierrc.json', '.prettierignore', '.luacheckrc', '.taprc', '.dependency-cruiser.cjs'],
  ...['eslint.config.js', 'knip.json'],
  ...['.ci', '.github', 'bench', 'clients', 'console', 'deploy', 'docs', 'lua', 'routes', 'scripts', 'src', 'test'],
])

/** Where everything is put together, and the jitter of reconnecting and of `Retry-After`. All other logic is handed the time and chance. */
const clockReaders = new Set(['src/services.ts', 'src/redis/connection.ts', 'src/redis/refusals.ts'])

/** In two halves, so that this file does not hold them. */
const words = (...halves: [string, string][]) => halves.map(([start, end]) => start + end)
const unfinished = new RegExp(`\\b(${words(['TO', 'DO'], ['FIX', 'ME'], ['XX', 'X']).join('|')})\\b`)
const machinePaths = words(['/wo', 'rk/'], ['/ro', 'ot/'], ['/tmp', '/brief'], ['shared/', 'design'])
const makers = words(['clau', 'de'], ['anth', 'ropic'], ['open', 'ai'], ['chat', 'gpt'], ['co', 'pilot'], ['ll', 'm'])
const foreign = new RegExp(`${machinePaths.join('|')}|\\b(${makers.join('|')})s?\\b`, 'i')

interface Rule {
  promise: string
  concerns: (file: string) => boolean
  /** What is wrong with the file, one line each. */
  complaints: (text: string, file: string) => string[]
  /** File name and text of samples that must be refused. */
  bad: [file: string, text: string][]
}

const isProduct = (file: string) => /^(src|routes)\/.*\.ts$/.test(file)
const isCode = (file: string) => /\.(ts|js|mjs|cjs)$/.test(file)
const isLua = (file: string) => file.endsWith('.lua')
const isScript = (file: string) => /^lua\/[^/]+\.lua$/.test(file)
const isMarkdown = (file: string) => file.endsWith('.md')
const isGenerated = (file: string) => ['package-lock.json', 'bench/package-lock.json', 'openapi.yaml'].includes(file)

/** A line for each line of the text that the test picks. */
function complainOfLines(text: string, wrong: (line: string) => boolean): string[] {
  return text.split('\n').flatMap((line, index) => (wrong(line) ? [`${index + 1}: ${line.trim().slice(0, 100)}`] : []))
}

const charsOf = (line: string) => [...line].length
const quoted = /'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*(?:`|$)/g

/** Every node of a TypeScript or JavaScript file, and where it starts. */
function nodesOf(text: string): { nodes: ts.Node[]; lineOf: (position: number) => number } {
  const source = ts.createSourceFile('file.ts', text, ts.ScriptTarget.Latest, true)
  const nodes: ts.Node[] = []
  const visit = (node: ts.Node) => {
    nodes.push(node)
    ts.forEachChild(node, visit)
  }
  visit(source)
  return { nodes, lineOf: (position) => source.getLineAndCharacterOfPosition(position).line + 1 }
}

function complainOfNodes(text: string, wrong: (node: ts.Node) => boolean): string[] {
  const { nodes, lineOf } = nodesOf(text)
  return nodes.filter(wrong).map((node) => `${lineOf(node.getStart())}: ${node.getText().slice(0, 100)}`)
}

/** Is it `object.member`, or `object['member']`? */
function isMember(node: ts.Node, object: string, member: string): boolean {
  if (ts.isPropertyAccessExpression(node)) return node.expression.getText() === object && node.name.text === member
  if (!ts.isElementAccessExpression(node) || !ts.isStringLiteral(node.argumentExpression)) return false
  return node.expression.getText() === object && node.argumentExpression.text === member
}

/** The module that an import, a re-export or `import()` names. */
function importedModule(node: ts.Node): string | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
    return node.moduleSpecifier && ts.isStringLiteral(node.moduleSpecifier) ? node.moduleSpecifier.text : undefined
  }
  if (!ts.isCallExpression(node) || node.expression.kind !== ts.SyntaxKind.ImportKeyword) return undefined
  const [first] = node.arguments
  return first && ts.isStringLiteral(first) ? first.text : undefined
}

const imports = (node: ts.Node, ...modules: string[]) => modules.includes(importedModule(node) ?? '')

interface FunctionLength {
  name: string | undefined
  line: number
  lines: number
}

function functionLengths(text: string): FunctionLength[] {
  const { nodes, lineOf } = nodesOf(text)
  return nodes.filter(isFunctionWithBody).map((node) => {
    const line = lineOf(node.getStart())
    return { name: nameOf(node), line, lines: lineOf(node.getEnd()) - line + 1 }
  })
}

const isFunctionWithBody = (node: ts.Node): node is ts.FunctionLikeDeclaration =>
  ts.isFunctionLike(node) && 'body' in node && node.body !== undefined

/** Callbacks have none: they are part of the function that passes them. */
function nameOf(node: ts.FunctionLikeDeclaration): string | undefined {
  if (node.name) return node.name.getText()
  const { parent } = node
  return ts.isVariableDeclaration(parent) || ts.isPropertyAssignment(parent) ? parent.name.getText() : undefined
}

/** The formatter keeps `end` below the line that opens the function. */
function luaFunctionLengths(text: string): FunctionLength[] {
  const lines = text.split('\n')
  return lines.flatMap((line, index) => {
    const opened = /^(\s*)(?:local )?(?:function\s+([\w.:]+)|[\w.,\s]+= function)/.exec(line)
    if (!opened || /\bend\b/.test(line)) return []
    const close = lines.findIndex((other, at) => at > index && other.startsWith(`${opened[1]}end`))
    return [{ name: opened[2], line: index + 1, lines: (close < 0 ? lines.length : close + 1) - index }]
  })
}

const tooLong = (lengths: FunctionLength[]) =>
  lengths
    .filter(({ lines }) => lines > functionLinesMax)
    .map(({ name, line, lines }) => `${line}: ${name ?? 'a callback'} has ${lines} lines`)

/** The words in their order, in the comment that opens the file. */
function headerComplaints(text: string): string[] {
  const header = /^(?:#!lua[^\n]*\n)?((?:--[^\n]*\n)*)/.exec(text)![1]!
  const found = [...header.matchAll(/^-- (Purpose|KEYS|ARGV|Replies|Never): \S/gm)].map((match) => match[1])
  const wanted = 'Purpose, KEYS, ARGV, Replies, Never'
  return found.join(', ') === wanted ? [] : [`the header has ${found.join(', ') || 'nothing'}, not ${wanted}`]
}

/** From the first line that binds one to the first that binds none; a line that goes on is indented. */
function bindingComplaints(text: string): string[] {
  const lines = text.split('\n')
  const binds = (line: string) => /^(local |  )?[\w, ]+ = .*\b(KEYS|ARGV)\b|^  .*\b(KEYS|ARGV)\b/.test(line)
  const first = lines.findIndex((line) => usesBareArguments(line))
  const rest = lines.findIndex((line, index) => index >= first && !binds(line))
  const others = lines.map((line, index) => (index >= first && index < rest ? '' : line))
  return complainOfLines(others.join('\n'), usesBareArguments)
}

const usesBareArguments = (line: string) => /^(?!\s*--).*\b(KEYS|ARGV)\[/.test(line)

/** Markdown without what stands between fences, line by line. */
function prose(text: string): string {
  let fence = ''
  const keep = (line: string) => {
    const mark = /^\s*(```+|~~~+)/.exec(line)?.[1]
    if (mark && (fence === '' || mark.startsWith(fence))) {
      fence = fence === '' ? mark : ''
      return ''
    }
    return fence === '' ? line : ''
  }
  return text.split('\n').map(keep).join('\n')
}

function titleComplaints(text: string): string[] {
  const headings = prose(text).match(/^#{1,6} .*/gm) ?? []
  const titles = headings.filter((heading) => heading.startsWith('# '))
  if (titles.length === 1 && headings[0] === titles[0]) return []
  return [`${titles.length} titles; the first heading is ${headings[0] ?? 'missing'}`]
}

/** As GitHub makes them from headings. */
const anchorsOf = (text: string) =>
  (prose(text).match(/^#{1,6} .*/gm) ?? []).map((heading) =>
    heading
      .replace(/^#+ /, '')
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )

function linkComplaints(text: string, file: string): string[] {
  const inline = [...prose(text).matchAll(/\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)/g)]
  const references = [...prose(text).matchAll(/^\[[^\]]+\]: (\S+)/gm)]
  const links = [...inline, ...references].map((match) => match[1]!)
  return links.filter((link) => isDead(link, text, file)).map((link) => `${link} leads nowhere`)
}

function isDead(link: string, text: string, file: string): boolean {
  if (/^[a-z][a-z0-9+.-]*:/i.test(link)) return false
  const [target, anchor] = decodeURI(link).split('#') as [string, string?]
  const found = target === '' ? file : path.posix.join(path.posix.dirname(file), target)
  if (target !== '' && !existsSync(found)) return true
  if (anchor === undefined || !isMarkdown(found)) return false
  return !anchorsOf(target === '' ? text : readFileSync(found, 'utf8')).includes(anchor)
}

function versionComplaints(text: string): string[] {
  const manifest = JSON.parse(text) as Record<string, Record<string, string> | undefined>
  const versions = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })
  return versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version)).map((pair) => pair.join(' '))
}

/**
 * The bounds that sources take or relate to others, and those that a comment of a script names above the number there; a test
 * compares these.
 */
function limitsInUse(): Set<string> {
  const taken = files.filter(isProduct).flatMap(limitsOf)
  const named = files.filter(isLua).flatMap((file) => texts.get(file)!.match(/(?<=-- limits\.)\w+/g) ?? [])
  return new Set([...taken, ...named])
}

const limitsOf = (file: string): string[] =>
  nodesOf(texts.get(file)!).nodes.flatMap((node) =>
    ts.isPropertyAccessExpression(node) && node.expression.getText() === 'limits' ? [node.name.text] : [],
  )

function limitComplaints(text: string): string[] {
  const used = limitsInUse()
  return complainOfNodes(text, (node) => ts.isPropertyAssignment(node) && !used.has(node.name.getText()))
}

const luaHeader = '-- Purpose: p\n-- KEYS: k\n-- ARGV: a\n-- Replies: r\n-- Never: n\n'

const rules: Rule[] = [
  {
    promise: `no line is longer than ${lineCharsMax} characters (tables, addresses and texts in quotes apart)`,
    // Redis takes a user with all that it may do in one line.
    concerns: (file) => !isGenerated(file) && file !== 'LICENSE' && !file.startsWith('deploy/redis/acl-'),
    complaints: (text, file) =>
      complainOfLines(text, (line) => {
        if (isMarkdown(file)) return charsOf(line) > lineCharsMax && !/^\s*\||https?:/.test(line)
        return charsOf(line.replace(quoted, '').replace(/https?:\/\/\S+/, '')) > lineCharsMax
      }),
    bad: [
      ['src/a.ts', 'x'.repeat(lineCharsMax + 1)],
      ['README.md', `text\n${'x '.repeat(lineCharsMax)}`],
    ],
  },
  {
    promise: 'no line ends in a blank, none holds a tab, and the file ends with one line end',
    concerns: (file) => !isCode(file), // the formatter's, and a text in it may need a blank
    complaints: (text) => [
      ...complainOfLines(text, (line) => /[ \t\r]$|\t/.test(line)),
      ...(text === '' || /[^\n]\n$/.test(text) ? [] : ['the end of the file']),
    ],
    bad: [
      ['a.sh', 'a \n'],
      ['a.sh', '\ta\n'],
      ['a.lua', 'a\r\n'],
      ['a.lua', 'a'],
      ['a.lua', 'a\n\n'],
    ],
  },
  {
    promise: 'nothing is left unfinished',
    concerns: (file) => !isGenerated(file),
    complaints: (text) => complainOfLines(text, (line) => unfinished.test(line)),
    bad: words(['TO', 'DO'], ['FIX', 'ME'], ['XX', 'X']).map((word) => ['src/a.ts', `// ${word}: later`]),
  },
  {
    promise: 'no file names a path of one machine, or a program that nobody needs to run the service',
    concerns: () => true,
    complaints: (text, file) => complainOfLines(`${file}\n${text}`, (line) => foreign.test(line)),
    bad: [...machinePaths, ...makers].map((word) => ['docs/a.md', `see ${word}`]),
  },
  {
    promise: 'what stands at the top of the repository is known',
    concerns: () => true,
    complaints: (_text, file) => (topLevel.has(file.split('/')[0]!) ? [] : ['is not on the list of this test']),
    bad: [
      ['notes.txt', ''],
      ['misc/a.ts', ''],
    ],
  },
  {
    promise: `no function is longer than ${functionLinesMax} lines`,
    concerns: (file) => isCode(file) || isLua(file),
    complaints: (text, file) => tooLong(isLua(file) ? luaFunctionLengths(text) : functionLengths(text)),
    bad: [
      ['src/a.ts', `function a() {\n${'b()\n'.repeat(59)}}\n`],
      ['src/a.ts', `export const a = async () => {\n${'b()\n'.repeat(59)}}\n`],
      ['src/a.ts', `class A { get a() {\n${'b()\n'.repeat(59)}} }\n`],
      ['test/a.test.ts', `t.test('x', (t) => {\n${'b()\n'.repeat(59)}})\n`],
      ['lua/a.lua', `local function a()\n${'  b()\n'.repeat(59)}end\n`],
      ['lua/prelude/a.lua', `do\n  function a.b()\n${'    b()\n'.repeat(59)}  end\nend\n`],
      ['lua/a.lua', `local a = function()\n${'  b()\n'.repeat(59)}end\n`],
    ],
  },
  {
    promise: 'the service writes its log, never to the console',
    concerns: isProduct,
    complaints: (text) => complainOfNodes(text, (node) => ts.isIdentifier(node) && node.text === 'console'),
    bad: [
      ['src/a.ts', "console.log('x')"],
      ['routes/a.ts', 'const { warn } = console'],
    ],
  },
  {
    promise: 'the environment is read in src/config.ts only',
    concerns: (file) => isProduct(file) && file !== 'src/config.ts',
    complaints: (text) =>
      complainOfNodes(text, (node) => {
        const isTaken = ts.isVariableDeclaration(node) && node.initializer?.getText() === 'process'
        return isMember(node, 'process', 'env') || isTaken || imports(node, 'node:process', 'process')
      }),
    bad: [
      ['src/a.ts', 'f(process.env.HOME)'],
      ['src/a.ts', "f(process['env'])"],
      ['src/a.ts', 'const { env } = process'],
      ['routes/a.ts', "import { env } from 'node:process'"],
    ],
  },
  {
    promise: 'ioredis is imported in src/redis/ only, and in peers that the service is measured beside',
    concerns: (file) => isCode(file) && !/^(src\/redis|bench\/peers)\//.test(file),
    complaints: (text) => complainOfNodes(text, (node) => imports(node, 'ioredis')),
    bad: [
      ['src/a.ts', "import { Redis } from 'ioredis'"],
      ['test/a.test.ts', "import type { Redis } from 'ioredis'"],
      ['routes/a.ts', "const { Redis } = await import('ioredis')"],
      ['routes/a.ts', "export * from 'ioredis'"],
    ],
  },
  {
    promise: 'the clock and chance are read at the edge and passed in',
    concerns: (file) => isProduct(file) && !clockReaders.has(file),
    complaints: (text) =>
      complainOfNodes(text, (node) => {
        const isNow = ts.isNewExpression(node) && node.expression.getText() === 'Date' && !node.arguments?.length
        return isNow || isMember(node, 'Date', 'now') || isMember(node, 'Math', 'random')
      }),
    bad: [
      ['src/a.ts', 'const a = Date.now()'],
      ['src/a.ts', 'const a = new Date()'],
      ['src/a.ts', 'const a = new Date'],
      ['routes/a.ts', 'f(Math.random)'],
    ],
  },
  {
    promise: 'every bound is used, by a source or by a script that names it',
    concerns: (file) => file === 'src/limits.ts',
    complaints: limitComplaints,
    bad: [
      ['src/limits.ts', 'export const limits = { pageMax: 500, nobodyAsksMax: 1 } as const\n'],
      ['src/limits.ts', 'export const limits = {\n  nobodyAsksMax: 1,\n}\n'],
    ],
  },
  {
    promise: 'every script opens with Purpose, KEYS, ARGV, Replies and Never',
    concerns: isScript,
    complaints: headerComplaints,
    bad: [
      ['lua/a.lua', 'return 1\n'],
      ['lua/a.lua', `local a = 1\n${luaHeader}`],
      ['lua/a.lua', luaHeader.replace('-- ARGV: a\n', '')],
      ['lua/a.lua', luaHeader.replace('Never: n', 'Never:')],
    ],
  },
  {
    promise: 'a script binds KEYS and ARGV to names in one run of lines and nowhere else',
    concerns: isScript,
    complaints: bindingComplaints,
    bad: [
      ['lua/a.lua', `${luaHeader}local a = KEYS[1]\nlocal b = 1\nlocal c = ARGV[1]\n`],
      ['lua/a.lua', `${luaHeader}local a = KEYS[1]\nreturn redis.call('GET', KEYS[2])\n`],
      ['lua/a.lua', `${luaHeader}return redis.call('GET', KEYS[1])\n`],
    ],
  },
  {
    promise: 'a prelude knows neither KEYS nor ARGV',
    concerns: (file) => isLua(file) && !isScript(file),
    complaints: (text) => complainOfLines(text, usesBareArguments),
    bad: [['lua/prelude/a.lua', 'local a = KEYS[1]']],
  },
  {
    promise: 'every Markdown file has one title, at its top',
    concerns: isMarkdown,
    complaints: titleComplaints,
    bad: [
      ['a.md', 'text'],
      ['a.md', '# One\n\n# Two\n'],
      ['a.md', '## Before\n\n# One\n'],
      ['a.md', '```sh\n# a comment\n```\n'],
    ],
  },
  {
    promise: 'no link in Markdown is dead',
    concerns: isMarkdown,
    complaints: linkComplaints,
    bad: [
      ['docs/a.md', 'see [this](package.json)'],
      ['README.md', 'see [this](docs/none.md)'],
      ['README.md', '# A\n\n[this](#b)'],
      ['README.md', 'see [this][1]\n\n[1]: ./none.md'],
      ['README.md', '![picture](none.png)'],
    ],
  },
  {
    promise: 'package.json names exact versions',
    concerns: (file) => ['package.json', 'bench/package.json'].includes(file),
    complaints: versionComplaints,
    bad: [
      ['package.json', '{"dependencies": {"a": "^1.0.0"}}'],
      ['package.json', '{"devDependencies": {"a": "latest"}}'],
    ],
  },
]

/** What git keeps, and what it would take; not what was deleted a moment ago. */
const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
  encoding: 'utf8',
})
  .split('\0')
  .filter((file) => file !== '' && existsSync(file) && !/\.(png|ico|woff2?)$/.test(file))
const texts = new Map(files.map((file) => [file, readFileSync(file, 'utf8')]))

for (const { promise, concerns, complaints, bad } of rules) {
  t.test(promise, async (t) => {
    for (const [file, text] of bad) {
      t.ok(concerns(file) && complaints(text, file).length > 0, `refuses ${JSON.stringify(text.slice(0, 60))}`)
    }
    const concerned = files.filter(concerns)
    t.not(concerned.length, 0, 'concerns some file')
    t.same(
      concerned.flatMap((file) => complaints(texts.get(file)!, file).map((complaint) => `${file}:${complaint}`)),
      [],
    )
  })
}

t.test('the rules take what is right', async (t) => {
  const right: [file: string, text: string][] = [
    [
      'lua/a.lua',
      `#!lua flags=allow-oom\n${luaHeader}local a, b = KEYS[1],\n  ARGV[1]\nlocal c = ARGV[2]\n\nreturn a\n`,
    ],
    ['src/redis/a.ts', "import { Redis } from 'ioredis'\n\nexport const at = (ms: number) => new Date(ms)\n"],
    ['src/a.ts', `export function a() {\n${'  b()\n'.repeat(58)}}\n`],
    [
      'README.md',
      '# A title\n\n[here](#a-title) [there](package.json) [far](https://example.com)\n\n```sh\n# no title\n```\n',
    ],
  ]
  for (const [file, text] of right) {
    const complaints = rules.filter((rule) => rule.concerns(file)).flatMap((rule) => rule.complaints(text, file))
    t.same(complaints, [], file)
  }
})

t.test(`the median function of the service has at most ${medianFunctionLinesMax} lines`, async (t) => {
  const lengths = files.filter(isProduct).flatMap((file) => functionLengths(texts.get(file)!))
  const named = lengths.flatMap(({ name, lines }) => (name === undefined ? [] : [lines])).toSorted((a, b) => a - b)
  const median = named[Math.floor(named.length / 2)]!
  t.comment(`${named.length} functions, median ${median} lines, longest ${named.at(-1)}`)
  t.ok(median <= medianFunctionLinesMax, `the median is ${median}`)
})
