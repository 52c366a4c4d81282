// Node's own http2 module and frames by hand (RFC 8441, RFC 6455), with the part of the
// W3C interface that `play` uses.

import http2 from 'node:http2';

const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const MASK = Buffer.from([0x37, 0xfa, 0x21, 0x3d]);

function frame(opcode, payload) {
  const size = payload.length;
  const head = Buffer.alloc(size < 126 ? 2 : size < 65536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  if (size < 126) {
    head[1] = 0x80 | size;
  } else if (size < 65536) {
    head[1] = 0x80 | 126;
    head.writeUInt16BE(size, 2);
  } else {
    head[1] = 0x80 | 127;
    head.writeBigUInt64BE(BigInt(size), 2);
  }
  const masked = Buffer.from(payload);
  for (let at = 0; at < size; at += 1) masked[at] ^= MASK[at & 3];
  return Buffer.concat([head, MASK, masked]);
}

export class RawSocket {
  extensions = '';

  constructor(url, ca) {
    const target = new URL(url.replace(/^ws/, 'http'));
    this.session = http2.connect(target.origin, { ca });
    this.session.on('error', (error) => this.onerror?.(error));
    this.session.once('remoteSettings', (settings) => {
      if (!settings.enableConnectProtocol) {
        this.onerror?.(new Error('the server does not offer extended CONNECT'));
        return;
      }
      this.#connect(target.pathname);
    });
  }

  #connect(path) {
    this.received = Buffer.alloc(0);
    this.stream = this.session.request({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':path': path,
      'sec-websocket-version': '13',
    });
    this.stream.on('response', (headers) => {
      if (headers[':status'] === 200) this.onopen?.({});
      else this.onerror?.(new Error(`status ${headers[':status']}`));
    });
    this.stream.on('data', (data) => this.#receive(data));
    this.stream.on('end', () => this.stream.end());
    this.stream.on('close', () => {
      const { code, reason } = this.close_ ?? { code: 1006, reason: '' };
      const wasClean = this.close_ !== undefined && this.stream.rstCode === 0;
      this.onclose?.({ code, reason, wasClean });
      this.session.close();
    });
    this.stream.on('error', (error) => this.onerror?.(error));
  }

  #receive(data) {
    this.received = Buffer.concat([this.received, data]);
    for (;;) {
      const buffer = this.received;
      if (buffer.length < 2) return;
      let size = buffer[1];
      let head = 2;
      if (size === 126) {
        if (buffer.length < 4) return;
        size = buffer.readUInt16BE(2);
        head = 4;
      } else if (size === 127) {
        if (buffer.length < 10) return;
        size = Number(buffer.readBigUInt64BE(2));
        head = 10;
      }
      if (buffer.length < head + size) return;
      this.#take(buffer[0] & 15, buffer.subarray(head, head + size));
      this.received = buffer.subarray(head + size);
    }
  }

  #take(opcode, payload) {
    if (opcode === TEXT) this.onmessage?.({ data: payload.toString() });
    if (opcode === BINARY) this.onmessage?.({ data: Uint8Array.from(payload).buffer });
    if (opcode === CLOSE) {
      const code = payload.length ? payload.readUInt16BE(0) : 1005;
      this.close_ = { code, reason: payload.subarray(2).toString() };
      if (!this.closing) this.stream.write(frame(CLOSE, payload));
    }
  }

  send(message) {
    const text = typeof message === 'string';
    this.stream.write(frame(text ? TEXT : BINARY, Buffer.from(message)));
  }

  close(code, reason) {
    this.closing = true;
    const payload = Buffer.alloc(2);
    payload.writeUInt16BE(code);
    this.stream.write(frame(CLOSE, Buffer.concat([payload, Buffer.from(reason)])));
  }
}
