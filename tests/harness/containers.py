"""Containers without an engine: demo_apps that a test starts itself, and network namespaces to put them into.

relayd knows neither; each container is an address to it.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from . import http, namespaces, places, processes

PORT = 8000
# With a /proc of its own where that can be had (not in a chroot); relayd must do without as well.
PID_NAMESPACES = [
    ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"],
    # LeakSanitizer finds itself by its number in /proc, which is another one there.
    ["env", "ASAN_OPTIONS=detect_leaks=0", "unshare", "--pid", "--fork", "--kill-child"],
]


def start_as_pid_1(relayd, services, **top):
    """relayd as the first process of a container. relayd.pid is its number outside."""
    for prefix in PID_NAMESPACES:
        if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("unshare --pid is not permitted here: relayd as PID 1 was not tested")
    relayd.start(services, prefix=prefix, **top)
    assert relayd.status()["pid"] == 1
    (relayd.pid,) = processes.children(relayd.process.pid)


class App:
    """A process that relayd did not start: demo_app, or another command that listens at `address`."""

    def __init__(self, name, address=None, command=None, prefix=(), mark=""):
        self.name = str(name)
        self.address = address or f"127.0.0.1:{places.free_port()}"
        self._command = [*prefix, *(command or [places.program("demo_app"), "--listen", self.address])]
        self._environment = {**os.environ, processes.MARK: mark, "RELAY_GENERATION": self.name, "RELAY_SERVICE": "web"}
        self._environment.pop("RELAY_SOCKET", None)
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self._command, env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True)

    def wait_until_it_answers(self):
        """Only where the test can reach it: not inside a namespace."""

        def answers():
            with contextlib.suppress(OSError):
                return http.get(self.address, "/up")[0] == 200

        processes.wait_until(answers, f"{self.name} answers at {self.address}")
        return self

    def remove(self):
        """As `docker rm -f`: at once, with all that it has started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


class Network:
    """A host and containers on one bridge, each a network namespace. `host` and `prefixes` are prefixes of commands."""

    HOST = "10.78.0.1"

    def __init__(self, count=2):
        name = f"relayd-test-{os.getpid()}"
        self.host_name = f"{name}-engine"
        self.names = [f"{name}-box{i}" for i in range(count)]
        self.addresses = [f"10.78.0.{10 + i}:{PORT}" for i in range(count)]
        self.host = ["ip", "netns", "exec", self.host_name]
        self.prefixes = [["ip", "netns", "exec", each] for each in self.names]
        self.etc = pathlib.Path("/etc/netns") / self.host_name  # ip-netns(8): mounted over /etc for the host's programs

    def make(self):
        ip = namespaces.ip
        ip("netns", "add", self.host_name)
        ip("-n", self.host_name, "link", "set", "lo", "up")
        ip("-n", self.host_name, "link", "add", "bridge0", "type", "bridge")
        ip("-n", self.host_name, "address", "add", f"{self.HOST}/24", "dev", "bridge0")
        ip("-n", self.host_name, "link", "set", "bridge0", "up")
        for i, (name, address) in enumerate(zip(self.names, self.addresses, strict=True)):
            ip("netns", "add", name)
            ip("-n", self.host_name, "link", "add", f"box{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", self.host_name, "link", "set", f"box{i}", "master", "bridge0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "address", "add", address.partition(":")[0] + "/24", "dev", "eth0")

    def etc_file(self, name, text):
        """The host's /etc/NAME; written in place, as a mount follows the file and not its name."""
        self.etc.mkdir(parents=True, exist_ok=True)
        (self.etc / name).write_text(text)

    def remove(self):
        for each in (*self.names, self.host_name):
            with contextlib.suppress(namespaces.Unavailable):
                namespaces.ip("netns", "delete", each)
        shutil.rmtree(self.etc, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.etc.parent.rmdir()  # where it is empty
