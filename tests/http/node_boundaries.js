// Where node, with its default strict parser, says that messages end. Reads lines {"side": ..., "hex": ...} from standard
// input and answers each with {"end": N} (bytes up to the end of the first message), {"tunnel": N} (N bytes of head, and
// opaque bytes from there on), {"refused": code} or {} (it waits for more). A message is fed byte by byte, so that the byte that ends it is known.
'use strict';
const http = require('http');
const readline = require('readline');
const { Duplex } = require('stream');

const HEAD_LIMIT = 128 * 1024;  // above relayd's own, which is to be reached first

class Wire extends Duplex {
  constructor() { super(); this.on('error', () => {}); }
  _read() {}
  _write(chunk, encoding, done) { done(); }
  setTimeout() { return this; }
  setNoDelay() { return this; }
  setKeepAlive() { return this; }
  ref() { return this; }
  unref() { return this; }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

// Feeds until `answer()` gives something.
async function feed(wire, bytes, answer) {
  await turn();
  for (let at = 0; at < bytes.length; ++at) {
    // Long runs of one byte are what bodies and limits are tested with; nothing ends in their middle.
    const run = bytes[at] > 0x20 && bytes.length > 3000 ? runLength(bytes, at) : 1;
    wire.push(bytes.subarray(at, at + run));
    at += run - 1;
    await turn();
    const said = answer(at + 1);
    if (said) return said;
  }
  await turn();
  return answer(bytes.length) || {};
}

function runLength(bytes, from) {
  let to = from + 1;
  while (to < bytes.length && bytes[to] === bytes[from]) ++to;
  return Math.max(1, to - from - 16);
}

async function request(bytes) {
  const wire = new Wire();
  let first = null;
  let opaque = false;
  let refused = null;
  const server = http.createServer({ maxHeaderSize: HEAD_LIMIT, keepAliveTimeout: 0 });
  server.maxHeadersCount = 0;
  const take = (message) => { first = first || message; message.resume(); };
  server.on('request', take);
  server.on('checkContinue', take);
  server.on('checkExpectation', take);
  server.on('connect', (message) => { first = first || message; opaque = true; });
  server.on('clientError', (error) => { refused = refused || error.code; });
  server.on('dropRequest', () => { refused = refused || 'dropped'; });
  server.emit('connection', wire);
  const said = await feed(wire, bytes, (at) => {
    if (first && (first.complete || opaque)) return { end: at };
    if (refused) return { refused };
    return wire.destroyed || wire.writableEnded ? { refused: 'closed' } : null;
  });
  wire.destroy();
  return said;
}

// `to`: what the request was; HEAD, CONNECT, upgrade, or anything else for GET.
async function response(bytes, to) {
  const wire = new Wire();
  const method = to === 'HEAD' || to === 'CONNECT' ? to : 'GET';
  const headers = to === 'upgrade' ? { Connection: 'upgrade', Upgrade: 'websocket' } : {};
  let first = null;
  let opaque = false;
  let refused = null;
  const client = http.request(
    { createConnection: () => wire, method, headers, host: 'a', path: '/', maxHeaderSize: HEAD_LIMIT });
  client.on('error', (error) => { refused = refused || error.code; });
  client.on('information', () => { first = first || { complete: true }; });
  client.on('response', (message) => {
    first = first || message;
    message.on('error', (error) => { refused = refused || error.code; });
    message.resume();
  });
  for (const event of ['connect', 'upgrade']) client.on(event, () => { opaque = true; });
  client.end();
  const said = await feed(wire, bytes, (at) => {
    if (opaque) return { tunnel: at };
    if (first && first.complete) return { end: at };
    return refused ? { refused } : null;
  });
  client.destroy();
  wire.destroy();
  return said;
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { side, hex } = JSON.parse(line);
    const bytes = Buffer.from(hex, 'hex');
    const said = side === 'request' ? await request(bytes) : await response(bytes, side.replace('response-to-', ''));
    process.stdout.write(JSON.stringify(said) + '\n');
  }
}

process.on('uncaughtException', (error) => { process.stderr.write(`${error.stack}\n`); process.exit(1); });
main().then(() => process.exit(0));
