"""The measurements. Times are CPU time of the proxy's processes per unit of work; wall times are noise."""

import json
import subprocess
import time

from processes import become_ours, cpu_seconds

SETTLE = 0.05  # seconds in which a proxy may close what the load has left
LIMIT = 60     # seconds for one run of the load
GIVE_UP = 3    # void runs in a row, after which a candidate does no more of that work


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
    connections, trips, volume = ("1000", "6000", "100000000") if quick else ("4000", "24000", "400000000")
    return [
        Work("connect", "connect + 64 B each way + close by the backend", "us", 1e6,
             ["connect", connections, "16", "server"]),
        Work("connect_client", "the same, closed by the client", "us", 1e6, ["connect", connections, "16", "client"]),
        Work("roundtrip", "128 B round trip on 64 kept connections", "us", 1e6, ["roundtrip", trips, "64"]),
        Work("http", "HTTP request on 64 kept connections, 1 KiB of body", "us", 1e6, ["http", trips, "64"]),
        Work("bulk", "bulk download, 4 streams, per GB", "ms", 1e12, ["bulk", volume, "4"]),
    ]


def warm_up(work):
    units = {"connect": "200", "roundtrip": "1000", "http": "1000", "bulk": "20000000"}[work.arguments[0]]
    return Work(work.key, "", "", 1, [work.arguments[0], units, *work.arguments[2:]])


def run_load(stage, address, work):
    """The load's own report; where it is none, with what it said instead."""
    command = ["taskset", "-c", str(stage.load_cpu), stage.program("bench_load"), work.arguments[0], address,
               *work.arguments[1:]]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False,
                                preexec_fn=become_ours)
    except subprocess.TimeoutExpired:
        return {"units": 0, "errors": {f"not done in {LIMIT} s": 1}, "said": ""}
    if result.returncode != 0:
        return {"units": 0, "errors": {"bench_load failed": 1}, "said": result.stderr.strip()}
    report = json.loads(result.stdout)
    report["errors"] = {kind: count for kind, count in report["errors"].items() if count}
    report["said"] = result.stderr.strip()
    return report


def measure(stage, candidate, work):
    """One run: the proxy's CPU time a unit. For `direct`, that of the load and the backend together."""
    try:
        pids = [candidate.backend.process.pid] if candidate.process is None else candidate.pids()
        before = cpu_seconds(pids)
        report = run_load(stage, candidate.address, work)
        time.sleep(SETTLE)
        spent = cpu_seconds(pids) - before
    except OSError:
        return {"void": {"the proxy is gone": 1}, "said": ""}
    if report["errors"] or not report["units"]:
        return {"void": report["errors"] or {"nothing done": 1}, "said": report["said"]}
    if candidate.process is None:
        spent += report["cpu_seconds"]
    return {"cpu": spent / report["units"] * work.scale, "wall": report["seconds"]}


def interleaved(stage, candidates, work, rounds, progress=None):
    """{candidate: [run of each round]}; everyone runs in each round, each time in another order."""
    runs = {candidate.name: [] for candidate in candidates}
    for number in range(rounds):
        shift = number % len(candidates)
        order = candidates[shift:] + candidates[:shift]
        for candidate in order if number % 2 == 0 else reversed(order):
            mine = runs[candidate.name]
            if len(mine) >= GIVE_UP and all("void" in run for run in mine[-GIVE_UP:]):
                mine.append(mine[-1])
            else:
                mine.append(measure(stage, candidate, work))
        if progress:
            progress.step()
    return runs
