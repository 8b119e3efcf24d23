"""Processes that a test started, found by a mark in their environment, which children inherit."""

import contextlib
import os
import pathlib
import signal
import threading
import time
import uuid

MARK = "RELAYD_TEST_MARK"


def new_mark():
    return uuid.uuid4().hex


def marked(mark):
    """The living (not zombie) processes with this mark, as {pid: command line}."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if wanted in (entry / "environ").read_bytes().split(b"\0") and state(int(entry.name)) not in "ZX":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def state(pid):
    """The letter of proc(5): R, S, Z ...; X where there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def children(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def catches(pid, number):
    """Whether the process has a handler of its own for this signal."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def alive(pid):
    return state(pid) not in "ZX"


def pause(seconds):
    """Between two looks at a condition that nobody announces; never instead of one."""
    threading.Event().wait(seconds)


def wait_until(condition, what, seconds=20):
    """Asks again and again until the condition holds; fails the test after `seconds`. Returns the condition's value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        pause(0.02)


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def kill_marked(mark):
    """Ends what a test left behind: only processes with its mark."""
    for pid in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
