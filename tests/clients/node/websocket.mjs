// node websocket.mjs undici|ws|http2 h1|h1s|h2 echo|deflate|bye|abort BASE [CA]
// Prints what `play` returns, as one line of JSON.

import { readFileSync } from 'node:fs';
import { require } from './modules.mjs';
import { play } from './play.mjs';
import { RawSocket } from './raw_http2.mjs';

const [client, wire, scenario, base, caFile] = process.argv.slice(2);
const ca = caFile ? readFileSync(caFile) : undefined;

function opener() {
  if (client === 'undici') {
    const { Agent, WebSocket } = require('undici');
    const dispatcher = new Agent({ allowH2: wire === 'h2', connect: { ca } });
    return {
      open: (url) => new WebSocket(url, { dispatcher }),
      done: () => dispatcher.close(),
    };
  }
  if (client === 'ws') {
    const { WebSocket } = require('ws');
    const perMessageDeflate = scenario === 'deflate';
    return { open: (url) => new WebSocket(url, { ca, perMessageDeflate }) };
  }
  return { open: (url) => new RawSocket(url, ca) };
}

const { open, done } = opener();
const outcome = await play(open, scenario, base);
console.log(JSON.stringify(outcome));
if (outcome.aborted) process.exit(); // vanish
await done?.();
