"""Kinds on HTTP/1.1: one connection each, which stays."""

import base64
import functools
import hashlib
import json
import random

from .member import Member
from .tally import Sequence

BLOCK = 65537  # as living_app.py's


@functools.lru_cache
def content(seed):
    return random.Random(seed).randbytes(BLOCK)


@functools.lru_cache
def content_hash(seed, size):
    digest, block = hashlib.sha256(), content(seed)
    for begin in range(0, size, BLOCK):
        digest.update(block[: min(BLOCK, size - begin)])
    return digest.hexdigest()


class Http(Member):
    """Takes answers apart. A kind gets head() once, body() for each piece, answered() at the end."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.buffer = b""
        self.left = None  # bytes of the body under way
        self.due = 0  # answers

    def ask(self, target, method="GET", more="", body=b""):
        self.transport.write(self.request(target, method, more, len(body)) + body)
        self.asked()

    @staticmethod
    def request(target, method="GET", more="", length=0):
        more += f"Content-Length: {length}\r\n" if method == "POST" else ""
        return f"{method} {target} HTTP/1.1\r\nHost: living\r\n{more}\r\n".encode()

    def asked(self):
        self.due += 1
        self.wait()

    def wanting(self):
        return f"{self.due} answers are due" if self.due else ""

    def data_received(self, data):
        self.sign()
        self.buffer += data
        while self.buffer and not self.ending:
            if self.left is None:
                end = self.buffer.find(b"\r\n\r\n")
                if not self.due:
                    self.lose("bytes_repeated", len(self.buffer), f"{self.buffer[:40]!r}, and nothing was asked")
                    self.buffer = b""
                if end < 0 or not self.due:
                    return
                lines = self.buffer[:end].decode("latin-1").split("\r\n")
                self.buffer = self.buffer[end + 4 :]
                self.headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines[1:])}
                if not self.status(lines[0]):
                    return
                self.left = int(self.headers["content-length"])
                self.head()
            piece, self.buffer = self.buffer[: self.left], self.buffer[self.left :]
            self.left -= len(piece)
            self.body(piece)
            if self.left == 0:
                self.left = None
                self.due -= 1
                if not self.due:
                    self.quiet()
                self.answered()

    def status(self, line):
        """False: it ends with this."""
        if line.split(" ")[1] == "200":
            return True
        self.lose("bad_status", 1, line)
        self.end()
        return False

    def head(self):
        self.got = []

    def body(self, piece):
        self.got.append(piece)

    def answered(self):
        raise NotImplementedError

    def go_on(self, act):
        self.done()
        if self.stopping:
            self.end()
        else:
            self.later(self.pace, act)

    def finish(self):
        self.stopping = True
        super().finish()


class Kept(Http):
    """Requests in sequence, `at_once` of them together; each is numbered, and so is its answer."""

    at_once = 1

    def begin(self):
        self.sequence = Sequence(self)
        self.later(self.first_pause(), self.send)

    def send(self):
        asked = b""
        for _ in range(self.at_once):
            name = b"%06d-%08d" % (self.number, self.sequence.number)
            post = self.sequence.number % 5 == 4 and self.at_once == 1
            text = (name + b" ") * (500 if post else 20)
            self.sequence.expect(text)
            method, target = ("POST", "/kept") if post else ("GET", f"/kept?{name.decode()}")
            asked += self.request(target, method, f"X-Request-Id: {name.decode()}\r\n", len(text)) + (text if post else b"")
        self.transport.write(asked)
        for _ in range(self.at_once):
            self.asked()

    def answered(self):
        said = b"".join(self.got)
        if said[:15].decode("latin-1") != self.headers["x-request-id"]:
            self.lose("damaged", 1, f"the head of {self.headers['x-request-id']} with the body {said[:15]!r}")
        self.sequence.check(said)
        if not self.due:
            self.go_on(self.send)


class Pipelined(Kept):
    at_once = 2


class IdleHttp(Kept):
    """Silent all the time, and at the end one request."""

    active = False

    def begin(self):
        self.sequence = Sequence(self)
        self.ready.set_result(None)

    def finish(self):
        self.stopping = True
        self.send()


class Halves(Http):
    """One half of a request when it is told, the other when it is told again: cut in the head or in the body."""

    active = False

    def begin(self):
        self.rest = b""
        self.came = None
        self.text = (b"%06d-half " % self.number) * 3000
        self.ready.set_result(None)

    def tell(self, word):
        """first | second; returns what to await."""
        self.came = self.loop.create_future()
        if self.ending:
            self.came.set_result(None)
        elif word == "first":
            whole = self.request("/kept", "POST", f"X-Request-Id: {self.number}\r\n", len(self.text)) + self.text
            cut = (25, 80, 5000, len(whole) - 1)[self.number % 4]
            self.transport.write(whole[:cut])
            self.rest = whole[cut:]
            self.came.set_result(None)
        else:
            self.second()
        return self.came

    def second(self):
        self.transport.write(self.rest)
        self.rest = b""
        self.asked()

    def wanting(self):
        return "the second half is to be sent" if self.rest else super().wanting()

    def answered(self):
        if b"".join(self.got) != self.text:
            self.lose("damaged", 1, "the request's body did not come back as it was sent")
        self.done()
        if not self.came.done():
            self.came.set_result(None)
        if self.stopping:
            self.end()

    def end(self):
        super().end()
        if self.came and not self.came.done():
            self.came.set_result(None)

    def finish(self):
        self.stopping = True
        if self.rest:
            self.second()
        elif not self.due:
            self.end()


class Download(Http):
    """Big answers, checked by their hash; `rate` (bytes a second) makes a slow reader."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.rate = self.options.get("rate")
        self.size = self.options.get("size", 1 << 20) + self.number
        self.receive_buffer = 32768 if self.rate else None

    def begin(self):
        self.later(self.first_pause(), self.send)

    def send(self):
        self.count, self.digest = 0, hashlib.sha256()
        self.ask(f"/download?size={self.size}&seed={self.number % 4}")

    def head(self):
        if self.left != self.size:
            short = self.size - self.left
            self.lose("bytes_lost" if short > 0 else "bytes_repeated", abs(short), f"{self.left} bytes instead of {self.size}")

    def body(self, piece):
        if not self.ready.done():
            self.ready.set_result(None)
        self.count += len(piece)
        self.digest.update(piece)
        if self.rate and self.left:
            self.quiet()
            self.transport.pause_reading()
            self.later(len(piece) / self.rate, self.read_on)

    def read_on(self):
        self.transport.resume_reading()
        self.wait()

    def wanting(self):
        return f"{self.left if self.left is not None else self.size} bytes of a download are due" if self.due else ""

    def answered(self):
        if self.count == self.size and self.digest.hexdigest() != content_hash(self.number % 4, self.size):
            self.lose("damaged", 1, f"the hash of {self.size} bytes")
        self.go_on(self.send)

    def connection_lost(self, error):
        if not self.ending and self.left:
            self.lose("bytes_lost", self.left, f"of a download of {self.size}")
        super().connection_lost(error)


