// One scenario with any W3C WebSocket: undici's, ws's, a browser's. Self-contained, because
// a browser gets the source text of `play`.

export async function play(open, scenario, base) {
  const paths = { echo: '/echo', deflate: '/deflate', bye: '/bye', abort: '/echo' };
  const ws = open(base + paths[scenario]);
  ws.binaryType = 'arraybuffer';

  const inbox = [];
  let wake = () => {};
  const receive = async () => {
    while (inbox.length === 0) await new Promise((resolve) => (wake = resolve));
    return inbox.shift();
  };
  const closed = new Promise((resolve) => {
    ws.onclose = (event) => resolve({ event, at: performance.now() });
  });
  ws.onmessage = (event) => {
    inbox.push(event.data);
    wake();
  };
  await new Promise((resolve, reject) => {
    ws.onopen = resolve;
    ws.onerror = (event) => reject(new Error(`handshake failed: ${event.message}`));
  });
  ws.onerror = null;

  const echo = async (message) => {
    ws.send(message);
    const got = await receive();
    if (typeof message === 'string') {
      if (got !== message) throw new Error('another text came back');
      return;
    }
    const bytes = new Uint8Array(got);
    if (bytes.length !== message.length) throw new Error('another length came back');
    if (bytes.some((byte, at) => byte !== message[at])) throw new Error('other bytes');
  };

  let asked;
  if (scenario === 'bye') {
    asked = performance.now();
    ws.send('close now');
  } else {
    await echo('hello \u{1F419}');
    await echo('');
    await echo(Uint8Array.from({ length: 1 << 20 }, (_, at) => at % 251));
    if (scenario === 'abort') return { aborted: true };
    asked = performance.now();
    ws.close(1000, 'done');
  }
  const { event, at } = await closed;
  return {
    code: event.code,
    reason: event.reason,
    clean: event.wasClean ?? null,
    seconds: (at - asked) / 1000,
    extensions: ws.extensions,
  };
}
