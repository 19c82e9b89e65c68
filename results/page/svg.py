"""Charts as inline SVG. Colours and dashes are classes of style.css, so that they follow the reader's scheme.

A chart is drawn 340 units wide, the width of a phone, so that its letters keep their size there.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from results.page.markup import esc, short

WIDTH, HEIGHT = 340.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 12.0, 38.0
SERIES, RAMP, MARKERS = 8, 7, "os^dvx+p"
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """From values in [low, high] to places from `start` to `end`; `log` where equal steps are equal ratios."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; what lies outside is put at the edge."""
        value = min(max(value, self.low), self.high)
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values between low and high."""
        if self.log:
            low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            found = [float(f"{m}e{e}") for e in range(low, high + 1) for m in (1, 3)]
            return [value for value in found if self.low <= value <= self.high] or [self.low, self.high]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        size = 10.0 ** math.floor(math.log10(span / most))
        step = next(s * size for s in (1, 2, 5, 10) if span / (s * size) <= most)
        first = math.ceil(self.low / step - 1e-9)
        return [round(place * step, 12) for place in range(first, math.floor(self.high / step + 1e-9) + 1)]


def bounds(values: Iterable[float], fraction: bool = False) -> tuple[float, float]:
    """A range that holds the values with some air; of fractions never beyond 0 and 1."""
    found = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(found), max(found)
    air = 0.06 * (high - low) or max(abs(high) * 0.05, 0.05)
    low, high = low - air, high + air
    return (max(low, 0.0), min(high, 1.0)) if fraction and low < 1 and high > 0 else (low, high)


def digits(value: float) -> str:
    """A number as an axis shows it."""
    return f"{value:.4g}".replace("-", "−")


def at(value: float) -> str:
    """A place in the drawing, to a tenth of a unit."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


