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
      abort: () => dispatcher.destroy(),
      done: () => dispatcher.close(),
    };
  }
  let socket;
  if (client === 'ws') {
    const { WebSocket } = require('ws');
    const perMessageDeflate = scenario === 'deflate';
    return {
      open: (url) => (socket = new WebSocket(url, { ca, perMessageDeflate })),
      abort: () => socket.terminate(),
      done: () => {},
    };
  }
  return {
    open: (url) => (socket = new RawSocket(url, ca)),
    abort: () => socket.abort(),
    done: () => {},
  };
}

const { open, abort, done } = opener();
const outcome = await play(open, scenario, base);
if (outcome.aborted) await abort();
else await done();
console.log(JSON.stringify(outcome));
