"""The measurements. Times are CPU time of the proxy's processes per unit of work; wall times are noise."""

import json
import os
import re
import signal
import subprocess
import time

from candidates import Candidate
from processes import Failure, anonymous_bytes, become_ours, cpu_seconds

SETTLE = 0.05  # seconds in which a proxy may close what the load has left
LIMIT = 120    # seconds for one run of the load


class Work:
    """One kind of work: how the load is called, how many units, and what one unit is called."""

    def __init__(self, key, title, unit, scale, arguments):
        self.key = key
        self.title = title
        self.unit = unit
        self.scale = scale  # from seconds a unit to what is printed
        self.arguments = arguments


def works(quick):
    """Short runs, many rounds: what else goes on in the machine then meets all candidates alike."""
    connections, trips, volume = ("2000", "12000", "200000000") if quick else ("4000", "24000", "400000000")
    return [
        Work("connect", "connect + 64 B each way + close by the backend", "us", 1e6,
             ["connect", connections, "16", "server"]),
        Work("connect_client", "the same, closed by the client", "us", 1e6, ["connect", connections, "16", "client"]),
        Work("roundtrip", "128 B round trip on 64 kept connections", "us", 1e6, ["roundtrip", trips, "64"]),
        Work("bulk", "bulk download, 4 streams, per GB", "ms", 1e12, ["bulk", volume, "4"]),
    ]


def run_load(stage, address, work):
    """The load's own report."""
    command = ["taskset", "-c", str(stage.load_cpu), stage.program("bench_load"), work.arguments[0], address,
               *work.arguments[1:]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False,
                            preexec_fn=become_ours)
    if result.returncode != 0:
        raise Failure(f"bench_load failed: {result.stderr.strip()}")
    report = json.loads(result.stdout)
    report["said"] = result.stderr.strip()
    return report


def measure(stage, candidate, work):
    """One run: the proxy's CPU time a unit. For `direct`, that of the load and the backend together."""
    pids = [candidate.backend.process.pid] if candidate.process is None else candidate.pids()
    before = cpu_seconds(pids)
    report = run_load(stage, candidate.address, work)
    time.sleep(SETTLE)
    spent = cpu_seconds(pids) - before
    if candidate.process is None:
        spent += report["cpu_seconds"]
    errors = {kind: count for kind, count in report["errors"].items() if count}
    if errors or not report["units"]:
        return {"void": errors or {"nothing done": 1}, "said": report["said"]}
    return {"cpu": spent / report["units"] * work.scale, "wall": report["seconds"]}


def interleaved(stage, candidates, work, rounds):
    """{candidate: [run of each round]}; everyone runs in each round, each time in another order."""
    runs = {candidate.name: [] for candidate in candidates}
    for number in range(rounds):
        shift = number % len(candidates)
        order = candidates[shift:] + candidates[:shift]
        for candidate in order if number % 2 == 0 else reversed(order):
            runs[candidate.name].append(measure(stage, candidate, work))
    return runs


class IdlePairs:
    """Connections that the load keeps open through a proxy."""

    def __init__(self, stage, address):
        self.stage = stage
        self.process = stage.start([stage.program("bench_load"), "idle", address], stage.load_cpu,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def ask(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        report = json.loads(answer) if answer else {"errors": {"load ended": 1}}
        errors = {kind: count for kind, count in report["errors"].items() if count}
        if errors:
            raise Failure(f"idle pairs: '{what}' met errors: {errors}")

    def end(self):
        self.stage.end(self.process, signal.SIGKILL)


def memory_per_pair(stage, name, backend, quick):
    """Bytes of user memory an idle pair: after a first answer of 64 B, and after 256 KiB went through each.

    The slope between few and many pairs: what a proxy sets up once, its pools included, cancels out.
    """
    few, more = (500, 1500) if quick else (500, 4000)
    candidate = Candidate(stage, name, backend)
    pairs = IdlePairs(stage, candidate.address)
    try:
        pairs.ask(f"open {few}")
        pairs.ask("bulk 262144")
        time.sleep(SETTLE)
        base = anonymous_bytes(candidate.pids())
        pairs.ask(f"open {more}")
        time.sleep(SETTLE)
        fresh = anonymous_bytes(candidate.pids())
        pairs.ask("bulk 262144")
        time.sleep(SETTLE)
        used = anonymous_bytes(candidate.pids())
    finally:
        pairs.end()
        candidate.end()
    return {"pairs": more, "fresh": (fresh - base) / more, "used": (used - base) / more}


def growth(stage, plain, backend, rounds, quick):
    """CPU a round trip with many idle pairs beside it, as a ratio to that with none: one a round."""
    pairs_wanted = 2000 if quick else 9000
    work = next(w for w in works(quick) if w.key == "roundtrip")
    crowded = Candidate(stage, "relayd", backend)
    crowded.name = "relayd, crowded"
    pairs = IdlePairs(stage, crowded.address)
    try:
        pairs.ask(f"open {pairs_wanted}")
        runs = interleaved(stage, [plain, crowded], work, rounds)
    finally:
        pairs.end()
        crowded.end()
    return {"pairs": pairs_wanted, "runs": runs}


def system_calls(stage, candidate, work, units):
    """System calls a unit, in all and by name. One unit after the other: a proxy is so slow under strace that it
    would otherwise always find many at once."""
    summary = stage.path("strace")
    pids = [argument for pid in candidate.pids() for argument in ("-p", str(pid))]
    strace = stage.start(["strace", "-c", "-f", "-o", summary, *pids], stage.load_cpu)
    deadline = time.monotonic() + 10
    while not traced(candidate.pids()):
        if strace.poll() is not None or time.monotonic() > deadline:
            return None
        time.sleep(0.02)
    arguments = [work.arguments[0], str(units), "1", *work.arguments[3:]]
    report = run_load(stage, candidate.address, Work(work.key, "", "", 1, arguments))
    time.sleep(0.2)
    stage.end(strace)
    calls = {}
    with open(summary, encoding="utf-8") as file:
        for line in file:
            row = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?([a-z_0-9]+)$", line)
            if row and row.group(2) != "total":
                calls[row.group(2)] = int(row.group(1)) / report["units"]
    return {"total": sum(calls.values()), "by_name": calls}


def traced(pids):
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as file:
                if "TracerPid:\t0\n" in file.read():
                    return False
    return True
