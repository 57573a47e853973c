/**
 * Connection errors of HTTP clients in Python, Node, Go and Java. They hold only where no HTTP status is known: inside
 * an answer such words speak of somebody else's connection.
 *
 * Order matters. A text may tell of several attempts, so whatever hints at a request that was sent comes before
 * whatever proves that no connection was made; the vaguest words come last.
 */
import { anyOf, rule, type Execution, type FailureType, type Rule } from '../rule.ts'

type Row = readonly [id: string, source: string, meaning: string, pattern: RegExp, example: string]

const table = (failure_type: FailureType, execution: Execution, rows: readonly Row[]): Rule[] =>
  rows.map(([id, source, meaning, pattern, example]) =>
    rule({ source }, { id: `network.${id}`, meaning, failure_type, execution, pattern, example, http_status: 'none' }),
  )

const node = 'Node.js, Errors, Common system errors'
const undici = 'undici, docs, Errors'
const requests = 'requests and urllib3, exceptions'
const httpx = 'httpx, Exceptions, hierarchy'
const aiohttp = 'aiohttp, Client Reference, Client exceptions'
const golang = 'Go, packages net and net/http'
const java = 'Java SE API, java.net and java.net.http exceptions'

/** The connection was there: the request may have arrived. */
const sent: readonly Rule[] = [
  ...table('TIMEOUT', 'unknown', [
    [
      'read-timeout',
      requests,
      'no answer in time',
      /\bReadTimeout(?:Error)?\b|\bread timed out\b|\bread timeout\b/i,
      "HTTPSConnectionPool(host='api.binance.com', port=443): Read timed out. (read timeout=10)",
    ],
    ['write-timeout', httpx, 'the request could not be sent in time', /\bWriteTimeout\b/, 'httpx.WriteTimeout'],
    [
      'undici-timeout',
      undici,
      'no headers or body in time',
      /\bUND_ERR_(?:HEADERS|BODY)_TIMEOUT\b|\b(?:Headers|Body) Timeout Error\b/,
      'HeadersTimeoutError: Headers Timeout Error (UND_ERR_HEADERS_TIMEOUT)',
    ],
    [
      'aiohttp-read-timeout',
      aiohttp,
      'no data in time',
      /\bTimeout on reading data from socket\b|\bSocketTimeoutError\b/,
      'aiohttp.client_exceptions.SocketTimeoutError: Timeout on reading data from socket',
    ],
    ['node-read-timeout', node, 'no answer in time', /\b(?:read|write) ETIMEDOUT\b/, 'read ETIMEDOUT'],
    [
      'go-read-timeout',
      golang,
      'no answer in time',
      /\b(?:read|write) (?:tcp|udp)\b[^\n]*\bi\/o timeout\b|timeout awaiting response headers/,
      'read tcp 10.0.0.5:51234->52.84.150.34:443: i/o timeout',
    ],
  ]),
  ...table('NETWORK_ERROR', 'unknown', [
    [
      'reset',
      node,
      'the connection was reset',
      /\bECONNRESET\b|\bconnection reset\b|\bConnectionResetError\b|\bforcibly closed\b/i,
      'read ECONNRESET',
    ],
    ['hang-up', node, 'the connection ended without an answer', /\bsocket hang up\b/i, 'socket hang up'],
    ['broken-pipe', node, 'the connection was closed while sending', /\bEPIPE\b|\bbroken ?pipe\b/i, 'write EPIPE'],
    [
      'aborted',
      node,
      'the connection was aborted',
      /\bConnection aborted\b|\bConnectionAbortedError\b/i,
      "('Connection aborted.', None)",
    ],
    [
      'closed-without-response',
      requests,
      'the other side closed without an answer',
      anyOf(
        /\bRemoteDisconnected\b/,
        /\bclosed connection without response\b/,
        /\bServer disconnected\b/,
        /\bServerDisconnectedError\b/,
        /\bRemoteProtocolError\b/,
      ),
      'httpx.RemoteProtocolError: Server disconnected without sending a response.',
    ],
    [
      'incomplete-answer',
      requests,
      'the answer broke off',
      /\bIncompleteRead\b|\bProtocolError\b|\bChunkedEncodingError\b|\bClientPayloadError\b/,
      'http.client.IncompleteRead: IncompleteRead(12 bytes read, 88 more expected)',
    ],
    [
      'undici-socket',
      undici,
      'the connection broke',
      /\bUND_ERR_SOCKET\b|\bother side closed\b/,
      'SocketError: other side closed (UND_ERR_SOCKET)',
    ],
    [
      'httpx-read',
      httpx,
      'the connection broke while reading or writing',
      /\bhttpx\.(?:ReadError|WriteError|CloseError)\b|^(?:ReadError|WriteError|CloseError)$/,
      'httpx.ReadError',
    ],
    [
      'go-eof',
      golang,
      'the connection ended without an answer',
      /(?:^|: )(?:unexpected )?EOF$|\bserver closed idle connection\b|\btransport connection broken\b/,
      'Post "https://api.binance.com/api/v3/order": EOF',
    ],
    [
      'java-no-answer',
      java,
      'the connection ended without an answer',
      anyOf(
        /\bNoHttpResponseException\b/,
        /\bunexpected end of (?:stream|file)\b/,
        /\bHTTP\/1\.1 header parser received no bytes\b/,
      ),
      'java.io.IOException: unexpected end of stream on https://api.binance.com/...',
    ],
    [
      'websocket-closed',
      'websockets (Python) and ws (Node), errors',
      'the WebSocket closed before the answer',
      /\bno close frame received\b|\bConnectionClosed(?:Error|OK)?\b|\bWebSocket (?:was closed|is not open)\b/,
      'websockets.exceptions.ConnectionClosedError: no close frame received or sent',
    ],
  ]),
]

