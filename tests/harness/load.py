"""relay_load as a process of a test."""

import json
import os
import signal
import subprocess

from . import places, processes

KINDS = ("refused", "reset", "truncated", "timed_out", "bad_status", "bad_body", "closed_early")


class Load:
    """Clients that hammer an address until finish(). A context manager, so that none outlives its test."""

    def __init__(self, address, clients=32, options=(), mark="", prefix=()):
        command = [*prefix, places.program("relay_load"), address, "--clients", str(clients), *map(str, options)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env={**os.environ, processes.MARK: mark}
        )
        self.report = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self.process.stdout.close()

    def finish(self, seconds=60):
        """Lets requests under way finish; the report."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds=60):
        output, _ = self.process.communicate(timeout=seconds)
        self.report = json.loads(output)
        return self.report


def assert_nothing_lost(report, at_least=1):
    assert report["lost"] == 0 and report["unfinished"] == 0 and report["client_errors"] == 0, describe(report)
    assert report["answered"] >= at_least, describe(report)


def describe(report):
    lost = ", ".join(f"{report['losses'][kind]} {kind}" for kind in KINDS if report["losses"][kind])
    return f"of {report['requests']} requests lost: {lost or 'none'}; " + "; ".join(report["complaints"])
