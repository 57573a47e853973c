/** Line plots as plain SVG text: a title, two axes, a line a series, its name at the line's end. */

const width = 760
const height = 420
const margin = { left: 74, right: 190, top: 48, bottom: 56 }
const inner = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom }
const colours = ['#c2410c', '#1d4ed8', '#047857', '#7c3aed', '#525252']
const nameHeight = 15

/** `series`: [{name, points: [[x, y], …], tone, dashed}], `tone` choosing the colour; `logarithmic`: of the y axis. Answers the text of the file. */
export function linePlot({ title, x, y, series, logarithmic = false }) {
  const all = series.flatMap(({ points }) => points)
  const xs = all.map(([at]) => at)
  const ys = all.map(([, value]) => value)
  const scaleX = linear(0, Math.max(...xs), margin.left, margin.left + inner.width)
  const bottom = margin.top + inner.height
  const scaleY = logarithmic
    ? logScale(Math.min(...ys), Math.max(...ys), bottom, margin.top)
    : linear(0, Math.max(...ys), bottom, margin.top)
  const ends = apart(series.map(({ points }) => scaleY.at(points.at(-1)[1])))
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${escape(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(margin.left, 26, title, 'font-size="15" font-weight="bold"'),
    ...axes({ scaleX, scaleY, x, y }),
    ...series.flatMap((one, at) =>
      line(one, { scaleX, scaleY, colour: colours[(one.tone ?? at) % colours.length], nameY: ends[at] }),
    ),
    '</svg>',
    '',
  ].join('\n')
}

function linear(least, most, from, to) {
  const step = niceStep((most - least) / 5)
  const top = Math.ceil(most / step) * step
  const ticks = Array.from({ length: Math.round((top - least) / step) + 1 }, (_, n) => least + n * step)
  return { ticks, at: (value) => from + ((value - least) / (top - least)) * (to - from) }
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough))
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough)
}

function logScale(least, most, from, to) {
  const [first, last] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))]
  const decades = Math.max(1, last - first)
  const ticks = Array.from({ length: decades + 1 }, (_, n) => 10 ** (first + n))
  return { ticks, at: (value) => from + ((Math.log10(value) - first) / decades) * (to - from) }
}

/** Places of names, moved down where two would stand on each other. */
function apart(wanted) {
  const order = wanted.map((at, index) => ({ at, index })).toSorted((a, b) => a.at - b.at)
  order.forEach((one, n) => (one.at = n === 0 ? one.at : Math.max(one.at, order[n - 1].at + nameHeight)))
  return wanted.map((_, index) => order.find((one) => one.index === index).at)
}

function axes({ scaleX, scaleY, x, y }) {
  const [right, bottom] = [margin.left + inner.width, margin.top + inner.height]
  const horizontal = scaleY.ticks.flatMap((tick) => {
    const at = round(scaleY.at(tick))
    return [
      `<path d="M${margin.left} ${at}H${right}" stroke="#e5e5e5"/>`,
      text(margin.left - 8, at + 4, label(tick), 'text-anchor="end"'),
    ]
  })
  const vertical = scaleX.ticks.map((tick) => text(scaleX.at(tick), bottom + 18, label(tick), 'text-anchor="middle"'))
  const middle = margin.top + inner.height / 2
  return [
    ...horizontal,
    ...vertical,
    `<path d="M${margin.left} ${margin.top}V${bottom}H${right}" fill="none" stroke="#404040"/>`,
    text(margin.left + inner.width / 2, height - 14, x, 'text-anchor="middle"'),
    text(18, middle, y, `text-anchor="middle" transform="rotate(-90 18 ${round(middle)})"`),
  ]
}

function line({ name, points, dashed = false }, { scaleX, scaleY, colour, nameY }) {
  const places = points.map(([x, y]) => `${round(scaleX.at(x))} ${round(scaleY.at(y))}`)
  const dash = dashed ? ' stroke-dasharray="5 4"' : ''
  const [endX] = points.at(-1)
  return [
    `<path d="M${places.join('L')}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`,
    ...places.map(
      (place) => `<circle cx="${place.split(' ')[0]}" cy="${place.split(' ')[1]}" r="3" fill="${colour}"/>`,
    ),
    text(scaleX.at(endX) + 9, nameY + 4, name, `fill="${colour}"`),
  ]
}

const round = (value) => Math.round(value * 10) / 10
const label = (value) => Number(value.toPrecision(6)).toLocaleString('en-US')
const text = (x, y, content, attributes) =>
  `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escape(content)}</text>`
const escape = (content) => content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
