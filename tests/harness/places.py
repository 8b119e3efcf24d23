"""Where things are, and free ports."""

import os
import pathlib
import random
import socket

TESTS = pathlib.Path(__file__).resolve().parents[1]
APPS = TESTS / "system" / "apps"
PYTHON = "/usr/bin/python3"
SOAK = bool(os.environ.get("RELAYD_SOAK"))


def bin_dir():
    return pathlib.Path(os.environ.get("RELAYD_BIN_DIR", TESTS.parent / "build" / "bin")).resolve()


def program(name):
    path = bin_dir() / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: build it first, or set RELAYD_BIN_DIR")
    return str(path)


_claims = []


def _claim(port):
    """Whether the port is ours from now on: no test process of this network namespace is given it until we end."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0relayd-test-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def free_port(host="127.0.0.1"):
    """A port that is free and given to nobody else, below the ephemeral range: no client's own port can take it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = random.SystemRandom().randrange(12000, 32000)
        if not _claim(port):
            continue
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return port
            except OSError:
                continue


def listens(port):
    """Whether somebody listens on this port of IPv4, asked of the kernel: no connection is made."""
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)
