"""Kinds on raw TCP."""

import hashlib
import json
import os

from .member import Member
from .tally import Sequence, compare

MUTE_SECONDS = 20  # for what the app has heard to stand in its file


class Lines(Member):
    """Takes what comes line by line."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.buffer = bytearray()

    def data_received(self, data):
        self.buffer += data
        while not self.ending and (end := self.buffer.find(b"\n")) >= 0:
            line = bytes(self.buffer[: end + 1])
            del self.buffer[: end + 1]
            self.line(line)


class Echoed(Lines):
    """Numbered lines, of which each has to come back as it was, in order."""

    def begin(self):
        self.sequence = Sequence(self, end=b"\n")
        self.later(self.first_pause(), self.send)

    def send(self):
        count = self.number % 3 + 1
        self.transport.write(b"".join(self.sequence.next() for _ in range(count)))
        self.wait()

    def wanting(self):
        return f"{len(self.sequence.outstanding)} echoes are due" if self.sequence.outstanding else ""

    def line(self, line):
        self.sign()
        self.sequence.check(line)
        if not self.sequence.outstanding:
            self.quiet()
            self.done()
            if self.stopping:
                self.end()
            else:
                self.later(self.pace, self.send)


class Idle(Echoed):
    """Opened, silent all the time, and at the end one echo on the same connection."""

    active = False

    def begin(self):
        self.sequence = Sequence(self, end=b"\n")
        self.ready.set_result(None)

    def finish(self):
        self.stopping = True
        self.send()


class Held(Lines):
    """Comes while clients are held, and asks which connection of the app's it is."""

    active = False

    def begin(self):
        self.answer = None
        self.transport.write(b"order\n")
        self.ready.set_result(None)

    def wanting(self):
        return "it is still held" if self.answer is None else ""

    def line(self, line):
        self.answer = int(line)
        self.done()
        self.end()


class HalfClosed(Lines):
    """Asks for numbered lines, shuts down its writing, and gets them all; then comes again."""

    def begin(self):
        self.expected = 0
        self.buffer.clear()
        self.lines, self.pause_ms = self.options.get("lines", 40), self.options.get("pause_ms", 100)
        self.transport.write(b"lines %d %d\n" % (self.lines, self.pause_ms))
        self.transport.write_eof()
        self.wait()

    def wanting(self):
        return f"{self.lines - self.expected} lines are due"

    def line(self, line):
        number = int(line[:8]) if line[:8].isdigit() else None
        want = self.text(self.expected)
        self.sign()
        self.quiet()
        if line == want:
            self.expected += 1
        elif number is not None and number > self.expected and line == self.text(number):
            self.lose("bytes_lost", len(want) * (number - self.expected), f"line {number} instead of {self.expected}")
            self.expected = number + 1
        elif number is not None and number < self.expected and line == self.text(number):
            self.lose("bytes_repeated", len(line), f"line {number} again")
        else:
            compare(self, want, line)
            self.expected += 1
        if not self.ready.done():
            self.ready.set_result(None)
        self.later(self.pause_ms / 1000, self.wait)  # sooner nothing is due

    @staticmethod
    def text(number):
        return b"%08d and some more, so that it is no short line\n" % number

    def eof_received(self):
        if self.expected != self.lines or self.buffer:
            return False  # connection_lost() counts it
        self.ending = True
        self.done()
        return False

    def connection_lost(self, error):
        if self.ending and not self.over.done() and not self.stopping and error is None:
            self.quiet()
            self._timer.cancel()
            self.crowd.open_again(self)
        else:
            if self.expected != self.lines and not self.ending:
                self.lose("bytes_lost", len(self.text(0)) * (self.lines - self.expected), "lines that never came")
            super().connection_lost(error)
            self.end()

    def finish(self):
        self.stopping = True
        if self.ending:
            self.end()


class Muted(Lines):
    """The app has shut down its writing; the client goes on writing, and the app must get all of it; then comes again."""

    def begin(self):
        self.buffer.clear()
        self.path = os.path.join(self.options["folder"], f"muted-{self.number}-{self.tally.operations}-{self.tally.connections}")
        self.sent = hashlib.sha256()
        self.bytes = self.pieces = 0
        self.is_muted = False
        self.transport.write(b"mute %s\n" % self.path.encode())
        self.wait()

    def wanting(self):
        return f"{self.bytes} bytes were sent, and the app has not said that it got them"

    def line(self, line):
        self.is_muted = line == b"muted\n"
        if not self.is_muted:
            self.lose("damaged", 1, f"{line!r} instead of muted")

    def eof_received(self):
        if self.ending or not self.is_muted:
            return False  # connection_lost() counts it
        self.sign()
        self.quiet()
        self.send()
        return True  # it goes on writing

    def send(self):
        piece = b"%08d " % self.pieces * 20
        self.transport.write(piece)
        self.sent.update(piece)
        self.bytes += len(piece)
        self.pieces += 1
        self.signs += 1  # not of the other side: whether that has got it is seen at the end
        if not self.ready.done():
            self.ready.set_result(None)
        if self.pieces < self.options.get("lines", 40):
            self.later(self.options.get("pause_ms", 100) / 1000, self.send)
        else:
            self.ending = True
            self.transport.close()
            self.loop.create_task(self.hear())

    async def hear(self):
        before = self.loop.time()
        while not os.path.exists(self.path) and self.loop.time() - before < MUTE_SECONDS:
            await self.crowd.pause(0.02)
        if not os.path.exists(self.path):
            self.lose("bytes_lost", self.bytes, "the app has not come to the end of what was sent")
            return self.end()
        with open(self.path, encoding="ascii") as file:
            heard = json.load(file)
        os.unlink(self.path)
        if heard["bytes"] != self.bytes:
            short, words = self.bytes - heard["bytes"], f"the app got {heard['bytes']} of {self.bytes}"
            self.lose("bytes_lost" if short > 0 else "bytes_repeated", abs(short), words)
        elif heard["sha256"] != self.sent.hexdigest():
            self.lose("damaged", 1, "the app got other bytes")
        self.done()
        if self.stopping:
            self.end()
        else:
            self.crowd.open_again(self)

    def finish(self):
        self.stopping = True
