"""HAProxy as the load balancer in front of relayd, which tells it its clients by the PROXY protocol."""

import contextlib
import shutil
import socket
import subprocess
import tempfile

from . import http, places, processes

# `retries 0`: a connection that relayd refused would not be hidden.
CONFIG = """
global
  maxconn 2000
defaults
  mode tcp
  retries 0
  timeout connect 20s
  timeout client 60s
  timeout server 60s
listen in
  bind {address}
  server relayd {server} {sending}
"""


def program():
    return shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")


@contextlib.contextmanager
def in_front_of(server, sending):
    """Its address; `sending` is "send-proxy" (version 1) or "send-proxy-v2"."""
    address = f"127.0.0.1:{places.free_port()}"
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        config.write(CONFIG.format(address=address, server=server, sending=sending))
        config.flush()
        running = subprocess.Popen([program(), "-db", "-f", config.name], stdin=subprocess.DEVNULL)
        try:
            processes.wait_until(lambda: answers(address), "haproxy takes connections")
            yield address
            assert running.poll() is None, "haproxy has ended by itself"
        finally:
            running.kill()
            running.wait(10)


def answers(address):
    with contextlib.suppress(OSError), http.connect(address) as link:
        return isinstance(link, socket.socket)
    return False
