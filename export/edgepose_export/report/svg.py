"""Charts as inline SVG: no script, and all colors from the page's style sheet, so that they follow light, dark and print.

A chart is drawn 360 units wide, about the width of a phone; where there is room, several stand side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

WIDTH, HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 26, 40
SERIES = 6
"""Number of colors; further series begin again with the first."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a chart.

    Attributes:
        low, high: ends.
        label: what it shows, with the unit.
        ticks: positions and texts; a line break begins a second line.
    """

    low: float
    high: float
    label: str
    ticks: Sequence[tuple[float, str]]

    @classmethod
    def share(cls, label: str, high: float = 1.0) -> "Axis":
        """Return an axis of shares from 0 to `high`."""
        return cls(0, high, label, [(value / 5, f"{value / 5:g}") for value in range(6)])

    @classmethod
    def to(cls, highest: float, label: str) -> "Axis":
        """Return an axis from 0 with four to six round ticks, which holds `highest`."""
        step = nice_step(highest)
        count = int(np.ceil(max(highest, step) / step - 1e-9))
        return cls(0, step * count, label, [(step * index, f"{step * index:g}") for index in range(count + 1)])

    @classmethod
    def of(cls, names: Sequence[str], label: str) -> "Axis":
        """Return an axis of names, at 0, 1, 2, …"""
        return cls(-0.3, len(names) - 0.7, label, list(enumerate(names)))


def nice_step(highest: float) -> float:
    """Return a round distance of ticks, 1, 2 or 5 times a power of ten, that divides 0 to `highest` into at most six parts."""
    rough = max(highest, 1e-9) / 5
    power = 10 ** np.floor(np.log10(rough))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999))


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a chart, with a color by its number; None interrupts it.

    Attributes:
        name: for tooltips.
        number: of its color.
        points: positions.
        radii: radius of a dot at each point; empty draws the line alone.
    """

    name: str
    number: int
    points: Sequence[tuple[float, float | None]]
    radii: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """A dashed line that the reader compares with, and its text: at an `x`, at a `y`, or else the diagonal."""

    text: str
    x: float | None = None
    y: float | None = None


@dataclass(slots=True)
class _Drawing:
    """The parts of a chart, and the scales of its axes."""

    x: Axis
    y: Axis
    left: float = _LEFT
    height: float = HEIGHT
    bottom: float = _BOTTOM
    parts: list[str] = field(default_factory=list)

    def to_x(self, value: float) -> float:
        return self.left + (value - self.x.low) / (self.x.high - self.x.low) * (WIDTH - self.left - _RIGHT)

    def to_y(self, value: float) -> float:
        return self.height - self.bottom - (value - self.y.low) / (self.y.high - self.y.low) * (self.height - self.bottom - _TOP)

    def text(self, x: float, y: float, text: str, kind: str, anchor: str = "middle") -> None:
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def grid(self) -> None:
        """Draw ticks, grid and labels of both axes."""
        end, base = WIDTH - _RIGHT, self.height - self.bottom
        for value, text in self.y.ticks:
            self.line(self.left, self.to_y(value), end, self.to_y(value), "grid")
            self.text(self.left - 6, self.to_y(value) + 3.5, text, "tick", "end")
        self.x_axis(base)
        self.text(4, 13, self.y.label, "axis", "start")

    def x_axis(self, base: float) -> None:
        """Draw ticks and label of the lower axis."""
        for value, text in self.x.ticks:
            for row, line in enumerate(text.split("\n")):
                self.text(self.to_x(value), base + 14 + 12 * row, line, "tick")
        self.line(self.left, base, WIDTH - _RIGHT, base, "base")
        self.text(WIDTH - _RIGHT, self.height - 4, self.x.label, "axis", "end")

    def mark(self, mark: Mark) -> None:
        """Draw a line to compare with."""
        base, end = self.height - self.bottom, WIDTH - _RIGHT
        if mark.x is not None:
            self.line(self.to_x(mark.x), _TOP, self.to_x(mark.x), base, "mark")
            near_end = self.to_x(mark.x) > WIDTH * 0.6
            self.text(self.to_x(mark.x) + (-4 if near_end else 4), _TOP + 9, mark.text, "note", "end" if near_end else "start")
        elif mark.y is not None:
            self.line(self.left, self.to_y(mark.y), end, self.to_y(mark.y), "mark")
            self.text(end, self.to_y(mark.y) - 4, mark.text, "note", "end")
        else:
            self.line(self.to_x(0), self.to_y(0), self.to_x(1), self.to_y(1), "mark")
            self.text(self.to_x(0.97), self.to_y(1) + 26, mark.text, "note", "end")

    def draw(self, series: Series) -> None:
        """Draw the line and the dots of a series."""
        color = f"c{series.number % SERIES}"
        runs: list[list[str]] = [[]]
        for x, y in series.points:
            if y is None:
                runs.append([])
            else:
                runs[-1].append(f"{self.to_x(x):.1f},{self.to_y(min(max(y, self.y.low), self.y.high)):.1f}")
        self.parts += [f'<polyline class="line {color}" points="{" ".join(run)}"/>' for run in runs if len(run) > 1]
        for (x, y), radius in zip(series.points, series.radii, strict=False):
            if y is not None:
                self.dot(x, y, radius, color, f"{series.name}: {y:.3g}")

    def dot(self, x: float, y: float, radius: float, kind: str, tip: str) -> None:
        """Draw a dot with a tooltip."""
        at = f'cx="{self.to_x(x):.1f}" cy="{self.to_y(min(max(y, self.y.low), self.y.high)):.1f}"'
        self.parts.append(f'<circle class="dot {kind}" {at} r="{radius:.1f}"><title>{escape(tip)}</title></circle>')

    def svg(self, title: str) -> str:
        """Return the chart."""
        size = f'viewBox="0 0 {WIDTH} {self.height:g}"'
        return f'<svg {size} role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(self.parts)}</svg>'


