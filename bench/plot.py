"""figures.svg: the same figures as bars, drawn by hand, for light and for dark backgrounds."""

import math

import charts
import figures
import idle
from charts import Bar

PANELS = [("connect", "Connection, closed by the backend"), ("connect_client", "Connection, closed by the client"),
          ("roundtrip", "Kept round trip of 128 B"), ("bulk", "Bulk download, 4 streams")]
ORDER = ["relayd", "haproxy", "haproxy splice", "nginx", "nginx half-close", "socket-proxyd", "floor", "floor splice"]
LATENCIES = [("p50", "median"), ("p99", "99 %"), ("p999", "99.9 %"), ("max", "worst")]
DURING = {"none": "nothing", "starts": "processes being started", "rollover": "rollovers"}


def kind(name):
    """Class of a bar: whom it is about, and whether it is the second of its row."""
    whom = "ours" if name.startswith("relayd") else "floor" if name.startswith("floor") else "peer"
    return whom + (" second" if name.endswith("unix") else "")


def work_panel(results, key, title):
    runs = results["works"][key]["runs"]
    better = figures.the_better(runs, "relayd", figures.PEERS)
    goals = {row["candidate"]: row for row in reversed(results["figures"])
             if row["what"] == key and row["goal"] is not None and row["better"]}
    rows = []
    for name in ORDER:
        bars = []
        for variant in (name, name + " unix"):
            if variant in runs:
                numbers = figures.spread(figures.ratios(runs, variant, better))
                goal = goals.get(variant, {"goal": None, "reached": None})
                bars.append(Bar(kind(variant), numbers["median"], numbers["least"], numbers["greatest"],
                                goal=goal["goal"], reached=goal["reached"]))
        if bars:
            rows.append((name, bars))
    most = max((bar.value for _, bars in rows for bar in bars if bar.value), default=1)
    scale = charts.Linear(0, max(1.2, most * 1.12))
    other = next((row for row in results["figures"] if row["what"] == key and row["goal"] and not row["better"]), None)
    return charts.Panel(title, f"CPU time, {better} over TCP = 1", rows, scale, reference=1, verdict=other and remark(
        other, f"{other['candidate']} / {other['against']}"))


def remark(row, what):
    ratio = "void" if row["median"] is None else f"{row['median']:.2f}"
    return f"{what}: {ratio} (goal {row['goal']:.2f})", row["reached"]


def memory_panel(results):
    rows = []
    verdicts = {row["candidate"]: row for row in results["figures"] if row["section"] == "memory"}
    for name in idle.MEMORY:
        found = results["memory"].get(name)
        if not found:
            continue
        fresh, used = ((None, None) if "void" in found else
                       (found["connected"], max(found[stage] for stage in idle.STAGES)))
        goal = verdicts[name]
        rows.append((name, [Bar(kind(name), used, goal=goal["goal"], reached=goal["reached"], digits=0),
                            Bar(kind(name) + " second", fresh, digits=0)]))
    least = min((bar.value for _, bars in rows for bar in bars if bar.value and bar.value > 0), default=10)
    most = max((bar.value for _, bars in rows for bar in bars if bar.value), default=1000)
    scale = charts.Logarithmic(10 ** math.floor(math.log10(least)), most * 1.3)
    return charts.Panel("Memory of an idle pair", "bytes, logarithmic: at worst (pale: just connected)", rows, scale)


def growth_panel(results):
    found = {row["candidate"]: row for row in results["figures"] if row["section"] == "growth"}
    rows = [(name, [Bar(kind(name), row["median"], row["least"], row["greatest"], goal=row["goal"],
                        reached=row["reached"], digits=3, dot=True)]) for name, row in found.items()]
    ends = [value for _, bars in rows for bar in bars for value in (bar.least, bar.greatest) if value]
    reach = min(0.5, max([abs(value - 1) for value in ends] + [0.05]) * 1.1)
    pairs = next(iter(results["growth"].values()))["pairs"]
    return charts.Panel(f"Round trip beside {pairs:,} idle pairs", "CPU time, the same without them = 1", rows,
                        charts.Linear(1 - reach, 1 + reach), reference=1)


def latency_panel(results):
    table = dict(figures.latency_table(results))
    rows = [(title, [Bar({"none": "floor", "starts": "peer", "rollover": "ours"}[variant], table[variant][which], digits=0)
                     for variant in table]) for which, title in LATENCIES]
    values = [bar.value for _, bars in rows for bar in bars if bar.value]
    scale = charts.Logarithmic(min([10, *values]), max(values, default=100) * 1.5)
    row = next(row for row in results["figures"] if row["section"] == "latency" and row["goal"])
    note = remark(row, f"99 %, {DURING['rollover']} / {DURING['none']}")
    pairs = results["latency"]["pairs"]
    return charts.Panel(f"Latency, {pairs:,} idle pairs open", "µs, log.", rows, scale, verdict=note,
                        key=[("floor", "nothing"), ("peer", "processes start"), ("ours", "phased rollovers")])


def calls_panel(results):
    calls = results["calls"]
    rows = []
    for name in ORDER + ["relayd unix"]:
        bars = []
        for key, second in (("connect", ""), ("request", " second")):
            found = calls[key].get(name)
            if found and "total" in found:
                bars.append(Bar(kind(name).split()[0] + second, found["total"], digits=0))
        if bars:
            rows.insert(1 if name == "relayd unix" else len(rows), (name, bars))
    most = max((bar.value for _, bars in rows for bar in bars), default=10)
    return charts.Panel("System calls", "a connection with one request (pale: a kept request)", rows,
                        charts.Linear(0, most * 1.1))


def drawing(results):
    """The text of an SVG file; a part that was not measured has no panel."""
    panels = [work_panel(results, key, title) for key, title in PANELS if key in results["works"]]
    optional = {"memory": memory_panel, "calls": calls_panel, "growth": growth_panel}
    panels += [panel(results) for part, panel in optional.items() if results.get(part)]
    if any(row["section"] == "latency" for row in results["figures"]):
        panels.append(latency_panel(results))
    found = results["environment"]
    heading = f"relayd beside its peers: {found['date']}, {found['machine']}"
    return charts.sheet(heading, panels)
