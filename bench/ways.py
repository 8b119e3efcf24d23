"""The ways to an app side by side: connections a second, latency, and relayd's CPU."""

import json
import subprocess
from statistics import median

from candidates import WAYS, Candidate
from measure import Work, interleaved, warm_up
from processes import Failure, cpu_seconds

RATE = 2000  # connections and round trips a second while latency is measured
KEPT = 8


def latencies(stage, candidate, milliseconds):
    """{"all": {"p50": us, …}, …} of bench_load's paced work, and relayd's CPU time meanwhile."""
    pids = [] if candidate.process is None else candidate.pids()
    before = cpu_seconds(pids)
    load = stage.start([stage.program("bench_load"), "paced", candidate.address, str(milliseconds), str(RATE), str(KEPT)],
                       stage.load_cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, said = load.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        return {"void": "not over in time"}
    finally:
        stage.end(load)
    report = json.loads(output) if output else {"errors": {"load ended": 1}}
    errors = {kind: count for kind, count in report["errors"].items() if count}
    if errors:
        return {"void": errors, "said": said.strip()}
    return {**report["latency_us"], "cpu": cpu_seconds(pids) - before}


def measure(stage, backends, rounds, quick, progress):
    """{"ways": {name: {"connects": [run of each round], "latency": [run of each round]}}, "absent": {name: why}}"""
    running, absent = [], {}
    for name in WAYS:
        try:
            running.append(Candidate(stage, name, backends))
        except Failure as failure:  # steering needs privileges
            absent[name] = str(failure)
    work = Work("connect", "", "us", 1e6, ["connect", "2000" if quick else "8000", "16", "server"])
    milliseconds = 500 if quick else 2000
    interleaved(stage, running, warm_up(work), 1)
    connects = interleaved(stage, running, work, rounds, progress)
    found = {candidate.name: {"connects": connects[candidate.name], "latency": []} for candidate in running}
    for number in range(rounds):
        shift = number % len(running)
        for candidate in running[shift:] + running[:shift]:
            found[candidate.name]["latency"].append(latencies(stage, candidate, milliseconds))
        progress.step()
    for candidate in running:
        candidate.end()
    return {"ways": found, "absent": absent, "units": int(work.arguments[1]), "rate": RATE}


def table(results):
    """[(name, {"rate": connections a second, "p50", "p99": us, "cpu": us of relayd a connection}: medians, or None)]"""
    found = results["ways"]
    for name, runs in found["ways"].items():
        walls = [run["wall"] for run in runs["connects"] if "wall" in run]
        spent = [run["cpu"] for run in runs["connects"] if "cpu" in run]
        good = [run["connection"] for run in runs["latency"] if "void" not in run]
        yield name, {
            "rate": found["units"] / median(walls) if walls else None,
            "p50": median(run["p50"] for run in good) if good else None,
            "p99": median(run["p99"] for run in good) if good else None,
            "cpu": 0.0 if name == "direct" else median(spent) if spent else None,
        }
