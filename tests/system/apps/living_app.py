"""The other end of harness/crowd: HTTP and raw TCP on one address, told apart by the first byte of a connection.

HTTP (kept open, pipelining, WebSockets):
  GET /kept?ID                answers the ID twenty times; POST: the body
  GET /download?size=&seed=   so many bytes of content(seed)
  POST /upload?pause=MS       takes the body, resting so long after each piece; answers its SHA-256 and length
  GET /ws                     a WebSocket that echoes
  GET /up                     its health
Raw, by the first letter:
  a digit                     echoes every byte
  "lines N MS\n"              N numbered lines, one in so many ms, whether or not the client can still write; then the end
  "mute PATH\n"               answers "muted\n" and shuts down its writing; at the client's end writes what it got to PATH
  "order\n"                   answers which connection this is to the process, counted from 0

On TERM it takes no more clients, finishes what it has, and ends. LISTEN_FDS and NOTIFY_SOCKET are obeyed.
--fault KIND --after N misbehaves once, at the Nth answer (deaf, mishear: at the Nth piece that it gets), as a test of the crowd.
LIVING_BOOT_MS=MS waits before it listens; with LIVING_BOOT_FAILS set it ends instead.
"""

import argparse
import asyncio
import base64
import functools
import hashlib
import json
import os
import random
import signal
import socket
import struct
import sys
import time

BACKLOG = 4096
BLOCK = 65537  # a prime: no buffer's size divides it


@functools.lru_cache
def content(seed):
    return random.Random(int(seed)).randbytes(BLOCK)


def line(number):
    return b"%08d and some more, so that it is no short line\n" % number


class Fault:
    """Once, at the `after`th answer of the process, or the `after`th piece that it hears."""

    def __init__(self, kind, after):
        self.kind, self.left = kind, after

    def strikes(self, hearing=False):
        if self.kind is None or hearing != (self.kind in ("deaf", "mishear")):
            return False
        self.left -= 1
        return self.left == 0

    def on(self, data):
        """The bytes as they leave a faulty app; the fault is in their middle."""
        at = len(data) // 2
        return {
            "drop": data[:at] + data[at + 1 :],
            "repeat": data[: at + 1] + data[at:],
            "flip": data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
        }.get(self.kind, data)


class App:
    def __init__(self, fault):
        self.fault = fault
        self.accepted = 0
        self.connections = set()
        self.draining = False
        self.ended = asyncio.get_running_loop().create_future()

    def drain(self):
        self.draining = True
        for each in list(self.connections):
            each.leave_if_idle()
        self.look()

    def look(self):
        if self.draining and not self.connections and not self.ended.done():
            self.ended.set_result(None)


class Connection(asyncio.Protocol):
    """Decides by the first byte what the client speaks, and hands it over."""

    def __init__(self, app):
        self.app = app
        self.role = None
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.number = self.app.accepted
        self.app.accepted += 1
        self.app.connections.add(self)

    def data_received(self, data):
        if self.role is None:
            first = data[:1]
            self.role = Http(self) if first in (b"G", b"P") else Echo(self) if first.isdigit() else Command(self)
        self.role.received(data)

    def eof_received(self):
        return self.role.eof() if self.role else False

    def pause_writing(self):
        if self.role:
            self.role.writable = False

    def resume_writing(self):
        if self.role:
            self.role.writable = True
            self.role.go_on()

    def connection_lost(self, _):
        self.app.connections.discard(self)
        if self.role:
            self.role.gone = True
        self.app.look()

    def leave_if_idle(self):
        if self.role and self.role.idle():  # who has said nothing yet may do so
            self.transport.close()