@dataclass
class Chart:
    """One drawing: what it is called, what it says in words, and its marks in the order in which they are painted."""

    title: str
    words: str
    width: float = WIDTH
    height: float = HEIGHT
    x: Scale = Scale(0, 1, LEFT, WIDTH - RIGHT)
    y: Scale = Scale(0, 1, HEIGHT - BOTTOM, TOP)
    parts: list[str] = field(default_factory=list)

    def spanned(self, x: tuple[float, float], y: tuple[float, float]) -> "Chart":
        """The chart with these ranges."""
        self.x = Scale(*x, LEFT, self.width - RIGHT)
        self.y = Scale(*y, self.height - BOTTOM, TOP)
        return self

    def axes(self, x_label: str, y_label: str, whole: bool = False, ticks: Sequence[float] = ()) -> "Chart":
        """Draw both axes with their ticks; `whole` numbers only along x, or these `ticks`."""
        for value in self.y.ticks():
            self.rule(self.x.start, self.y(value), self.x.end, self.y(value), "grid")
            self.text(self.x.start - 5, self.y(value) + 4, digits(value), "tick", "end")
        for value in ticks or self.x.ticks():
            if not whole or value == int(value):
                self.text(self.x(value), self.y.start + 14, digits(value), "tick", "middle")
                self.rule(self.x(value), self.y.start, self.x(value), self.y.start + 3, "axis")
        self.rule(self.x.start, self.y.start, self.x.end, self.y.start, "axis")
        self.text((self.x.start + self.x.end) / 2, self.height - 6, x_label, "label", "middle")
        middle = (self.y.start + self.y.end) / 2
        self.parts.append(
            f'<text class="label" text-anchor="middle" transform="translate(11 {at(middle)}) rotate(-90)">{esc(y_label)}</text>'
        )
        return self

    def rule(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line between two places."""
        self.parts.append(f'<path class="{kind}" d="M{at(x1)} {at(y1)}L{at(x2)} {at(y2)}"/>')

    def text(self, x: float, y: float, value: Any, kind: str = "tick", anchor: str = "start", most: int = 60) -> None:
        """Text at a place."""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(f'<text class="{kind}" x="{at(x)}" y="{at(y)}"{where}>{short(value, most)}</text>')

    def path(self, points: Points) -> str:
        """The line through values, as the attribute `d`."""
        return "M" + "L".join(f"{at(self.x(x))} {at(self.y(y))}" for x, y in points)

    def line(self, points: Points, kind: str, hover: str = "") -> None:
        """A line through values; a single one is a dot."""
        if len(points) == 1:
            self.dot(*points[0], kind.replace("line", "dot"), hover=hover)
        elif points:
            self.parts.append(_hovered(f'<path class="{kind}" d="{self.path(points)}"', hover, "path"))

    def area(self, low: Points, high: Points, kind: str) -> None:
        """What lies between two lines."""
        if len(low) > 1:
            self.parts.append(f'<path class="{kind}" d="{self.path([*low, *reversed(high)])}Z"/>')

    def dot(self, x: float, y: float, kind: str, marker: str = "o", hover: str = "") -> None:
        """A marker at a value."""
        drawn = f'<path class="{kind}" d="M{at(self.x(x))} {at(self.y(y))}{marker_path(marker)}"'
        self.parts.append(_hovered(drawn, hover, "path"))

    def bar(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A rectangle at a place."""
        self.parts.append(
            f'<rect class="{kind}" x="{at(x)}" y="{at(y)}" width="{at(max(width, 0))}" height="{at(height)}"/>'
        )

    def svg(self, heading: bool = False, natural: bool = False) -> str:
        """The drawing; with its title over it, if asked for; `natural`: as wide as it is drawn, not as there is room."""
        size = f' width="{at(self.width)}" height="{at(self.height)}" class="natural"' if natural else ""
        drawn = (
            f'<svg viewBox="0 0 {at(self.width)} {at(self.height)}" role="img"{size}><title>{esc(self.title)}</title>'
            f"<desc>{esc(self.words)}</desc>\n{chr(10).join(self.parts)}</svg>\n"
        )
        return f'<div class="panel"><h3>{esc(self.title)}</h3>\n{drawn}</div>\n' if heading else drawn


def marker_path(marker: str, size: float = 4.0) -> str:
    """A marker as moves relative to its middle."""
    s = at(size)
    return {
        "o": f"m-{s} 0a{s} {s} 0 1 0 {at(2 * size)} 0a{s} {s} 0 1 0 -{at(2 * size)} 0z",
        "s": f"m-{s} -{s}h{at(2 * size)}v{at(2 * size)}h-{at(2 * size)}z",
        "^": f"m0 -{s}l{s} {at(2 * size)}h-{at(2 * size)}z",
        "v": f"m0 {s}l{s} -{at(2 * size)}h-{at(2 * size)}z",
        "d": f"m0 -{s}l{s} {s}l-{s} {s}l-{s} -{s}z",
        "x": f"m-{s} -{s}l{at(2 * size)} {at(2 * size)}m0 -{at(2 * size)}l-{at(2 * size)} {at(2 * size)}",
        "+": f"m-{s} 0h{at(2 * size)}m-{s} -{s}v{at(2 * size)}",
        "p": f"m-{s} {at(size / 2)}l{s} -{at(1.5 * size)}l{s} {at(1.5 * size)}z",
    }[marker]


def series(place: int) -> str:
    """The classes of the series at a place: its colour and its dashes."""
    return f"s{place % SERIES}"


def ramp(place: int, places: int) -> str:
    """The classes of one of `places` series in an order, such as slices: a shade, and dashes that tell neighbours apart."""
    return f"q{round(place * (RAMP - 1) / max(1, places - 1))} d{place % 4}"


def legend(entries: Sequence[tuple[str, str, str]]) -> str:
    """The key of a figure: (classes, what is drawn: line or a marker, name) of each entry."""
    items = []
    for kind, drawn, name in entries:
        shapes = {"line": 'class="line KIND" d="M1 7H27"', "area": 'class="band KIND" d="M1 1H27V13H1Z"'}
        shape = shapes.get(drawn) or f'class="dot KIND" d="M14 7{marker_path(drawn)}"'
        items.append(
            f'<li><svg viewBox="0 0 28 14" aria-hidden="true"><path {shape.replace("KIND", kind)}/></svg>{esc(name)}</li>'
        )
    return f'<ul class="legend">{"".join(items)}</ul>\n'


def _hovered(drawn: str, hover: str, name: str) -> str:
    return f"{drawn}><title>{esc(hover)}</title></{name}>" if hover else f"{drawn}/>"