/** No connection was made: nothing can have arrived. */
const notSent: readonly Rule[] = [
  ...table('NETWORK_ERROR', 'no', [
    [
      'refused',
      node,
      'the connection was refused',
      /\bECONNREFUSED\b|\bconnection refused\b|\bConnectionRefusedError\b|\bactively refused\b/i,
      'connect ECONNREFUSED 127.0.0.1:443',
    ],
    [
      'dns',
      node,
      'the host name could not be resolved',
      anyOf(
        /\bENOTFOUND\b/,
        /\bEAI_AGAIN\b/,
        /\bgetaddrinfo failed\b/,
        /\bgaierror\b/,
        /\bNameResolutionError\b/,
        /\bName or service not known\b/,
        /\bname resolution\b/,
        /\bnodename nor servname\b/,
        /\bno such host\b/,
        /\bUnknownHostException\b/,
        /\bClientConnectorDNSError\b/,
      ),
      'getaddrinfo ENOTFOUND api.binance.com',
    ],
    [
      'unreachable',
      node,
      'there is no way to the host',
      /\bconnect E(?:NETUNREACH|HOSTUNREACH)\b|\bNoRouteToHostException\b/,
      'connect ENETUNREACH 52.84.150.34:443',
    ],
    [
      'tls',
      node,
      'no secure connection could be made',
      anyOf(
        /\bcertificate verify failed\b/,
        /\bcertificate has expired\b/,
        /\bCERT_HAS_EXPIRED\b/,
        /\bSELF_SIGNED_CERT\w*/,
        /\bself.signed certificate\b/,
        /\bUNABLE_TO_(?:VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT\w*)/,
        /\bERR_TLS_CERT_ALTNAME_INVALID\b/,
        /\bbefore secure TLS connection was established\b/,
        /\bSSLHandshakeException\b/,
        /\bx509: /,
        /\bClientConnectorCertificateError\b/,
        /\bTLS handshake timeout\b/,
      ),
      'Client network socket disconnected before secure TLS connection was established',
    ],
    [
      'not-connected',
      requests,
      'no connection could be made',
      anyOf(
        /\bNewConnectionError\b/,
        /\bFailed to establish a new connection\b/,
        /\bCannot connect to (?:host|proxy)\b/,
        /\bClientConnectorError\b/,
        /\bAll connection attempts failed\b/,
        /\b(?:httpx|httpcore)\.ConnectError\b/,
        /^ConnectError$/,
        /\bfailed to connect to\b/,
      ),
      'Cannot connect to host api.binance.com:443 ssl:default [None]',
    ],
    [
      'go-dial',
      golang,
      'no connection could be made',
      /\bdial (?:tcp|udp)[46]?\b/,
      'dial tcp 52.84.150.34:443: connect: cannot assign requested address',
    ],
    [
      'java-connect',
      java,
      'no connection could be made',
      /\bjava\.net\.ConnectException\b|\bHttpHostConnectException\b|^ConnectException\b/,
      'java.net.ConnectException',
    ],
  ]),
  ...table('TIMEOUT', 'no', [
    [
      'connect-timeout',
      requests,
      'no connection in time',
      anyOf(
        /\bConnectTimeout(?:Error|Exception)?\b/,
        /\bHttpConnectTimeoutException\b/,
        /\bconnect timed out\b/,
        /\bConnect Timeout Error\b/,
        /\bUND_ERR_CONNECT_TIMEOUT\b/,
        /\bconnect ETIMEDOUT\b/,
        /\bERR_SOCKET_CONNECTION_TIMEOUT\b/,
        /\bConnection timeout to host\b/,
        /\bConnectionTimeoutError\b/,
        /\(connect timeout=/,
      ),
      'UND_ERR_CONNECT_TIMEOUT: Connect Timeout Error (attempted address: api.binance.com:443, timeout: 10000ms)',
    ],
    [
      'pool-timeout',
      httpx,
      'no free connection in time',
      /\bPoolTimeout\b|\brequest canceled while waiting for connection\b|\bEmptyPoolError\b/,
      'httpx.PoolTimeout',
    ],
  ]),
]

/** Words that do not say whether the request was sent. */
const vague: readonly Rule[] = [
  ...table('TIMEOUT', 'unknown', [
    [
      'timeout',
      'Python, Node.js, Go and Java, standard libraries',
      'a time-out, of what is not said',
      anyOf(
        /\btimed[ -]?out\b/,
        /\btime-?out\b/,
        /\b\w*Timeout(?:Error|Exception)?\b/,
        /\bETIMEDOUT\b/,
        /\bECONNABORTED\b/,
        /\bcontext deadline exceeded\b/,
        /\bdeadline[ _]exceeded\b/,
      ),
      'Get "https://api.binance.com": context deadline exceeded (Client.Timeout exceeded while awaiting headers)',
    ],
  ]),
  ...table('NETWORK_ERROR', 'unknown', [
    [
      'connection',
      'Python, Node.js, Go and Java, standard libraries',
      'the connection failed, when is not said',
      anyOf(
        /\bConnectionError\b/,
        /\bClient(?:Connection|OS)Error\b/,
        /\bfetch failed\b/,
        /\bERR_NETWORK\b/,
        /\bNetwork Error\b/,
        /\b(?:network|host) is unreachable\b/,
        /\bno route to host\b/,
        /\bE(?:NETUNREACH|HOSTUNREACH|NETDOWN|HOSTDOWN)\b/,
        /\bSocketException\b/,
        /\bSSLError\b/,
        /\bSSLEOFError\b/,
        /\bSSLException\b/,
        /\bMax retries exceeded\b/,
        /\brequest (?:was )?(?:aborted|canceled)\b/,
        /\bUND_ERR_\w+/,
        /\bERR_HTTP2_\w+/,
        /\bTransportError\b/,
      ),
      'TypeError: fetch failed',
    ],
  ]),
]

export const network: readonly Rule[] = [...sent, ...notSent]
export const networkVague: readonly Rule[] = vague
