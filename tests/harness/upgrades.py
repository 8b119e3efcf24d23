"""relayd's own upgrade, and what it may not change."""

import collections
import contextlib
import os
import pathlib
import resource
import shutil

from . import living, places, processes


def another_binary(relayd):
    """The same program at another path, so that /proc/PID/exe tells which one runs."""
    return shutil.copy(places.program("relayd"), relayd.folder / "relayd-other")


def running_binary(relayd):
    return os.readlink(f"/proc/{relayd.pid}/exe")


def instances(relayd):
    """{(service, generation, index): pid} of all that run."""
    return {
        (service["name"], generation["number"], instance["index"]): instance["pid"]
        for service in relayd.status()["services"]
        for generation in service["generations"]
        for instance in generation["instances"]
        if instance["pid"]
    }


def upgrade(relayd, crowd=None, binary=None):
    """One that has to succeed: the same process, the same children, and each active connection goes on. What relayctl told,
    with the crowd's longest silence as `silence`."""
    before, children = instances(relayd), set(processes.children(relayd.pid))
    number, known = relayd.status()["pid"], relayd.last_sequence()
    silence = {}
    if crowd is None:
        told = relayd.upgrade(binary)
    else:
        with crowd.watching() as silence:
            told = relayd.upgrade(binary)
            crowd.round()
    assert relayd.process.poll() is None
    assert relayd.status()["pid"] == told["pid"] == number, told
    assert instances(relayd) == before
    processes.wait_until(lambda: set(processes.children(relayd.pid)) == children, "it has the children that it had", 5)
    assert os.path.samefile(f"/proc/{relayd.pid}/exe", binary or told["binary"])
    relayd.wait_event("upgraded", after=known)
    return {**told, "silence": silence}


def descriptors(relayd):
    """How many of each kind relayd has open: {"socket": 12, "anon_inode:[eventpoll]": 3, "/dev/null": 1 ...}"""
    found = collections.Counter()
    folder = f"/proc/{relayd.pid}/fd"
    for name in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue
        found[target.partition(":[")[0] if target.startswith(("socket:", "pipe:")) else target] += 1
    return dict(found)


def free_numbers(relayd, count):
    """The lowest descriptors that relayd has not open."""
    used = set(map(int, os.listdir(f"/proc/{relayd.pid}/fd")))
    return [number for number in range(max(used) + count + 1) if number not in used][:count]


def resident_kib(relayd):
    lines = pathlib.Path(f"/proc/{relayd.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


class Limited:
    """relayd with another soft limit, within the block."""

    def __init__(self, relayd, which, soft):
        self.pid, self.which, self.soft = relayd.pid, which, soft

    def __enter__(self):
        self.before = resource.prlimit(self.pid, self.which)
        resource.prlimit(self.pid, self.which, (self.soft, self.before[1]))

    def __exit__(self, *_):
        resource.prlimit(self.pid, self.which, self.before)


@contextlib.contextmanager
def crowd_that_loses_nothing(relayd, prefix=(), persistent=False):
    """relayd with a crowd; at the end a good upgrade, and nothing lost. `persistent`: nobody makes a new connection, and relayd
    none of its own."""
    health = {"health": {"interval": "0s"}} if persistent else {}
    services = {name: service for name, service in living.services(**health).items() if name in ("web", "raw")}
    relayd.start(services, threads=2, prefix=prefix)
    before = instances(relayd), set(processes.children(relayd.pid)), relayd.status()["pid"]
    with living.Crowd(relayd.folder, relayd.mark) as crowd:
        if persistent:
            for kind in ("ping_pong", "idle"):
                crowd.open(kind, 10, services["raw"]["listen"][0])
            crowd.open("websocket", 10, relayd.address)
        else:
            crowd.mixed(30, **living.addresses(services, "web", "raw"))
        yield crowd
        crowd.round()
        assert relayd.process.poll() is None
        assert (instances(relayd), relayd.status()["pid"]) == (before[0], before[2])
        processes.wait_until(lambda: set(processes.children(relayd.pid)) == before[1], "nothing is left of what was tried", 5)
        upgrade(relayd, crowd, places.program("relayd"))
        report = crowd.finish()
    living.assert_nothing_lost(report)
