/** HTTP alone, at its least: node:http reads a JSON body and answers one. */
import http from 'node:http'
import { grantOf, port } from './listen.mjs'

const server = http.createServer((request, response) => {
  let text = ''
  request.setEncoding('utf8').on('data', (chunk) => (text += chunk))
  request.on('end', () => {
    const answer = JSON.stringify(grantOf(JSON.parse(text)))
    response.writeHead(201, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) })
    response.end(answer)
  })
})
server.listen(port, '127.0.0.1')
