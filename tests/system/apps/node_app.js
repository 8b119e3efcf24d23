// An app for Node that says which generation answered, and what it was sent. Finishes what it has on TERM.
//   /headers        the request's headers, as JSON
//   /wait?MS        answers after so many milliseconds
//   /bytes?N        so many bytes; /chunked?N: the same in chunks, without a length
//   /nothing        ends the connection instead of an answer
"use strict";
const http = require("http");

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function crc32(body) {
  let crc = 0xffffffff;
  for (const byte of body) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ((crc ^ 0xffffffff) >>> 0).toString(16).padStart(8, "0");
}

const block = Buffer.alloc(65537, "0123456789abcdefghijklmnopqrstuvwxyz");

const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    const [path, number] = request.url.split("?");
    const amount = Number(number || 0);
    if (path === "/nothing") return request.socket.destroy();
    if (path === "/bytes" || path === "/chunked") return download(response, amount, path === "/bytes");
    if (path === "/wait") return setTimeout(() => answer(request, response, body), amount);
    answer(request, response, body);
  });
});

function download(response, length, known) {
  const headers = { "X-Generation": process.env.RELAY_GENERATION };
  if (known) headers["Content-Length"] = length;
  response.writeHead(200, headers);
  let sent = 0;
  const more = () => {
    while (sent < length) {
      const part = block.subarray(0, Math.min(block.length, length - sent));
      sent += part.length;
      if (!response.write(part)) return response.once("drain", more);
    }
    response.end();
  };
  more();
}

function answer(request, response, body) {
  const facts = { generation: process.env.RELAY_GENERATION, pid: process.pid };
  const text = JSON.stringify(request.url === "/headers" ? request.headers : facts);
  response.writeHead(200, {
    "Content-Length": text.length,
    "X-Request-Id": request.headers["x-request-id"] || "",
    "X-Generation": process.env.RELAY_GENERATION,
    "X-Body-Length": String(body.length),
    "X-Body-Crc32": crc32(body),
  });
  response.end(text);
}

process.on("SIGTERM", () => server.close(() => process.exit(0)));
if (process.env.RELAY_SOCKET) server.listen(process.env.RELAY_SOCKET);
else server.listen(process.env.PORT, process.env.HOST);
