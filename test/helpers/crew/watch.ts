/** Follows the event stream of a service over its deaths, and tells what it says about effects. */
import http from 'node:http'
import type { Recorder, Sight } from '../checker/history.ts'

const reconnectMs = 300
const sights: Record<string, Sight['f']> = {
  'effect.uncertain': 'uncertain',
  'effect.reclaimed': 'reclaimed',
  'effect.late_completion': 'late_completion',
  'effect.record_recovered': 'recovered',
}

type Heard = { event: string; effect_id?: string }

/** `heard` is told every event by name. Answers how to stop. */
export function watchEvents(service: string, recorder: Recorder, heard: (event: string) => void): () => void {
  let [lastId, stopped, rest] = ['', false, '']
  let call: http.ClientRequest | undefined

  function tell(line: string): void {
    if (line.startsWith('id:')) lastId = line.slice(3).trim()
    if (!line.startsWith('data:')) return
    const { event, effect_id } = JSON.parse(line.slice(5)) as Heard
    heard(event)
    const sight = sights[event]
    if (sight && effect_id !== undefined) recorder.saw(sight, effect_id)
  }

  function connect(): void {
    if (stopped) return
    const headers = lastId === '' ? {} : { 'last-event-id': lastId }
    call = http.get(`${service}/api/v1/events`, { headers }, (response) => {
      rest = ''
      response.setEncoding('utf8').on('data', (text: string) => {
        const lines = (rest + text).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) tell(line)
      })
      response.on('error', () => undefined)
    })
    call.on('error', () => undefined)
    call.on('close', () => setTimeout(connect, reconnectMs).unref())
  }

  connect()
  return () => {
    stopped = true
    call?.destroy()
  }
}
