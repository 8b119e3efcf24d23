"""Network namespaces of a test's own: a host, on which relayd and the app run, and clients elsewhere, joined by a cable.

Addresses: the host is 10.77.0.1 and fd77::1, the clients 10.77.0.2 and fd77::2; nobody outside sees them.
"""

import contextlib
import os
import subprocess

import pytest

HOST = "10.77.0.1"
HOST_V6 = "fd77::1"
CLIENT = "10.77.0.2"
CLIENT_V6 = "fd77::2"


class Unavailable(Exception):
    pass


class Pair:
    """`host` and `clients` are prefixes of commands: what follows runs there."""

    def __init__(self):
        name = f"relayd-test-{os.getpid()}"
        self._names = [f"{name}-host", f"{name}-clients"]
        self.host, self.clients = (["ip", "netns", "exec", each] for each in self._names)

    def make(self):
        host, clients = self._names
        for each in self._names:
            ip("netns", "add", each)
        ip("link", "add", "cable", "netns", host, "type", "veth", "peer", "name", "cable", "netns", clients)
        for each, *addresses in ((host, f"{HOST}/24", f"{HOST_V6}/64"), (clients, f"{CLIENT}/24", f"{CLIENT_V6}/64")):
            ip("-n", each, "link", "set", "lo", "up")
            ip("-n", each, "link", "set", "cable", "up")
            for address in addresses:
                ip("-n", each, "address", "add", address, "dev", "cable", *(["nodad"] if ":" in address else []))

    def on_host(self, *arguments):
        """`ip` there."""
        ip("-n", self._names[0], *arguments)

    def remove(self):
        for each in self._names:
            with contextlib.suppress(Unavailable):
                ip("netns", "delete", each)


def ip(*arguments):
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"ip {' '.join(arguments)}: {getattr(error, 'stderr', error)}") from error


@contextlib.contextmanager
def made(network, tested_without="nothing"):
    """Makes it for one test, which is skipped where that is not allowed."""
    try:
        try:
            network.make()
        except Unavailable as error:
            pytest.skip(f"network namespaces are not allowed here, and {tested_without} is tested: {error}")
        yield network
    finally:
        network.remove()
