"""Latency while relayd rolls its app over (phased), against none, beside many idle pairs."""

import json
import signal
import socket
import subprocess
import time

from candidates import Candidate
from idle import IdlePairs
from processes import Failure, answers, free_port

RATE = 4000    # units a second that the load asks for: far below what saturates, so that latency is no queue of its own
KEPT = 8       # connections
# "none": nothing happens. "starts": the same program is started and ended beside relayd as often as a rollover would:
# what a new process costs on these CPUs, whoever starts it. "rollover": phased rollovers.
VARIANTS = ["none", "starts", "rollover"]


class Disturbance:
    """What happens meanwhile."""

    def __init__(self, stage, candidate, variant):
        self.stage = stage
        self.candidate = candidate
        self.variant = variant
        self.backend = None

    def happen(self):
        if self.variant == "rollover":
            roll_over(self.candidate.control)
        elif self.variant == "starts":
            self._replace_backend()

    def _replace_backend(self):
        """As relayd does: begun on its own CPU until the command moves away; the one before is ended then."""
        address = f"127.0.0.1:{free_port()}"
        command = ["taskset", "-c", str(self.stage.load_cpu), self.stage.program("bench_backend"), address]
        started = self.stage.start(command, self.stage.proxy_cpu, lean=True)
        deadline = time.monotonic() + 10
        while not answers(address):
            if time.monotonic() > deadline:
                raise Failure("the backend did not start")
            time.sleep(0.005)
        self.end()
        self.backend = started

    def end(self):
        if self.backend:
            self.stage.end(self.backend, signal.SIGTERM)


def roll_over(control):
    """What `relayctl rollover bench` sends (control/PROTOCOL.md), without one more process to start."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(control)
        connection.sendall(b'{"jsonrpc":"2.0","id":1,"method":"rollover","params":{"service":"bench"}}\n')
        with connection.makefile() as lines:
            answer = json.loads(lines.readline())
    if answer.get("result", {}).get("result") != "done":
        raise Failure(f"the rollover failed: {answer}")


def one_run(stage, candidate, variant, milliseconds, times):
    """{"all"|"trip"|"connection": {"p50", "p99", "p999", "max"} in us}, or what makes it void."""
    load = stage.start([stage.program("bench_load"), "paced", candidate.address, str(milliseconds), str(RATE), str(KEPT)],
                       stage.load_cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    disturbance = Disturbance(stage, candidate, variant)
    began = time.monotonic()
    try:
        for number in range(times):
            due = began + milliseconds / 1000 * 0.9 * (number + 0.3) / times
            time.sleep(max(0.0, due - time.monotonic()))
            disturbance.happen()
        late = time.monotonic() > began + milliseconds / 1000
        output, said = load.communicate(timeout=60)
    except (Failure, OSError, subprocess.TimeoutExpired) as failure:
        return {"void": str(failure)}
    finally:
        disturbance.end()
        stage.end(load)
    report = json.loads(output) if output else {"errors": {"load ended": 1}}
    errors = {kind: count for kind, count in report["errors"].items() if count}
    if errors or late:
        return {"void": errors or "not over in time", "said": said.strip()}
    return report["latency_us"]


def latency(stage, backends, rounds, quick, progress):
    """{"runs": {variant: [run of each round]}, ...}"""
    pairs_wanted, milliseconds, times = (2000, 1200, 2) if quick else (9000, 4000, 6)
    candidate = Candidate(stage, "relayd", backends)
    pairs = IdlePairs(stage, candidate.address)
    runs = {variant: [] for variant in VARIANTS}
    found = {"pairs": pairs_wanted, "times": times, "seconds": milliseconds / 1000, "rate": RATE, "runs": runs}
    try:
        pairs.ask(f"open {pairs_wanted}")
        pairs.ask(f"answer {pairs_wanted}")
        one_run(stage, candidate, "none", 500, 1)
        for number in range(rounds):
            shift = number % len(VARIANTS)
            for variant in VARIANTS[shift:] + VARIANTS[:shift]:
                runs[variant].append(one_run(stage, candidate, variant, milliseconds, times))
            progress.step()
        pairs.ask(f"answer {pairs_wanted}")  # they are all still there
    except Failure as failure:
        found["void"] = str(failure)
    finally:
        pairs.end()
        candidate.end()
    return found