class Role:
    def __init__(self, connection):
        self.connection = connection
        self.transport = connection.transport
        self.fault = connection.app.fault
        self.writable = True
        self.gone = False

    def idle(self):
        return False

    def eof(self):
        return False  # what is written is still sent

    def go_on(self):
        pass

    def heard(self, data):
        """What of it a faulty app hears."""
        if not self.fault.strikes(hearing=True):
            return data
        return data[1:] if self.fault.kind == "deaf" else bytes([data[0] ^ 1]) + data[1:]

    def answer(self, data, head=lambda length: b""):
        """`data` as the fault leaves it, after a head for that length."""
        strikes = self.fault.strikes()
        if strikes and self.fault.kind == "cut":
            return self.transport.close()
        if strikes and self.fault.kind == "reset":
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return self.transport.abort()
        said = self.fault.on(data) if strikes else data
        self.transport.write(head(len(said)) + said)
        if strikes and self.fault.kind == "stray":
            self.transport.write(b"!")  # more than was announced
        if strikes and self.fault.kind == "close":
            self.transport.close()


class Echo(Role):
    def received(self, data):
        self.answer(data)


class Command(Role):
    def __init__(self, connection):
        super().__init__(connection)
        self.buffer = b""
        self.lines = 0
        self.path = None
        self.got = hashlib.sha256()
        self.bytes = 0

    def received(self, data):
        if self.path is None:
            self.buffer += data
            if b"\n" not in self.buffer:
                return
            command, _, data = self.buffer.partition(b"\n")
            word, *rest = command.decode().split(" ")
            if word == "lines":
                self.lines = int(rest[0])
                self.send_line(0, self.lines, int(rest[1]) / 1000)
            elif word == "order":
                self.answer(b"%d\n" % self.connection.number)
            elif word == "mute":
                self.path = rest[0]
                self.transport.write(b"muted\n")
                self.transport.write_eof()
        if self.path is not None and data:
            data = self.heard(data)
            self.got.update(data)
            self.bytes += len(data)

    def send_line(self, number, end, pause):
        if self.gone:
            return
        if number == end:
            self.transport.close()
            return
        self.answer(line(number))
        asyncio.get_running_loop().call_later(pause, self.send_line, number + 1, end, pause)

    def eof(self):
        if self.path is None:
            return bool(self.lines)  # they go on
        with open(self.path + ".new", "w", encoding="ascii") as file:
            json.dump({"bytes": self.bytes, "sha256": self.got.hexdigest()}, file)
        os.rename(self.path + ".new", self.path)
        self.transport.close()
        return False