def line_chart(title: str, x: Axis, y: Axis, series: Sequence[Series], *, marks: Sequence[Mark] = (), height: float = HEIGHT) -> str:
    """Return lines over two axes.

    Args:
        title: for those who cannot see it.
        x, y: axes.
        series: lines, the first on top.
        marks: dashed lines to compare with.
        height: of the chart.
    """
    bottom = _BOTTOM + (12 if any("\n" in text for _, text in x.ticks) else 0)
    drawing = _Drawing(x, y, height=height, bottom=bottom)
    drawing.grid()
    for mark in marks:
        drawing.mark(mark)
    for entry in reversed(series):
        drawing.draw(entry)
    return drawing.svg(title)


def row_chart(title: str, rows: Sequence[str], x: Axis, series: Sequence[Series], *, marks: Sequence[Mark] = ()) -> str:
    """Return a row for each name, with a dot for each series at its value; points are (row, value).

    Args:
        title: for those who cannot see it.
        rows: names, from the top.
        x: axis of the values.
        series: one value a row.
        marks: dashed lines at an `x`.
    """
    height = _TOP + 17 * len(rows) + _BOTTOM
    drawing = _Drawing(x, Axis(len(rows), 0, "", ()), left=96, height=height)
    for tick, _ in x.ticks:
        drawing.line(drawing.to_x(tick), _TOP, drawing.to_x(tick), height - _BOTTOM, "grid")
    drawing.x_axis(height - _BOTTOM)
    for mark in marks:
        drawing.mark(mark)
    for number, name in enumerate(rows):
        drawing.text(90, drawing.to_y(number + 0.5) + 3.5, name, "tick", "end")
        values = [value for entry in series for row, value in entry.points if row == number and value is not None]
        if values:
            drawing.line(
                drawing.to_x(min(values)), drawing.to_y(number + 0.5), drawing.to_x(max(values)), drawing.to_y(number + 0.5), "span"
            )
    for entry in reversed(series):
        for row, value in entry.points:
            if value is not None:
                at = min(max(value, x.low), x.high)
                center = f'cx="{drawing.to_x(at):.1f}" cy="{drawing.to_y(row + 0.5):.1f}"'
                tip = escape(f"{entry.name}, {rows[int(row)]}: {value:.3g}")
                drawing.parts.append(f'<circle class="dot c{entry.number % SERIES}" {center} r="4"><title>{tip}</title></circle>')
    return drawing.svg(title)


@dataclass(frozen=True, slots=True)
class StackedBar:
    """A bar of parts.

    Attributes:
        name: above the bar.
        note: below the bar.
        parts: value of each part, by the number of its color.
        ticks: values of the whole that are marked, such as percentiles.
    """

    name: str
    note: str
    parts: Sequence[tuple[int, float]]
    ticks: Sequence[float] = ()


def bar_chart(title: str, bars: Sequence[StackedBar], x: Axis) -> str:
    """Return horizontal bars, one below the other.

    Args:
        title: for those who cannot see it.
        bars: from the top.
        x: axis of their lengths.
    """
    row = 58
    height = 8 + row * len(bars) + _BOTTOM
    drawing = _Drawing(x, Axis(0, 1, "", ()), left=8, height=height)
    base = height - _BOTTOM
    for value, _ in x.ticks:
        drawing.line(drawing.to_x(value), 8, drawing.to_x(value), base, "grid")
    drawing.x_axis(base)
    for number, bar in enumerate(bars):
        top = 8 + row * number
        drawing.text(8, top + 13, bar.name, "name", "start")
        drawing.text(8, top + 48, bar.note, "tick", "start")
        start = 0.0
        for color, value in bar.parts:
            left, right = drawing.to_x(min(start, x.high)), drawing.to_x(min(start + value, x.high))
            drawing.parts.append(
                f'<rect class="part p{color}" x="{left:.1f}" y="{top + 19}" width="{max(right - left, 0):.1f}" height="16"/>'
            )
            start += value
        for value in bar.ticks:
            if value <= x.high:
                drawing.line(drawing.to_x(value), top + 17, drawing.to_x(value), top + 37, "whisker")
    return drawing.svg(title)


def stem_chart(
    title: str, x_label: str, y: Axis, stems: Sequence[tuple[float, str, bool]], number: int, *, marks: Sequence[Mark] = ()
) -> str:
    """Return a stem for each value in order.

    Args:
        title: for those who cannot see it.
        x_label: what is in order.
        y: axis of the values.
        stems: value, tooltip, and whether its dot is filled.
        number: of the color.
        marks: dashed lines to compare with.
    """
    last = max(len(stems), 2)
    step = int(nice_step(last))
    ticks = [(value, f"{value}") for value in range(0, last + 1, max(step, 1))]
    drawing = _Drawing(Axis(0, last + 1, x_label, ticks), y)
    drawing.grid()
    for mark in marks:
        drawing.mark(mark)
    for index, (value, tip, filled) in enumerate(stems, 1):
        shown = min(max(value, y.low), y.high)
        color = f"c{number % SERIES}"
        drawing.line(drawing.to_x(index), drawing.to_y(y.low), drawing.to_x(index), drawing.to_y(shown), f"stem {color}")
        drawing.dot(index, shown, 2.2, color if filled else f"{color} hollow", tip)
    return drawing.svg(title)
