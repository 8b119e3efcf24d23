"""What the figures say: ratios round by round, their medians, and the goals beside them."""

from statistics import median

PEERS = ["haproxy", "nginx"]
# (work, candidate, whom it is compared with, goal). The best of several is the one with the least CPU.
GOALS = [
    ("connect", "relayd", PEERS, 0.90),
    ("connect", "relayd unix", PEERS, 0.68),
    ("connect_client", "relayd", PEERS, 0.90),
    ("connect_client", "relayd unix", PEERS, 0.68),
    ("roundtrip", "relayd", PEERS, 0.90),
    ("roundtrip", "relayd unix", PEERS, 0.75),
    ("bulk", "relayd", PEERS, 0.30),
    ("bulk", "relayd", ["socket-proxyd"], 1.00),
    # No goal, but worth knowing: what relayd adds to the least that a relay can be, and the peers on equal terms.
    ("connect", "relayd", ["floor"], None),
    ("connect", "relayd", ["nginx half-close"], None),
    ("connect_client", "relayd", ["nginx half-close"], None),
    ("connect", "relayd unix", ["floor unix"], None),
    ("connect", "relayd unix", ["haproxy unix", "nginx unix"], None),
    ("roundtrip", "relayd", ["floor"], None),
    ("roundtrip", "relayd unix", ["floor unix"], None),
    ("roundtrip", "relayd unix", ["haproxy unix", "nginx unix"], None),
    ("bulk", "relayd", ["floor"], None),
    ("bulk", "relayd unix", ["haproxy unix", "nginx unix"], None),
]
MEMORY_GOAL = 128   # bytes
GROWTH_GOAL = 1.03


def ratios(runs, candidate, peer):
    """One for each round in which both did their work without an error."""
    pairs = zip(runs.get(candidate, []), runs.get(peer, []))
    return [mine["cpu"] / theirs["cpu"] for mine, theirs in pairs if "cpu" in mine and "cpu" in theirs]


def worst_ratio(runs, candidate, peers):
    """Against the best of the peers: its name, median, least and greatest; None where there is no valid round."""
    found = [(peer, ratios(runs, candidate, peer)) for peer in peers]
    found = [(median(values), min(values), max(values), peer) for peer, values in found if values]
    return max(found) if found else None


def verdict(figure, goal):
    if goal is None:
        return ""
    return f"goal <= {goal:<5g} " + ("reached" if figure <= goal else "MISSED")


def compared(results):
    """A row for each goal: work, candidate, peer, median, least, greatest, goal, reached."""
    rows = []
    for key, candidate, peers, goal in GOALS:
        runs = results["works"].get(key, {}).get("runs", {})
        if candidate not in runs or not any(peer in runs for peer in peers):
            continue
        found = worst_ratio(runs, candidate, peers)
        row = {"work": key, "candidate": candidate, "peers": peers, "goal": goal}
        if found:
            row.update(median=found[0], least=found[1], greatest=found[2], peer=found[3],
                       reached=None if goal is None else found[0] <= goal)
        rows.append(row)
    return rows


def print_costs(results):
    names = results.get("candidates")
    if not names:
        return
    width = max(len(name) for name in names) + 2
    print("\nCPU time of the proxy's processes, medians (direct: of load and backend together)")
    for work in results["works"].values():
        print(f"  {work['title']}, {work['unit']}")
        for name in names:
            runs = work["runs"].get(name, [])
            values = [run["cpu"] for run in runs if "cpu" in run]
            void = [run["void"] for run in runs if "void" in run]
            figure = f"{median(values):9.1f}   {min(values):.1f} to {max(values):.1f}" if values else "        -"
            note = f"   VOID in {len(void)} of {len(runs)} rounds: {void[0]}" if void else ""
            if runs:
                print(f"    {name:<{width}}{figure}{note}")


def print_ratios(results):
    if not results["works"] and "growth" not in results:
        return
    print("\nRatios in the same round: median (least to greatest)")
    for row in compared(results):
        whom = row.get("peer", " or ".join(row["peers"]))
        title = f"{row['work']}: {row['candidate']} / {whom}" + (", the better" if len(row["peers"]) > 1 else "")
        if "median" not in row:
            print(f"  {title:<54} VOID, no round without errors    {verdict(9e9, row['goal'])}")
            continue
        figure = f"{row['median']:.2f}  ({row['least']:.2f} to {row['greatest']:.2f})"
        print(f"  {title:<54} {figure:<22} {verdict(row['median'], row['goal'])}".rstrip())
    if "growth" in results:
        runs = results["growth"]["runs"]
        values = ratios(runs, "relayd, crowded", "relayd")
        title = f"roundtrip: with {results['growth']['pairs']} idle pairs / with none"
        if values:
            figure = f"{median(values):.3f} ({min(values):.2f} to {max(values):.2f})"
            print(f"  {title:<54} {figure:<22} {verdict(median(values), GROWTH_GOAL)}")
        else:
            print(f"  {title:<54} VOID")


def print_memory(results):
    if "memory" not in results:
        return
    print("\nUser memory an idle pair, bytes: after a first answer; after 256 KiB went through each")
    for name, found in results["memory"].items():
        note = verdict(max(found["fresh"], found["used"]), MEMORY_GOAL) if name.startswith("relayd") else ""
        print(f"  {name:<16}{found['fresh']:9.0f}{found['used']:9.0f}   {note}".rstrip())


def print_calls(results):
    if "calls" not in results:
        return
    print("\nSystem calls a unit, one unit after the other (strace -c -f, a pass of its own)")
    for key, by_candidate in results["calls"].items():
        for name, found in by_candidate.items():
            if found is None:
                print(f"  {key}: {name}: strace could not attach")
                continue
            named = sorted(found["by_name"].items(), key=lambda item: -item[1])
            listed = ", ".join(f"{call} {count:.1f}" for call, count in named if count >= 0.05)
            print(f"  {key + ': ' + name:<34}{found['total']:6.1f}   {listed}")


def missed_goals(results):
    """Titles of what was measured and did not reach its goal; a void figure has not reached it."""
    missed = [f"{row['work']}: {row['candidate']} / {' or '.join(row['peers'])}" for row in compared(results)
              if row["goal"] is not None and not row.get("reached")]
    values = ratios(results["growth"]["runs"], "relayd, crowded", "relayd") if "growth" in results else []
    if "growth" in results and (not values or median(values) > GROWTH_GOAL):
        missed.append("growth")
    memory = results.get("memory", {}).get("relayd")
    if memory and max(memory["fresh"], memory["used"]) > MEMORY_GOAL:
        missed.append("memory")
    return missed


def print_all(results):
    print_costs(results)
    print_ratios(results)
    print_memory(results)
    print_calls(results)
    missed = missed_goals(results)
    if missed:
        print(f"\n{len(missed)} goals MISSED: {'; '.join(missed)}")
    elif set(results) & {"memory", "growth"} or results["works"]:
        print("\nEvery goal measured here was reached.")
