"""What is counted, by kind of connection."""

import time

# Each is a loss; what a test accepts of any of them is 0.
LOSSES = (
    "refused",  # no connection was had
    "closed",  # it ended, though neither side of it had ended it
    "reset",  # the same, with an RST
    "bytes_lost",
    "bytes_repeated",  # also bytes that nobody has sent
    "damaged",  # answers of the right length with other bytes in them
    "bad_status",  # an HTTP status other than the app's
    "unanswered",  # until the end
)
COMPLAINTS = 20  # of a kind that are told in words


class Silence:
    """The longest that a connection waited for a sign of life, within a span of time that begins now."""

    def __init__(self):
        self.begin = time.monotonic()
        self.ms = 0.0
        self.kind = None
        self.at_unix_ms = None  # its begin

    def note(self, kind, since, until):
        since = max(since, self.begin)
        ms = (until - since) * 1000
        if ms > self.ms:
            self.ms, self.kind = ms, kind
            self.at_unix_ms = round((time.time() - (time.monotonic() - since)) * 1000)

    def told(self):
        return {"ms": round(self.ms, 1), "kind": self.kind, "at_unix_ms": self.at_unix_ms}


class Tally:
    """Of one kind."""

    def __init__(self, kind):
        self.kind = kind
        self.connections = 0
        self.operations = 0
        self.losses = dict.fromkeys(LOSSES, 0)
        self.complaints = []
        self.silence = Silence()

    def lose(self, loss, amount, who, words):
        self.losses[loss] += amount
        if len(self.complaints) < COMPLAINTS:
            self.complaints.append(f"{self.kind} {who}: {amount} {loss} at unix_ms {round(time.time() * 1000)}: {words}")

    def told(self):
        silence = self.silence.told()
        return {
            "connections": self.connections,
            "operations": self.operations,
            "losses": self.losses,
            "lost": sum(self.losses.values()),
            "silence_ms": silence["ms"],
            "silence_at_unix_ms": silence["at_unix_ms"],
            "complaints": self.complaints,
        }


class Sequence:
    """Numbered texts that come back as they were sent, in order: what is outstanding, and what a deviation means."""

    def __init__(self, member, end=b""):
        self.member = member
        self.end = end
        self.outstanding = []
        self.number = 0

    def text(self, number):
        """Short ones, and every fourth longer than a segment of loopback's usual buffers."""
        return b"%06d-%08d " % (self.member.number, number) * (200 if number % 4 == 3 else 2) + self.end

    def next(self):
        text = self.text(self.number)
        self.number += 1
        self.outstanding.append(text)
        return text

    def expect(self, text):
        self.number += 1
        self.outstanding.append(text)

    def check(self, got):
        lose = self.member.lose
        if self.outstanding and got == self.outstanding[0]:
            del self.outstanding[0]
        elif got in self.outstanding:
            at = self.outstanding.index(got)
            lose("bytes_lost", sum(map(len, self.outstanding[:at])), f"{at} texts before {got[:20]!r}")
            del self.outstanding[: at + 1]
        elif self.known(got) or not self.outstanding:
            lose("bytes_repeated", len(got), f"{got[:20]!r} came again, or was never sent")
        else:
            compare(self.member, self.outstanding.pop(0), got)

    def known(self, got):
        number = got[7:15]
        return number.isdigit() and int(number) < self.number and got == self.text(int(number))


def compare(member, want, got):
    """`got` came instead of `want`."""
    words = f"{got[:40]!r} instead of {want[:40]!r}"
    if len(got) < len(want):
        member.lose("bytes_lost", len(want) - len(got), words)
    elif len(got) > len(want):
        member.lose("bytes_repeated", len(got) - len(want), words)
    else:
        member.lose("damaged", 1, words)
