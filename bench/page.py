"""The figures of README.md, between two comments of it, and figures.svg beside it."""

import os
from statistics import median

import figures
import idle
import plot
from processes import Failure
import report
import ways
from report import number

BEGIN = "<!-- figures: written by bench/run, not by hand -->"
END = "<!-- end of figures -->"
WORKS = {"connect": "connect, closed by the backend", "connect_client": "connect, closed by the client",
         "roundtrip": "kept round trip", "http": "kept HTTP request", "bulk": "bulk, per GB"}
NAMES = {"haproxy": "HAProxy", "nginx": "nginx", "socket-proxyd": "systemd-socket-proxyd",
         "none": "nothing", "starts": "processes being started", "rollover": "rollovers"}
KINDS = {"all": "p99 latency", "trip": "p99 of round trips alone", "connection": "p99 of connections alone"}
CALLS = {"connect": "connection, closed by the backend", "connect_client": "connection, closed by the client",
         "roundtrip": "kept round trip", "request": "kept request (160 B, answer 1,200 B)"}


def named(name):
    first, _, rest = name.partition(" ")
    return NAMES.get(first, first) + (f" {rest}" if rest else "")


def spread(row, digits=2):
    return report.spread(row, digits).replace("  ", " ")


def verdict(row):
    if row["goal"] is None:
        return "|"
    return f"{row['goal']:.2f} | {'reached' if row['reached'] else '**MISSED**'}"


def provenance(results):
    found = results["environment"]
    haproxy = found["haproxy"].replace("HAProxy version ", "").split("-")[0]
    nginx = found["nginx"].rsplit("/", 1)[-1]
    systemd = found["socket-proxyd"].split()[1] if " " in found["socket-proxyd"] else found["socket-proxyd"]
    goals = [row for row in results["figures"] if row["goal"] is not None]
    missed = sum(not row["reached"] for row in goals)
    return [f"{found['date']}, {found['machine']}, load average {found['load_average']:.1f} at the start; "
            f"Linux {found['kernel'].split('-')[0]}, HAProxy {haproxy}, nginx {nginx}, systemd {systemd}; "
            f"{results['rounds']} round{'s' if results['rounds'] > 1 else ''}. Of {len(goals)} goals, "
            + (f"**{missed} {'is' if missed == 1 else 'are'} missed**." if missed else "all are reached."),
            "", "![The figures below as bars](figures.svg)", ""]


def goals_table(results):
    rows = [row for row in results["figures"] if row["section"] == "times" and row["goal"] is not None]
    lines = ["Ratios of CPU time within a round: median (least to greatest).", "",
             "| work | candidate | compared with | ratio | goal | |", "|---|---|---|---|---|---|"]
    for row in rows:
        whom = f"the better of HAProxy and nginx ({named(row['against'])})" if row["better"] else named(row["against"])
        lines.append(f"| {WORKS[row['what']]} | {row['candidate']} | {whom} | {spread(row)} | {verdict(row)} |")
    return lines + [""] if rows else []


def terms_table(results):
    rows = [row for row in results["figures"] if row["section"] == "times" and row["goal"] is None]
    lines = ["On equal terms, and beside the least that a relay can be; no goals.", "",
             "| work | candidate | compared with | ratio |", "|---|---|---|---|"]
    lines += [f"| {WORKS[row['what']]} | {row['candidate']} | {named(row['against'])} | {spread(row)} |" for row in rows]
    return lines + [""] if rows else []


def cost_table(results):
    works = results["works"]
    if not works:
        return []
    lines = ["The same as CPU time, medians: µs a connection or a round trip, ms a GB (`direct`: load and backend).", "",
             "| | " + " | ".join(WORKS[key] for key in works) + " |", "|---" * (len(works) + 1) + "|"]
    for name in results["candidates"]:
        cells = []
        for work in works.values():
            values = [run["cpu"] for run in work["runs"].get(name, []) if "cpu" in run]
            cells.append(f"{median(values):.{0 if work['unit'] == 'ms' else 1}f}" if values else
                         "void" if name in work["runs"] else "")
        lines.append(f"| {named(name)} | " + " | ".join(cells) + " |")
    return lines + [""]


