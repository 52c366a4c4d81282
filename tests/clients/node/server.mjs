// node server.mjs PORT DEFLATE [CERT KEY]
// Echoes WebSockets at /ws; "close" closes with 4001. A server of the package ws.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { require } from './modules.mjs';

const { WebSocketServer } = require('ws');
const [port, deflate, cert, key] = process.argv.slice(2);

const server = cert
  ? createSecureServer({ cert: readFileSync(cert), key: readFileSync(key) })
  : createServer();
new WebSocketServer({
  server,
  path: '/ws',
  perMessageDeflate: deflate === 'deflate' && { threshold: 0 },
  handleProtocols: (offered) => offered.has('chat') && 'chat',
}).on('connection', (ws) => {
  ws.on('message', (data, isBinary) => {
    if (!isBinary && data.toString() === 'close') ws.close(4001, 'asked');
    else ws.send(data, { binary: isBinary });
  });
});
server.listen(Number(port), '127.0.0.1');