class Upload(Http):
    """Big bodies, of which the app tells the hash; `pause` (ms between two pieces) makes it a slow taker, whose silence is
    its own."""

    def begin(self):
        self.size = self.options.get("size", 1 << 20) + self.number
        self.writable = True
        self.unsent = 0
        self.later(self.first_pause(), self.send)

    def send(self):
        self.unsent = self.size
        self.ask(f"/upload?pause={self.options.get('pause', 0)}", "POST", "Content-Length: %d\r\n" % self.size)
        if self.options.get("pause"):
            self.quiet()
        self.write()

    def request(self, target, method="GET", more="", length=0):
        return f"{method} {target} HTTP/1.1\r\nHost: living\r\n{more}\r\n".encode()

    def write(self):
        block = content(self.number % 4)
        while self.unsent and self.writable and not self.ending:
            piece = block[: self.unsent]
            self.unsent -= len(piece)
            self.transport.write(piece)

    def pause_writing(self):
        self.writable = False

    def resume_writing(self):
        self.writable = True
        self.sign()
        if not self.ready.done():
            self.ready.set_result(None)
        self.write()

    def wanting(self):
        return f"an upload of {self.size} is under way ({self.unsent} to be sent)" if self.due else ""

    def answered(self):
        said = json.loads(b"".join(self.got))
        if said["length"] != self.size:
            short = self.size - said["length"]
            self.lose("bytes_lost" if short > 0 else "bytes_repeated", abs(short), f"the app got {said['length']} of {self.size}")
        elif said["sha256"] != content_hash(self.number % 4, self.size):
            self.lose("damaged", 1, f"the hash of {self.size} bytes")
        self.go_on(self.send)


class WebSocket(Http):
    """Numbered texts, echoed in frames."""

    KEY = base64.b64encode(b"a living crowd's").decode()

    def begin(self):
        self.sequence = Sequence(self)
        self.open_for_frames = False
        more = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {self.KEY}\r\n"
        self.ask("/ws", more=more)

    def status(self, line):
        if line.split(" ")[1] != "101":
            return super().status(line)
        self.open_for_frames = True
        self.due = 0
        self.quiet()
        self.later(self.first_pause(), self.send)
        self.frames()
        return False

    def data_received(self, data):
        if not self.open_for_frames:
            return super().data_received(data)
        self.sign()
        self.buffer += data
        return self.frames()

    def send(self):
        for _ in range(self.number % 3 + 1):
            text = self.sequence.next()
            length = len(text)
            mask = b"mask" * (length // 4 + 1)
            masked = (int.from_bytes(text, "big") ^ int.from_bytes(mask[:length], "big")).to_bytes(length, "big")
            head = bytes([0x81, 0x80 | length]) if length < 126 else bytes([0x81, 0x80 | 126]) + length.to_bytes(2, "big")
            self.transport.write(head + b"mask" + masked)
        self.wait()

    def wanting(self):
        return f"{len(self.sequence.outstanding)} frames are due" if self.sequence.outstanding else super().wanting()

    def frames(self):
        while len(self.buffer) >= 2 and not self.ending:
            length, at = self.buffer[1] & 127, 2
            if length == 126:
                length, at = int.from_bytes(self.buffer[2:4], "big"), 4
            if len(self.buffer) < at + length or len(self.buffer) < at:
                return
            if self.buffer[0] != 0x81:
                self.lose("damaged", 1, f"a frame that begins {self.buffer[:4]!r}")
                return self.end()
            text, self.buffer = self.buffer[at : at + length], self.buffer[at + length :]
            self.sequence.check(text)
            if not self.sequence.outstanding:
                self.quiet()
                self.go_on(self.send)
