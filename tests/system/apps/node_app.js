// An app for Node that says which generation answered, and what it was sent. Finishes what it has on TERM.
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

const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    const answer = JSON.stringify({ generation: process.env.RELAY_GENERATION, pid: process.pid });
    response.writeHead(200, {
      "Content-Length": answer.length,
      "X-Request-Id": request.headers["x-request-id"] || "",
      "X-Generation": process.env.RELAY_GENERATION,
      "X-Body-Length": String(body.length),
      "X-Body-Crc32": crc32(body),
    });
    response.end(answer);
  });
});

process.on("SIGTERM", () => server.close(() => process.exit(0)));
if (process.env.RELAY_SOCKET) server.listen(process.env.RELAY_SOCKET);
else server.listen(process.env.PORT, process.env.HOST);
