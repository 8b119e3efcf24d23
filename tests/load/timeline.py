"""A picture of the generations over time, from relayd's events: a row for each, a column for each slice of time."""

STARTING, SERVING, DRAINING, HOLDING, UPGRADE = "░", "█", "▒", "·", "▲"
LEGEND = f"{STARTING} starting   {SERVING} serving   {DRAINING} draining   {HOLDING} clients are held"
UPGRADES_LEGEND = f"   {UPGRADE} relayd upgraded"
# What an event of a generation makes of it; None: it is gone.
BECOMES = {
    "generation_starting": STARTING,
    "switched": SERVING,
    "released": SERVING,
    "draining": DRAINING,
    "cut": DRAINING,
    "generation_stopped": None,
}
LABEL = 5


class Timeline:
    def __init__(self, events):
        self.events = events
        self.begin = events[0]["unix_ms"]
        self.end = events[-1]["unix_ms"]
        self.spans = {}  # generation: [(from, to, sign)]
        self.holds = []  # (from, to)
        self.upgrades = [event["unix_ms"] for event in events if event["type"] == "upgraded"]
        self._read()

    def _read(self):
        current = {}  # generation: (since, sign)
        holding_since = None
        for event in self.events:
            now, number, kind = event["unix_ms"], event.get("generation") or 0, event["type"]
            if kind == "holding":
                holding_since = now
            elif kind in ("released", "switched") and holding_since is not None:
                self.holds.append((holding_since, now))
                holding_since = None
            if kind not in BECOMES or number == 0 or event.get("instance") is not None:
                continue
            if number in current:
                since, sign = current.pop(number)
                self.spans.setdefault(number, []).append((since, now, sign))
            if BECOMES[kind] is not None:
                current[number] = (now, BECOMES[kind])
        for number, (since, sign) in current.items():
            self.spans.setdefault(number, []).append((since, self.end, sign))

    def picture(self, width):
        columns = max(20, width - LABEL - 1)
        slice_ms = max(1, (self.end - self.begin) / columns)
        rows = [" " * LABEL + self._axis(columns, slice_ms)]
        for number in sorted(self.spans):
            rows.append(f"{number:>{LABEL - 1}} " + self._row(self.spans[number], columns, slice_ms))
        if self.holds:
            rows.append("hold ".rjust(LABEL) + self._row([(a, b, HOLDING) for a, b in self.holds], columns, slice_ms))
        if self.upgrades:
            rows.append(" " * LABEL + self._row([(at, at, UPGRADE) for at in self.upgrades], columns, slice_ms))
        legend = LEGEND + (UPGRADES_LEGEND if self.upgrades else "")
        return "\n".join(row.rstrip() for row in rows) + "\n" + " " * LABEL + legend

    def _row(self, spans, columns, slice_ms):
        """Each span gets at least one column; later states win a column, except that serving is never hidden."""
        cells = [" "] * columns
        for begin, end, sign in spans:
            first = min(columns - 1, int((begin - self.begin) / slice_ms))
            last = min(columns - 1, max(first, int((end - self.begin) / slice_ms) - 1))
            for column in range(first, last + 1):
                if not (cells[column] == SERVING and sign == DRAINING and first == last):
                    cells[column] = sign
        return "".join(cells)

    def _axis(self, columns, slice_ms):
        cells = [" "] * columns
        total = (self.end - self.begin) / 1000
        step = next(s for s in (1, 2, 5, 10, 20, 60, 120, 600, 3600) if total / s <= 8 or s == 3600)
        second = 0
        while second <= total:
            text = f"|{second}s"
            column = int(second * 1000 / slice_ms)
            if column + len(text) <= columns:
                cells[column : column + len(text)] = text
            second += step
        return "".join(cells)
