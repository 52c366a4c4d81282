// node reconnecting.mjs FILE      the class of docs/how-to/browser.md, with a WebSocket, a
//     clock and chance that this script has in its hands

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const sockets = [], timers = [], heard = {}, asked = [];
let held = null; // what goes on when `fetch` is done
class Socket {
  static OPEN = 1;
  static CLOSED = 3;
  readyState = 0;
  sent = [];
  constructor(url) {
    this.url = String(url);
    sockets.push(this);
  }
  open() {
    this.readyState = 1;
    this.onopen();
  }
  message(data) {
    this.onmessage({ data });
  }
  lose(code) {
    this.readyState = 3;
    this.onclose({ code });
  }
  send(data) {
    this.sent.push(data);
  }
  close(code) {
    this.closed = code;
  }
}
const world = {
  WebSocket: Socket,
  addEventListener: (name, call) => (heard[name] = call),
  setTimeout: (call, after) => timers.push({ call, after }) - 1,
  clearTimeout: (number) => number !== undefined && (timers[number].call = () => {}),
  location: 'https://localhost/',
  fetch: (url, { method }) => {
    asked.push(`${method} ${url}`);
    return { catch: () => ({ then: (call) => (held ? held.push(call) : call()) }) };
  },
  Math: { min: Math.min, random: () => 1 },
};
const source = readFileSync(process.argv[2], 'utf8');
const make = new Function(...Object.keys(world), `${source}\nreturn Reconnecting;`);
const Reconnecting = make(...Object.values(world));

const seen = [];
const chat = new Reconnecting('wss://localhost/ws', (data) => {
  seen.push(data);
  return data === 'plain' ? undefined : `at-${data}`;
});
const last = () => sockets.at(-1);
assert.equal(last().url, 'wss://localhost/ws');
assert.equal(chat.send('too early'), false);
last().open();
assert.equal(chat.send('hello'), true);
assert.deepEqual(last().sent, ['hello']);
last().message('1');
last().message('plain'); // a message without a position leaves the last one

const delays = [];
for (let lost = 0; lost < 7; lost += 1) {
  last().lose(1006);
  delays.push(timers.at(-1).after);
  timers.at(-1).call();
  assert.equal(last().url, 'wss://localhost/ws?since=at-1');
}
assert.equal(asked.join(' '), Array(7).fill('HEAD https://localhost/').join(' '));
assert.deepEqual(delays, [1000, 2000, 4000, 8000, 16000, 30000, 30000]);

last().open(); // delays begin anew
last().lose(1001);
assert.equal(timers.at(-1).after, 1000);
heard.online(); // at once
assert.equal(timers.at(-1).after, 0);
const before = sockets.length;
held = [];
timers.at(-1).call();
heard.online(); // once more, while the request is under way
timers.at(-1).call();
held.forEach((call) => call());
assert.equal(sockets.length, before + 1);
held = null;

last().open();
heard.online(); // an open socket stays
assert.equal(last().readyState, 1);
const waiting = timers.length;
last().lose(4401); // the server does not want it back
assert.equal(timers.length, waiting);

const other = new Reconnecting('wss://localhost/ws', () => {});
other.close();
assert.equal(last().closed, 1000);
last().lose(1000);
assert.equal(timers.length, waiting);

const third = new Reconnecting('wss://localhost/ws', () => {});
last().lose(1006);
held = [];
timers.at(-1).call();
third.close(); // while the request is under way
const all = sockets.length;
held.forEach((call) => call());
assert.equal(sockets.length, all);
console.log(`${sockets.length} sockets, ${seen.length} messages`);
