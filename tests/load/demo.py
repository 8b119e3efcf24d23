#!/usr/bin/python3
"""The demo: relayd in front of a small app, rolled over again and again while clients hammer it; then relayd itself is replaced.

Prints what happens while it happens, then a table of what was lost (nothing, where the promise holds) and a picture of
the generations over time. Ends by itself; the exit status is 1 where anything was lost that may not be.
"""

import argparse
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import apps, processes  # noqa: E402  (found by the line above)
from harness.load import KINDS, Load  # noqa: E402
from harness.relayd import Relayd  # noqa: E402
from timeline import Timeline  # noqa: E402  (beside this file)

CLIENTS = 32
BOOT_MS = 400
ROLLOVERS = [("phased", 5), ("hot", 5), ("restart", 3)]
UPGRADES = 5
# A restart closes the connections of the old generation: that is what it is for. They are counted apart, with the requests
# that relayd then answers by itself (502, 504), as they may not be sent again.
BY_DEFINITION = ("reset", "truncated", "closed_early")
MEANING = {
    "phased": "the new generation starts beside the old one, then takes over",
    "hot": "new clients are held; the old one finishes and stops, then the new one starts",
    "restart": "the old one is stopped at once; new clients are held until the new one is ready",
    "upgrade": "relayd replaces its own executable; every connection goes on, and clients keep theirs for the whole time",
}


def say(text=""):
    print(text, flush=True)


def roll_over(relayd, mode, count, seconds_between):
    """`count` rollovers under a load of their own, so that each mode has its own figures. The load client's report."""
    say(f"\n{mode}: {MEANING[mode]}")
    with Load(relayd.address, CLIENTS, ["--post", 30, "--think", 1]) as load:
        for _ in range(count):
            answered = relayd.service()["accepted"]
            relayd.wait_for(lambda service: service["accepted"] > answered + 300, "clients are being served")
            processes.pause(seconds_between)  # so that the picture shows each generation serving
            result = relayd.rollover(mode, until="drained")
            accepted = relayd.service()["accepted"]
            say(f"  generation {result['from']:>2} -> {result['to']:<2}  {result['duration_ms']:>5} ms   {accepted:>7} clients so far")
        processes.pause(seconds_between)
        return load.finish()


def upgrade(relayd, count, seconds_between):
    """The same for upgrades of relayd itself."""
    say(f"\nupgrade: {MEANING['upgrade']}")
    with Load(relayd.address, CLIENTS, ["--post", 30, "--think", 1, "--keep-alive"]) as load:
        for number in range(1, count + 1):
            answered = relayd.service()["requests"]
            relayd.wait_for(lambda service: service["requests"] > answered + 300, "clients are being served")
            processes.pause(seconds_between)  # so that the picture shows them apart
            told = relayd.upgrade()
            kept, silence = told["connections"], told["silence_ms"]
            say(f"  {number}: pid {told['pid']} as before, {kept} connections kept, silent for {silence} ms")
        processes.pause(seconds_between)
        return load.finish()


def figures(mode, count, report, answered):
    """`answered`: by relayd itself meanwhile."""
    losses = {kind: report["losses"][kind] for kind in KINDS}
    by_definition = 0
    if mode == "restart":
        cut = {kind: losses[kind] for kind in BY_DEFINITION} | {"bad_status": min(losses["bad_status"], answered)}
        by_definition = sum(cut.values())
        losses = {kind: losses[kind] - cut.get(kind, 0) for kind in KINDS}
    return {
        "rollovers": count,
        "requests": report["requests"],
        "losses": losses,
        "by_definition": by_definition,
        "stall": report["longest_stall_ms"],
        "bad": sum(losses.values()) + report["unfinished"] + report["client_errors"],
        "complaints": report["complaints"],
    }


def print_table(rows):
    modes = list(rows)
    total = {
        "rollovers": sum(row["rollovers"] for row in rows.values()),
        "requests": sum(row["requests"] for row in rows.values()),
        "by_definition": sum(row["by_definition"] for row in rows.values()),
        "stall": max(row["stall"] for row in rows.values()),
        "losses": {kind: sum(row["losses"][kind] for row in rows.values()) for kind in KINDS},
    }
    columns = [rows[mode] for mode in modes] + [total]

    def line(name, values):
        say(f"  {name:<34}" + "".join(f"{value:>10}" for value in values))

    say()
    line("", modes + ["total"])
    line("rollovers, upgrades", [column["rollovers"] for column in columns])
    line("requests", [column["requests"] for column in columns])
    say("  lost")
    for kind in KINDS:
        line("  " + kind.replace("_", " "), [column["losses"][kind] for column in columns])
    line("closed by restart, by definition", [column["by_definition"] for column in columns])
    line("longest stall, ms", [f"{column['stall']:.0f}" for column in columns])


def run(relayd, quick):
    started = time.monotonic()
    service = apps.demo("--boot-ms", str(BOOT_MS), backend={"instances": 2})
    relayd.start({"web": service}, log={"level": "warn"})
    relayd.follow()
    say(f"relayd {relayd.pid} listens on {relayd.address}; the app behind it has 2 instances and boots in {BOOT_MS} ms")
    say(f"{CLIENTS} clients keep asking: short requests, and 16 KB POSTs whose hash is checked")
    rows = {}
    for mode, count in ROLLOVERS:
        count = 1 if quick else count
        before = relayd.service()["answered"]
        report = roll_over(relayd, mode, count, 0.2 if quick else 0.9)
        rows[mode] = figures(mode, count, report, relayd.service()["answered"] - before)
    count = 1 if quick else UPGRADES
    rows["upgrade"] = figures("upgrade", count, upgrade(relayd, count, 0.2 if quick else 0.9), 0)
    events = relayd.follow().all()
    relayd.stop()
    say(f"\nrelayd has ended with 0; {time.monotonic() - started:.0f} s in all")
    print_table(rows)
    say("\n" + Timeline(events).picture(min(terminal_width(), 100)))
    bad = sum(row["bad"] for row in rows.values())
    for mode, row in rows.items():
        if row["bad"]:
            say(f"\n{mode}: " + "\n  ".join(row["complaints"]))
    if bad:
        say(f"\nFAILED: {bad} requests were lost")
        return 1
    say("\nNothing was lost.")
    return 0


def terminal_width():
    try:
        return os.get_terminal_size().columns
    except OSError:
        return 80


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", default=None, help="where relayd, relayctl, relay_load and demo_app are")
    parser.add_argument("--quick", action="store_true", help="one rollover of each mode, one upgrade")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale
    if arguments.bin_dir:
        os.environ["RELAYD_BIN_DIR"] = str(pathlib.Path(arguments.bin_dir).resolve())
    relayd = Relayd()
    try:
        return run(relayd, arguments.quick)
    except AssertionError as failure:
        say(f"\nFAILED: {failure}\n{relayd.log()[-4000:]}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        relayd.abandon()


if __name__ == "__main__":
    sys.exit(main())
