"""The table that is printed."""

from statistics import median

import figures
import idle
import ways

UNITS = {"all": "units", "trip": "round trips", "connection": "connections"}


def title(row):
    if row["section"] == "times":
        return f"{row['what']}: {row['candidate']} / {row['against']}" + (", the better" if row["better"] else "")
    if row["section"] == "latency":
        return f"p99 of all {UNITS[row['what']]}: {row['candidate']} / {row['against']}"
    return f"{row['what']}: {row['candidate']}" + (f" / {row['against']}" if row["against"] else "")


def verdict(row):
    if row["goal"] is None:
        return ""
    return f"goal <= {row['goal']:<5g} " + ("reached" if row["reached"] else "MISSED")


def number(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


def spread(row, digits=2):
    if row["median"] is None:
        return "void"
    return f"{row['median']:.{digits}f}  ({row['least']:.2f} to {row['greatest']:.2f})"


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
    rows = [row for row in results["figures"] if row["section"] != "memory"]
    if not rows:
        return
    print("\nRatios in the same round: median (least to greatest)")
    for row in rows:
        digits = 3 if row["section"] == "growth" else 2
        print(f"  {title(row):<56} {spread(row, digits):<23} {verdict(row)}".rstrip())


def print_memory(results):
    if "memory" not in results:
        return
    print("\nUser memory an idle pair, bytes: connected; after a first answer; after 256 KiB went through each; after")
    print("downloads beside them")
    verdicts = {row["candidate"]: verdict(row) for row in results["figures"] if row["section"] == "memory"}
    for name, found in results["memory"].items():
        listed = "".join(f"{found[stage]:9,.0f}" for stage in idle.STAGES) if "void" not in found else found["void"]
        print(f"  {name:<16}{listed}   {verdicts.get(name, '')}".rstrip())


def print_latency(results):
    if "latency" not in results:
        return
    found = results["latency"]
    print(f"\nLatency in us beside {found['pairs']:,} idle pairs, {found['rate']:,} units a second, "
          f"{found['times']} rollovers in {found['seconds']:g} s: p50, p99, p99.9, max (medians of the rounds)")
    if "void" in found:
        print(f"  VOID: {found['void']}")
    for variant, table in figures.latency_table(results):
        listed = "".join(f"{number(value, 0):>9}" for value in table.values())
        void = [run["void"] for run in found["runs"][variant] if "void" in run]
        note = f"   VOID in {len(void)} rounds: {void[0]}" if void else ""
        print(f"  {variant:<16}{listed}{note}")


def print_calls(results):
    if "calls" not in results:
        return
    print("\nSystem calls a unit, one unit after the other (strace -c -f, a pass of its own)")
    for key, by_candidate in results["calls"].items():
        for name, found in by_candidate.items():
            if not found or "void" in found:
                print(f"  {key}: {name}: " + (f"VOID: {found['void']}" if found else "strace could not attach"))
                continue
            named = sorted(found["by_name"].items(), key=lambda item: -item[1])
            listed = ", ".join(f"{call} {count:.1f}" for call, count in named if count >= 0.05)
            print(f"  {key + ': ' + name:<34}{found['total']:6.1f}   {listed}")


def print_ways(results):
    if "ways" not in results:
        return
    found = results["ways"]
    print(f"\nThe ways to the app: connections a second; p50 and p99 of a connection at {found['rate']:,} units a second, us; "
          "relayd's CPU\na connection, us (medians)")
    for name, row in ways.table(results):
        print(f"  {name:<18}{number(row['rate'], 0):>8}{number(row['p50'], 0):>8}{number(row['p99'], 0):>8}"
              f"{number(row['cpu'], 2):>9}")
    for name, why in found["absent"].items():
        print(f"  {name:<18}not here: {why.strip().splitlines()[-1]}")


def print_all(results):
    print_costs(results)
    print_ratios(results)
    print_memory(results)
    print_latency(results)
    print_calls(results)
    print_ways(results)
    goals = [row for row in results["figures"] if row["goal"] is not None]
    missed = [title(row) for row in goals if not row["reached"]]
    if missed:
        print(f"\n{len(missed)} of {len(goals)} goals MISSED: {'; '.join(missed)}")
    elif goals:
        print("\nEvery goal measured here was reached.")