def growth_table(results):
    rows = [row for row in results["figures"] if row["section"] == "growth"]
    lines = ["CPU a round trip beside many idle pairs, as a ratio to that with none.", "",
             "| work | proxy | ratio | goal | |", "|---|---|---|---|---|"]
    lines += [f"| {row['what']} | {named(row['candidate'])} | {spread(row, 3)} | {verdict(row)} |" for row in rows]
    return lines + [""] if rows else []


def memory_table(results):
    memory = results.get("memory")
    if not memory:
        return []
    lines = ["User memory an idle pair, bytes.", "",
             "| | " + " | ".join(named(name) for name in memory) + " | goal |", "|---" * (len(memory) + 2) + "|"]
    rows = [row for row in results["figures"] if row["section"] == "memory" and row["goal"]]
    reached = all(row["reached"] for row in rows)
    for stage, title in zip(idle.STAGES, ("both sides connected", "after a first answer",
                                          "after 256 KiB went through each", "after downloads beside them")):
        cells = [number(found.get(stage), 0) if "void" not in found else "void" for found in memory.values()]
        goal = f"{figures.MEMORY_GOAL}, {'reached' if reached else '**MISSED**'}" if stage == idle.STAGES[-1] else ""
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {goal} |")
    return lines + [""]


def latency_table(results):
    found = results.get("latency")
    if not found:
        return []
    lines = [f"Latency in µs through relayd with {found['pairs']:,} idle pairs open, {found['rate']:,} units a second, "
             f"during {found['times']} rollovers in {found['seconds']:g} s, and against that:", "",
             "| meanwhile | p50 | p99 | p99.9 | max |", "|---|---|---|---|---|"]
    for variant, table in figures.latency_table(results):
        lines.append(f"| {named(variant)} | " + " | ".join(number(value, 0) for value in table.values()) + " |")
    lines += ["", "| | during | compared with | ratio | goal | |", "|---|---|---|---|---|---|"]
    for row in results["figures"]:
        if row["section"] == "latency":
            lines.append(f"| {KINDS[row['what']]} | {named(row['candidate'])} | {named(row['against'])} "
                         f"| {spread(row)} | {verdict(row)} |")
    return lines + [""]


def calls_table(results):
    calls = results.get("calls")
    if not calls:
        return []
    names = list(dict.fromkeys(name for by_name in calls.values() for name in by_name))
    lines = ["System calls a unit, by strace.", "",
             "| | " + " | ".join(CALLS[key] for key in calls) + " |", "|---" * (len(calls) + 1) + "|"]
    for name in names:
        cells = []
        for by_name in calls.values():
            found = by_name.get(name) if name in by_name else {}
            cells.append("" if found == {} else f"{found['total']:.1f}" if found and "total" in found else "void")
        lines.append(f"| {named(name)} | " + " | ".join(cells) + " |")
    return lines + [""]


def ways_table(results):
    if "ways" not in results:
        return []
    found = results["ways"]
    lines = [f"The ways to the app. Load and app share one CPU, relayd has the other. Latency of connections in µs, at "
             f"{found['rate']:,} units a second.", "",
             "| | connections a second | p50 | p99 | relayd's CPU a connection, µs |", "|---|---|---|---|---|"]
    for name, row in ways.table(results):
        cells = [number(row["rate"], 0), number(row["p50"], 0), number(row["p99"], 0), number(row["cpu"], 2)]
        lines.append(f"| {named(name)} | " + " | ".join(cells) + " |")
    return lines + [""]


def write(results, directory):
    """Paths of what was written."""
    readme, drawing = os.path.join(directory, "README.md"), os.path.join(directory, "figures.svg")
    with open(readme, encoding="utf-8") as file:
        text = file.read()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Failure(f"{readme} has no '{BEGIN}' before '{END}'")
    parts = (provenance, goals_table, terms_table, cost_table, growth_table, memory_table, latency_table, calls_table,
             ways_table)
    body = "\n".join(line.rstrip() for part in parts for line in part(results)).rstrip()
    with open(readme, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}")
    with open(drawing, "w", encoding="utf-8") as file:
        file.write(plot.drawing(results))
    return [readme, drawing]
