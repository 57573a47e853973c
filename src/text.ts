/** Characters are code points, as JSON Schema counts them: an emoji is one, not the two units that JavaScript keeps it in. */

/** Where the character after the first `chars` begins, in units; the length of the text where there is none. */
function endOf(text: string, chars: number): number {
  if (text.length <= chars) return text.length
  let end = 0
  for (let left = chars; left > 0 && end < text.length; left--)
    end += (text.codePointAt(end) as number) > 0xffff ? 2 : 1
  return end
}

export const isWithin = (text: string, charsMax: number): boolean => endOf(text, charsMax) === text.length

/** The first `charsMax` characters, none of them cut in half. */
export const cutAt = (text: string, charsMax: number): string => text.slice(0, endOf(text, charsMax))
