"""An app that says whom it takes for its client: client_app.py v1|v2|none.

v1, v2: every connection must begin with a PROXY header of this version, and nothing else will do: it is read by a strict
reader of its own, and whoever sends another is closed without an answer. none: its client is who connects.
X-Client names the client, "unknown" where the header names none (UNKNOWN, LOCAL), as a health check's; X-Destination is
where it went. X-Accepted counts connections; X-Arrived and X-Started are when this request came and when the app began
to listen, in ns of CLOCK_MONOTONIC, which is one for all processes.
"""

import asyncio
import ipaddress
import os
import re
import signal
import socket
import sys
import time
import zlib

V1 = re.compile(r"PROXY (TCP4|TCP6) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n")
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
UNKNOWN = ("unknown", "unknown")


class Refused(Exception):
    pass


async def read_v1(reader):
    line = (await reader.readuntil(b"\n")).decode("ascii")
    if len(line) > 107:
        raise Refused(f"too long: {line!r}")
    if line == "PROXY UNKNOWN\r\n":
        return UNKNOWN
    match = V1.fullmatch(line)
    if match is None:
        raise Refused(f"no header of version 1: {line!r}")
    family, *addresses = match[1], ipaddress.ip_address(match[2]), ipaddress.ip_address(match[3])
    if {address.version for address in addresses} != {int(family[3])} or max(int(match[4]), int(match[5])) > 65535:
        raise Refused(f"not as its family: {line!r}")
    return f"{addresses[0]}:{match[4]}", f"{addresses[1]}:{match[5]}"


async def read_v2(reader):
    fixed = await reader.readexactly(16)
    length = int.from_bytes(fixed[14:], "big")
    if fixed[:12] != SIGNATURE or fixed[12] not in (0x20, 0x21):
        raise Refused(f"no header of version 2: {fixed!r}")
    rest = await reader.readexactly(length)
    if fixed[12] == 0x20:
        return UNKNOWN
    family, size = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}.get(fixed[13], (None, 0))
    if family is None or length != 2 * size + 4:
        raise Refused(f"family {fixed[13]:#x} with {length} bytes")
    ports = [int.from_bytes(rest[at : at + 2], "big") for at in (2 * size, 2 * size + 2)]
    hosts = [socket.inet_ntop(family, rest[at : at + size]) for at in (0, size)]
    return tuple(f"{host}:{port}" for host, port in zip(hosts, ports))


class App:
    def __init__(self, version):
        self.version = version
        self.accepted = 0
        self.started = time.monotonic_ns()

    async def serve(self, reader, writer):
        try:
            self.accepted += 1
            number = self.accepted
            clients = await self.introduced(reader, writer)
            while await self.answer(reader, writer, clients, number):
                pass
        except Refused as error:
            print(f"client_app refuses a client: {error}", file=sys.stderr, flush=True)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def introduced(self, reader, writer):
        if self.version == "none":
            names = [writer.get_extra_info(name) for name in ("peername", "sockname")]
            return [f"{name[0]}:{name[1]}" for name in names]
        return await (read_v1 if self.version == "v1" else read_v2)(reader)

    async def answer(self, reader, writer, clients, number):
        """One request; False after the last of its connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        arrived = time.monotonic_ns()
        line, *rest = head[:-4].split("\r\n")
        if not re.fullmatch(r"(GET|POST) /\S* HTTP/1\.1", line):
            raise Refused(f"no request: {line!r}")
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        keep = headers.get("connection", "").lower() != "close"
        said = {
            "Content-Length": 3,
            "X-Request-Id": headers.get("x-request-id", ""),
            "X-Generation": os.environ.get("RELAY_GENERATION", ""),
            "X-Body-Length": len(body),
            "X-Body-Crc32": "%08x" % zlib.crc32(body),
            "X-Client": clients[0],
            "X-Destination": clients[1],
            "X-Accepted": number,
            "X-Arrived": arrived,
            "X-Started": self.started,
            "Connection": "keep-alive" if keep else "close",
        }
        text = "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in said.items())
        writer.write(text.encode() + b"\r\nok\n")
        await writer.drain()
        return keep


async def main():
    app = App(sys.argv[1])
    if "RELAY_SOCKET" in os.environ:
        server = await asyncio.start_unix_server(app.serve, os.environ["RELAY_SOCKET"], backlog=1024)
    else:
        server = await asyncio.start_server(app.serve, os.environ["HOST"], int(os.environ["PORT"]), backlog=1024)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.close)
    try:
        await server.serve_forever()
    except asyncio.CancelledError:  # by close(): the drain is over before relayd sends TERM
        pass


asyncio.run(main())
