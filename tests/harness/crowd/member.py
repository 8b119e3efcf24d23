"""One living connection: what all kinds share. It begins, acts by itself until it is told to finish, and counts."""

import asyncio
import socket
import time

from .tally import Silence, Tally

CONNECT_SECONDS = 60


class Member(asyncio.Protocol):
    """`options`: pace (seconds from one operation to the next), source (local address), and what a kind has of its own."""

    active = True  # shows signs of life by itself, so that one may be waited for
    receive_buffer = None  # SO_RCVBUF

    def __init__(self, crowd, kind, number, address, options):
        self.crowd, self.kind, self.number, self.address, self.options = crowd, kind, number, address, options
        self.loop = asyncio.get_running_loop()
        self.tally = crowd.tally(kind)
        self.pace = options.get("pace", 0.1)
        self.transport = None
        self.ready = self.loop.create_future()  # has had its first answer, where it asks for one
        self.over = self.loop.create_future()
        self.signs = 0  # of life
        self.stopping = False  # ends after the operation under way
        self.ending = False  # its end is its own wish, or due
        self._waiting_since = None
        self._timer = None

    # ---- what a kind says

    def begin(self):
        """The connection stands."""
        raise NotImplementedError

    def wanting(self):
        """What is under way, in words; empty: nothing."""
        return ""

    def finish(self):
        """Asked to end: at once, or when what is under way is done."""
        if not self.wanting():
            self.end()

    # ---- connecting

    async def open(self):
        try:
            unix = self.address.startswith("unix:")
            link = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            link.setblocking(False)
            if self.receive_buffer:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
            if "source" in self.options:
                link.bind((self.options["source"], 0))
            host, _, port = self.address.rpartition(":")
            where = self.address[5:] if unix else (host, int(port))
            await asyncio.wait_for(self.loop.sock_connect(link, where), CONNECT_SECONDS)
            await self.loop.create_connection(lambda: self, sock=link)
        except (OSError, asyncio.TimeoutError) as error:
            self.lose("refused", 1, repr(error))
            self.end()

    def connection_made(self, transport):
        self.transport = transport
        self.ending = False
        self.tally.connections += 1
        self.begin()

    def connection_lost(self, error):
        if not self.ending:
            words = f"{error or 'closed by the server'}; {self.wanting() or 'nothing was under way'}"
            self.lose("reset" if error else "closed", 1, words)
            self.end()

    def end(self):
        """For good; a transport that is still open is closed."""
        self.ending = True
        if self._timer:
            self._timer.cancel()
        if self.transport:
            self.transport.close()
        self.quiet()
        for future in (self.ready, self.over):
            if not future.done():
                future.set_result(None)

    def give_up(self):
        """It has not finished in time."""
        self.lose("unanswered", 1, self.wanting() or "it has not ended")
        if self.transport:
            self.ending = True
            self.transport.abort()
        self.end()

    # ---- counting

    def lose(self, loss, amount, words):
        self.tally.lose(loss, amount, self.number, words)

    def done(self):
        """An operation is complete."""
        self.tally.operations += 1
        if not self.ready.done():
            self.ready.set_result(None)

    def wait(self):
        """From now on something is due."""
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()

    def sign(self):
        """Of life; what is due after it is due from now."""
        self.signs += 1
        if self._waiting_since is not None:
            now = time.monotonic()
            self.crowd.note_silence(self.tally, self._waiting_since, now)
            self._waiting_since = now

    def quiet(self):
        """Nothing is due any more."""
        self._waiting_since = None

    def silent_since(self):
        return self._waiting_since

    def later(self, seconds, act, *arguments):
        if not self.ending:
            self._timer = self.loop.call_later(seconds, act, *arguments)

    def first_pause(self):
        """So that not all act at one moment."""
        return self.pace * (self.number * 37 % 101) / 101


class Crowd:
    """The members and the tallies of a process."""

    def __init__(self):
        self.tallies = {}
        self.members = []
        self.watched = {}  # by name
        self.longest_own_lag_ms = 0.0

    def tally(self, kind):
        if kind not in self.tallies:
            self.tallies[kind] = Tally(kind)
        return self.tallies[kind]

    def note_silence(self, tally, since, until):
        tally.silence.note(tally.kind, since, until)
        for silence in self.watched.values():
            silence.note(tally.kind, since, until)

    def watch(self, name):
        self.watched[name] = Silence()

    def unwatch(self, name):
        """Those who are still waiting count too, as far as they have come."""
        silence = self.watched.pop(name)
        now = time.monotonic()
        for member in self.members:
            if member.silent_since() is not None:
                silence.note(member.kind, member.silent_since(), now)
        return silence.told()
