"""Horizontal bars with whiskers and goals, as SVG."""

import math
from dataclasses import dataclass, field
from html import escape

WIDTH = 920
GAP = 20
COLUMN = (WIDTH - 3 * GAP) // 2
LABELS = 112   # width of the names beside the bars
VALUES = 52    # width kept for the figure behind the longest bar
THICK = 12     # of a bar
HEAD = 58      # of a panel, above its bars
FOOT = 30

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f; }
  .sheet { fill: #ffffff; stroke: #d0d7de; } .heading { font-size: 17px; font-weight: 600; }
  .title { font-size: 14px; font-weight: 600; } .quiet, .tick { fill: #656d76; } .tick, .value { font-size: 11px; }
  .right { text-anchor: end; } .middle { text-anchor: middle; }
  .grid { stroke: #d8dee4; } .reference { stroke: #8c959f; stroke-dasharray: 3 3; }
  .ours { fill: #1f6feb; } .peer { fill: #8b97a3; } .floor { fill: #c4b08a; } .second { opacity: 0.5; }
  .whisker { stroke: #24292f; stroke-opacity: 0.65; fill: none; } .goal { stroke: #d1741f; stroke-width: 2.5; }
  .missed { fill: #c62f2f; font-weight: 600; } .reached { fill: #1a7f37; font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .sheet { fill: #0d1117; stroke: #30363d; } .quiet, .tick { fill: #9198a1; }
    .grid { stroke: #262c34; } .reference { stroke: #656d76; } .whisker { stroke: #e6edf3; }
    .ours { fill: #4c8dff; } .peer { fill: #6e7a86; } .floor { fill: #9c8a66; } .goal { stroke: #f0943f; }
    .missed { fill: #ff7b72; } .reached { fill: #56d364; }
  }
"""


@dataclass
class Bar:
    kind: str  # classes of STYLE
    value: float | None
    least: float | None = None
    greatest: float | None = None
    goal: float | None = None
    reached: bool | None = None
    digits: int = 2
    dot: bool = False  # where the scale does not begin at 0, a length would mislead


class Linear:
    def __init__(self, low, high):
        self.low, self.high = low, high

    def share(self, value):
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def ticks(self):
        """Round numbers, at most six."""
        rough = (self.high - self.low) / 5
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        first = math.ceil(self.low / step - 1e-9)
        digits = max(0, -math.floor(math.log10(step)))
        return [(number * step, f"{number * step:.{digits}f}")
                for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


class Logarithmic:
    def __init__(self, low, high):
        self.low, self.high = low, max(high, low * 10)

    def share(self, value):
        if value <= self.low:
            return 0.0
        return min(1.0, math.log(value / self.low) / math.log(self.high / self.low))

    def ticks(self):
        first = math.ceil(math.log10(self.low) - 1e-9)
        last = math.floor(math.log10(self.high) + 1e-9)
        return [(10.0 ** power, f"{10 ** power:,}") for power in range(max(0, first), last + 1)]


@dataclass
class Panel:
    title: str
    subtitle: str
    rows: list  # (name, [Bar, ...])
    scale: object
    reference: float | None = None
    verdict: tuple | None = None  # (text, reached), where it is not a bar's
    key: list = field(default_factory=list)  # (class, text)

    def height(self):
        return HEAD + sum(row_height(bars) for _, bars in self.rows) + FOOT + (18 if self.verdict else 0)

    def draw(self, left, top):
        parts = [text(left, top + 16, self.title, "title"), text(left, top + 34, self.subtitle, "quiet")]
        begin, end = left + LABELS, left + COLUMN - VALUES
        at = lambda value: begin + self.scale.share(value) * (end - begin)  # noqa: E731
        y, bottom = top + HEAD - 10, top + HEAD + sum(row_height(bars) for _, bars in self.rows) - 6
        for value, label in self.scale.ticks():
            parts += [line(at(value), y, at(value), bottom, "grid"), text(at(value), bottom + 14, label, "tick middle")]
        if self.reference is not None:
            parts.append(line(at(self.reference), y, at(self.reference), bottom, "reference"))
        y = top + HEAD - 4
        for name, bars in self.rows:
            height = row_height(bars)
            parts.append(text(begin - 8, y + (height - 8) / 2 + 4, name, "right"))
            for number, bar in enumerate(bars):
                parts += draw_bar(bar, begin, y + number * (THICK + 1), at)
            y += height
        x = begin
        for kind, label in self.key:
            parts += [box(x, top + 26, 10, 8, kind), text(x + 14, top + 34, label, "tick")]
            x += 24 + 6.2 * len(label)
        if self.verdict:
            label, reached = self.verdict
            parts.append(text(left, bottom + 34, f"{label}: {judged(reached)}", "reached" if reached else "missed"))
        return parts


def row_height(bars):
    return len(bars) * (THICK + 1) + 8


def judged(reached):
    return "reached" if reached else "missed"


def draw_bar(bar, begin, y, at):
    middle = y + THICK / 2
    if bar.value is None:
        mark = " missed" if bar.reached is False else ""
        return [text(begin + 4, middle + 4, "void" + (", missed" if mark else ""), "value" + mark)]
    right = at(bar.value)
    parts = []
    if bar.dot:
        parts.append(f'<circle cx="{right:.1f}" cy="{middle:.1f}" r="5" class="{bar.kind}"/>')
    else:
        parts.append(box(begin, y, max(1.0, right - begin), THICK, bar.kind))
    if bar.least is not None:
        low, high = at(bar.least), at(bar.greatest)
        parts.append(f'<path class="whisker" d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 3:.1f}v6'
                     f'M{high:.1f} {middle - 3:.1f}v6"/>')
        right = max(right, high)
    label, kind = f"{bar.value:,.{bar.digits}f}", "value"
    if bar.goal is not None:
        goal = at(bar.goal)
        parts.append(line(goal, y - 2, goal, y + THICK + 2, "goal"))
        right = max(right, goal)
        label, kind = f"{label} {judged(bar.reached)}", f"value {judged(bar.reached)}"
    parts.append(text(right + (9 if bar.dot else 6), middle + 4, label, kind))
    return parts


def text(x, y, content, kind):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(content)}</text>'


def line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def box(x, y, width, height, kind):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="1.5" class="{kind}"/>'


def legend(y):
    """What colours and marks mean; the same for all panels."""
    parts, x = [], GAP
    for kind, label in (("ours", "relayd"), ("peer", "a peer"), ("floor", "the least a relay can be"),
                        ("peer second", "pale: backend on a Unix socket")):
        parts += [box(x, y - 10, 14, THICK, kind), text(x + 20, y, label, "quiet")]
        x += 42 + 6.4 * len(label)
    parts += [line(x, y - 11, x, y + 3, "goal"), text(x + 8, y, "goal: end left of it", "quiet")]
    x += 142
    parts += [f'<path class="whisker" d="M{x} {y - 4}h22M{x} {y - 7}v6M{x + 22} {y - 7}v6"/>',
              text(x + 30, y, "least to greatest", "quiet")]
    return parts


def sheet(heading, panels):
    """The text of an SVG with the panels in two columns, row by row."""
    parts, y = [text(GAP, 34, heading, "heading"), *legend(58)], 78
    for first in range(0, len(panels), 2):
        pair = panels[first:first + 2]
        for column, panel in enumerate(pair):
            parts += panel.draw(GAP + column * (COLUMN + GAP), y)
        y += max(panel.height() for panel in pair) + 8
    body = "\n".join(parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img">\n'
            f"<title>{escape(heading)}</title>\n<style>{STYLE}</style>\n"
            f'<rect class="sheet" x="0.5" y="0.5" width="{WIDTH - 1}" height="{y - 1}" rx="6"/>\n{body}\n</svg>\n')
