"""What was measured, as ratios round by round with their medians, and the goals beside them."""

from statistics import median

import idle
import rollovers

PEERS = ["haproxy", "nginx"]
# (work, candidate, whom it is compared with, goal). The best of several is the one with the least CPU.
COMPARED = [
    ("connect", "relayd", PEERS, 0.90),
    ("connect", "relayd unix", PEERS, 0.68),
    ("connect_client", "relayd", PEERS, 0.90),
    ("connect_client", "relayd unix", PEERS, 0.68),
    ("roundtrip", "relayd", PEERS, 0.90),
    ("roundtrip", "relayd unix", PEERS, 0.75),
    ("bulk", "relayd", PEERS, 0.30),
    ("bulk", "relayd", ["socket-proxyd"], 1.00),
    ("http", "relayd auto", ["relayd"], 1.05),
    # No goal, but worth knowing: the peers on equal terms, and what relayd adds to the least that a relay can be.
    ("connect", "relayd", ["nginx half-close"], None),
    ("connect_client", "relayd", ["nginx half-close"], None),
    ("bulk", "relayd", ["haproxy splice"], None),
    ("http", "relayd http", ["relayd"], None),
    ("http", "relayd auto", ["haproxy http", "nginx http"], None),
    ("http", "relayd http", ["haproxy http", "nginx http"], None),
    ("http", "relayd", ["floor"], None),
    ("connect", "relayd unix", ["haproxy unix", "nginx unix"], None),
    ("connect_client", "relayd unix", ["haproxy unix", "nginx unix"], None),
    ("roundtrip", "relayd unix", ["haproxy unix", "nginx unix"], None),
    ("bulk", "relayd unix", ["haproxy unix", "nginx unix"], None),
    ("bulk", "relayd unix", ["haproxy splice unix"], None),
    ("bulk", "relayd unix", ["socket-proxyd unix"], None),
    ("connect", "relayd", ["floor"], None),
    ("connect_client", "relayd", ["floor"], None),
    ("roundtrip", "relayd", ["floor"], None),
    ("bulk", "relayd", ["floor splice"], None),
    ("connect", "relayd unix", ["floor unix"], None),
    ("connect_client", "relayd unix", ["floor unix"], None),
    ("roundtrip", "relayd unix", ["floor unix"], None),
    ("bulk", "relayd unix", ["floor splice unix"], None),
]
MEMORY_GOAL = 128   # bytes
GROWTH_GOAL = 1.03
LATENCY_GOAL = 1.10
# (kind of unit, during what, against what, goal of its p99)
LATENCIES = [
    ("all", "rollover", "none", LATENCY_GOAL),
    ("all", "starts", "none", None),
    ("all", "rollover", "starts", None),
    ("trip", "rollover", "none", None),
    ("connection", "rollover", "none", None),
]


def ratios(runs, candidate, peer, of=lambda run: run.get("cpu")):
    """One for each round in which both did their work without an error."""
    pairs = zip(runs.get(candidate, []), runs.get(peer, []))
    return [of(mine) / of(theirs) for mine, theirs in pairs if of(mine) and of(theirs)]


def spread(values):
    """Median, least, greatest; all None where there is no valid round."""
    if not values:
        return {"median": None, "least": None, "greatest": None}
    return {"median": median(values), "least": min(values), "greatest": max(values)}


def the_better(runs, candidate, peers):
    """The peer with which the candidate looks worst; the first where there is no valid round."""
    found = [(median(values), peer) for peer in peers if (values := ratios(runs, candidate, peer))]
    return max(found)[1] if found else peers[0]


def row(section, what, candidate, against, numbers, goal):
    """`reached` is None where there is no goal; a void figure has not reached its goal."""
    reached = None if goal is None else numbers["median"] is not None and numbers["median"] <= goal
    return {"section": section, "what": what, "candidate": candidate, "against": against, "goal": goal,
            "reached": reached, **numbers}


def of_times(results):
    for key, candidate, peers, goal in COMPARED:
        runs = results["works"].get(key, {}).get("runs", {})
        if candidate not in runs or not any(peer in runs for peer in peers):
            continue
        peer = the_better(runs, candidate, peers)
        found = row("times", key, candidate, peer, spread(ratios(runs, candidate, peer)), goal)
        found["better"] = len(peers) > 1
        yield found


def of_growth(results):
    for name in idle.GROWTH:
        found = results.get("growth", {}).get(name)
        if found:
            numbers = spread(ratios(found["runs"], "crowded", "none"))
            yield row("growth", f"roundtrip beside {found['pairs']:,} idle pairs", name, "with none", numbers,
                      GROWTH_GOAL if name == "relayd" else None)


def of_memory(results):
    """The worst of all stages."""
    for name in idle.MEMORY:
        found = results.get("memory", {}).get(name)
        if found:
            numbers = spread([] if "void" in found else [found[stage] for stage in idle.STAGES])
            numbers["median"] = numbers["greatest"]
            yield row("memory", "bytes an idle pair, at worst", name, "", numbers,
                      MEMORY_GOAL if name == "relayd" else None)


def quantile(kind, which):
    return lambda run: (run.get(kind) or {}).get(which)


def of_latency(results):
    found = results.get("latency")
    if not found:
        return
    runs = {} if "void" in found else found["runs"]
    for kind, during, against, goal in LATENCIES:
        numbers = spread(ratios(runs, during, against, quantile(kind, "p99")))
        yield row("latency", kind, during, against, numbers, goal)


def latency_table(results):
    """[(variant, {"p50", "p99", "p999", "max"}: medians of the rounds in us, or None)]"""
    runs = {} if "void" in results["latency"] else results["latency"]["runs"]
    for variant in rollovers.VARIANTS:
        table = {}
        for which in ("p50", "p99", "p999", "max"):
            values = [value for run in runs.get(variant, []) if (value := quantile("all", which)(run))]
            table[which] = median(values) if values else None
        yield variant, table


def all_of(results):
    return [*of_times(results), *of_growth(results), *of_memory(results), *of_latency(results)]
