/** Pages for people: text is escaped unless it was made here; nothing is loaded from anywhere else. */
import { createHash } from 'node:crypto'

/** HTML that is safe to put into a page. */
export type Html = { readonly markup: string }
type Value = string | number | Html | readonly Html[]

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
const escaped = (text: string): string => text.replace(/[&<>"']/g, (character) => escapes[character] ?? '')

function markupOf(value: Value): string {
  if (typeof value === 'string' || typeof value === 'number') return escaped(String(value))
  return 'markup' in value ? value.markup : value.map(({ markup }) => markup).join('')
}

/** A template: what is filled in is escaped, unless it is `Html`. */
export function html(parts: TemplateStringsArray, ...values: readonly Value[]): Html {
  return { markup: String.raw({ raw: parts }, ...values.map(markupOf)) }
}

/** Text with `code` between backticks. */
export function prose(text: string): Html {
  const pieces = text.split('`')
  return {
    markup: pieces.map((piece, at) => (at % 2 === 1 ? `<code>${escaped(piece)}</code>` : escaped(piece))).join(''),
  }
}

const style = `:root{color-scheme:light dark;--ink:#1c2330;--dim:#556074;--line:#d9dfe8;--paper:#fff;--tint:#f4f6fa;--link:#1554b8;
--get:#0b6b46;--post:#1554b8;--delete:#a8262c}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaf2;--dim:#a3aec0;--line:#333c4c;--paper:#12161e;--tint:#1b212c;--link:#8ab4ff;
--get:#5fd3a4;--post:#8ab4ff;--delete:#ff9a9e}}
*{box-sizing:border-box}html{scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
a{color:var(--link);text-decoration:none}a:hover,a:focus{text-decoration:underline}
code,pre,.path{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.88em}
code{background:var(--tint);border-radius:4px;padding:.1em .3em;overflow-wrap:anywhere}
pre{background:var(--tint);border:1px solid var(--line);border-radius:8px;padding:12px 14px;margin:.5rem 0;overflow:auto;max-height:26rem}
.page{display:grid;grid-template-columns:19rem minmax(0,1fr);max-width:84rem;margin:0 auto}
nav{position:sticky;top:0;height:100vh;overflow:auto;padding:1.6rem 1rem 2rem 1.5rem;border-right:1px solid var(--line);font-size:.9em}
nav ul{list-style:none;margin:0 0 1.1rem;padding:0}nav li{padding:.1rem 0}nav strong{display:block;margin-bottom:.2rem}
main{padding:1.6rem 2.5rem 5rem}.single{max-width:46rem;margin:0 auto}
h1{margin:.2rem 0 .6rem;font-size:1.9rem}h2{margin:3rem 0 .4rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
h3{margin:2.4rem 0 .3rem;font-size:1.08rem}h4{margin:1.1rem 0 .3rem;font-size:.95rem;color:var(--dim)}
h2,h3{scroll-margin-top:1rem}.dim{color:var(--dim)}.method{font-weight:700;font-size:.8em;margin-right:.5em}
.get{color:var(--get)}.post{color:var(--post)}.delete{color:var(--delete)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92em}
th,td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;border-bottom:1px solid var(--line)}
th{color:var(--dim);font-weight:600}th:first-child{width:13rem}.answers th:first-child{width:5rem}
summary{cursor:pointer;color:var(--link)}details{margin:.2rem 0}
@media(max-width:60rem){.page{display:block}nav{position:static;height:auto;max-height:16rem;border-right:0;
border-bottom:1px solid var(--line)}main{padding:1.2rem}}`

/** A whole document. */
export function page(title: string, body: Html): string {
  const head = [
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width,initial-scale=1">',
    `<title>${escaped(title)}</title>`,
    `<style>${style}</style>`,
  ]
  return `<!doctype html>\n<html lang="en">\n<head>\n${head.join('\n')}\n</head>\n<body>${body.markup}</body>\n</html>\n`
}

/** The browser loads nothing, runs nothing and lets nobody frame the page; only the style above counts. */
export const pageHeaders = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy': `default-src 'none'; style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
}