class Http(Role):
    def __init__(self, connection):
        super().__init__(connection)
        self.buffer = bytearray()
        self.body = None  # of the request under way: [bytes left, hash, length so far, the bytes that are echoed]
        self.speaks_frames = False
        self.download = None  # [block, bytes left]

    def idle(self):
        return not self.buffer and self.body is None and self.download is None and not self.speaks_frames

    def received(self, data):
        self.buffer += data
        self.go_on()

    def go_on(self):
        while not self.gone and not self.transport.is_closing():
            if self.download is not None:
                if not self.send_block():
                    return
            elif self.speaks_frames:
                if not self.take_frame():
                    return
            elif self.body is not None:
                if not self.take_body():
                    return
            elif not self.take_head():
                return

    def done(self):
        if self.connection.app.draining and self.idle():
            self.transport.close()

    def take_head(self):
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = self.buffer[:end].decode().split("\r\n")
        del self.buffer[: end + 4]
        self.method, target, _ = lines[0].split(" ")
        self.headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines[1:])}
        self.path, _, self.query = target.partition("?")
        length = int(self.headers.get("content-length", 0))
        self.body = [length, hashlib.sha256(), 0, bytearray()]
        return True

    def take_body(self):
        left, digest, _, whole = self.body
        piece = bytes(self.buffer[:left])
        del self.buffer[: len(piece)]
        self.body[0] -= len(piece)
        piece = self.heard(piece) if piece else piece
        self.body[2] += len(piece)
        digest.update(piece)
        if self.path == "/kept":
            whole += piece
        if self.body[0] == 0:
            self.respond()
            return True
        if piece and self.path == "/upload" and (pause := int(self.query.partition("=")[2] or 0)):
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(pause / 1000, self.read_on)
        return False

    def read_on(self):
        if not self.gone and not self.transport.is_closing():
            self.transport.resume_reading()

    def head(self, length, status="200 OK"):
        said = self.headers.get("x-request-id", "")
        return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nX-Request-Id: {said}\r\n\r\n".encode()

    def respond(self):
        _, digest, length, whole = self.body
        self.body = None
        if self.path == "/kept":
            text = bytes(whole) if self.method == "POST" else (self.query.encode() + b" ") * 20
            self.answer(text, self.head)
        elif self.path == "/upload":
            self.answer(json.dumps({"sha256": digest.hexdigest(), "length": length}).encode(), self.head)
        elif self.path == "/download":
            options = dict(each.split("=") for each in self.query.split("&"))
            self.begin_download(int(options["size"]), content(options["seed"]))
        elif self.path == "/ws":
            key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest())
            self.speaks_frames = True
            head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            self.transport.write(head + accept + b"\r\n\r\n")
        elif self.path == "/up":
            self.transport.write(self.head(3) + b"up\n")
        else:
            self.transport.write(self.head(0, "404 Not Found"))
        self.done()

    def begin_download(self, size, block):
        first = block[: min(size, BLOCK)]
        strikes = self.fault.strikes()
        sent = self.fault.on(first) if strikes else first
        self.transport.write(self.head(size + len(sent) - len(first)) + sent)
        if strikes and self.fault.kind in ("close", "cut"):
            self.transport.close()
        self.download = [block, size - len(first)]

    def send_block(self):
        """False: later, when what was written has gone."""
        block, left = self.download
        if left == 0:
            self.download = None
            self.done()
            return True
        if not self.writable:
            return False
        self.download[1] -= min(left, BLOCK)
        self.transport.write(block[:left])
        return True

    def take_frame(self):
        """One masked frame, whole; the same text goes back."""
        if len(self.buffer) < 2:
            return False
        kind, length, at = self.buffer[0] & 15, self.buffer[1] & 127, 2
        if length == 126:
            length, at = int.from_bytes(self.buffer[2:4], "big"), 4
        if len(self.buffer) < at + 4 + length:
            return False
        mask = bytes(self.buffer[at : at + 4]) * (length // 4 + 1)
        masked = self.buffer[at + 4 : at + 4 + length]
        text = (int.from_bytes(masked, "big") ^ int.from_bytes(mask[:length], "big")).to_bytes(length, "big")
        del self.buffer[: at + 4 + length]
        self.answer(text, lambda size: frame_head(kind, size))
        return True


def frame_head(kind, length):
    return bytes([0x80 | kind, length]) if length < 126 else bytes([0x80 | kind, 126]) + length.to_bytes(2, "big")


def notify(text):
    if where := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.connect("\0" + where[1:] if where.startswith("@") else where)
            link.sendall(text.encode())


async def listen(loop, make, address):
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        passed = [socket.socket(fileno=3 + number) for number in range(int(os.environ["LISTEN_FDS"]))]
        return [await loop.create_server(make, sock=each, backlog=BACKLOG) for each in passed]
    if address.startswith("unix:"):
        return [await loop.create_unix_server(make, address[5:], backlog=BACKLOG)]
    host, _, port = address.rpartition(":")
    return [await loop.create_server(make, host.strip("[]"), int(port), backlog=BACKLOG)]


async def main():
    reader = argparse.ArgumentParser()
    reader.add_argument("address", nargs="?", default="")
    reader.add_argument("--fault")
    reader.add_argument("--after", type=int, default=1)
    arguments = reader.parse_args()
    time.sleep(int(os.environ.get("LIVING_BOOT_MS", 0)) / 1000)
    if os.environ.get("LIVING_BOOT_FAILS"):
        sys.exit("told to fail")
    loop = asyncio.get_running_loop()
    app = App(Fault(arguments.fault, arguments.after))
    servers = await listen(loop, lambda: Connection(app), arguments.address)

    def drain():
        for each in servers:
            each.close()
        app.drain()

    loop.add_signal_handler(signal.SIGTERM, drain)
    notify("READY=1")
    await app.ended


asyncio.run(main())
