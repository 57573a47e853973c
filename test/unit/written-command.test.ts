/** A script goes out as RESP has it, whatever its arguments are. */
import t from 'tap'
import fc from 'fast-check'
import { writeCommand } from '../../src/redis/written-command.ts'

/** RESP2: the number of arguments, then each with its length in bytes. */
function asResp(args: (string | number)[]): Buffer {
  const parts = args.map((argument) => {
    const bytes = Buffer.from(String(argument))
    return Buffer.concat([Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n')])
  })
  return Buffer.concat([Buffer.from(`*${args.length}\r\n`), ...parts])
}

const argument = fc.oneof(fc.string({ unit: 'binary' }), fc.string(), fc.integer(), fc.double({ noNaN: true }))

t.test('byte for byte', async () => {
  fc.assert(
    fc.property(fc.array(argument), fc.array(argument), (keys, values) => {
      const head = ['evalsha', 'f'.repeat(40), keys.length]
      return Buffer.from(writeCommand(head, keys, values)).equals(asResp([...head, ...keys, ...values]))
    }),
  )
})

t.test('also where one is longer than most', async (t) => {
  for (const text of ['x'.repeat(100_000), 'ü'.repeat(300)]) {
    t.ok(Buffer.from(writeCommand(['eval', text])).equals(asResp(['eval', text])))
  }
})
