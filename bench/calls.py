"""System calls a unit of work, by strace: figures without noise, in a pass of its own as strace slows everything down."""

import os
import re
import time

from measure import Work, run_load, works

# A connection with one request, ended by either side; a kept round trip; a kept request as small HTTP ones look.
COUNTED = {"connect": 100, "connect_client": 100, "roundtrip": 500, "request": 500}


def counted_works():
    found = {work.key: work for work in works(True) if work.key in COUNTED}
    found["request"] = Work("request", "", "", 1, ["request", "0", "1"])
    return found


def system_calls(stage, candidate, work, units):
    """System calls a unit, in all and by name; None where strace cannot attach. One unit after the other: a proxy is so
    slow under strace that it would otherwise always find many at once."""
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
    if report["errors"] or not report["units"]:
        return {"void": report["errors"]}
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
