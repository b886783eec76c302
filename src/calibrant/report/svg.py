"""SVG: a chart for paper, and for a browser without JavaScript; its colours are those of the page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from calibrant.report.charts import Chart, Series
from calibrant.report.words import RAISED, number

F8 = NDArray[np.float64]
WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BELOW = 78, 14, 12, 46
COLOURS, MARKS = 7, 3
"""Colours of curves, then the same with another mark; their CSS classes are ``c0`` and ``m0`` on."""
MARGIN = 0.04
DENSE = 4000
"""Letters of the dots of a curve from which on they are small."""
KEY, LETTER = 18, 6.6
"""Pixels of a line of the key, and of a letter in it."""


@dataclass(frozen=True)
class Axis:
    """From values to pixels.

    Attributes
    ----------
    low, high : float
        Ends, in units of the values.
    start, end : float
        Pixels of these ends.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, values: F8) -> F8:
        """Pixels of values."""
        low, high = (math.log10(one) for one in (self.low, self.high)) if self.log else (self.low, self.high)
        scaled = np.log10(values) if self.log else np.asarray(values, np.float64)
        return self.start + (scaled - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values between the ends; of a logarithmic axis decades, or their parts if it has few."""
        if not self.log:
            return _even(self.low, self.high)
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        if last - first < 2:
            parts = [n * 10.0**p for p in range(first - 1, last + 1) for n in (1, 2, 5)]
            found = [one for one in parts if self.low <= one <= self.high]
            return found if len(found) > 2 else _even(self.low, self.high)
        step = max(1, (last - first) // 6)
        return [10.0**p for p in range(first, last + 1, step)]


def _even(low: float, high: float, about: int = 6) -> list[float]:
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(n * power for n in (1, 2, 5, 10) if n * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def axes(chart: Chart) -> tuple[Axis, Axis]:
    """The axes of a chart, a little longer than its values."""
    ends = (LEFT, WIDTH - RIGHT), (HEIGHT - BELOW, TOP)
    x, y = (
        Axis(*_wider(*chart.reach(name), log), *end, log)
        for name, log, end in zip("xy", (chart.xlog, chart.ylog), ends, strict=True)
    )
    return x, y


def _wider(low: float, high: float, log: bool) -> tuple[float, float]:
    if log:
        factor = max((high / low) ** MARGIN, 1.1)
        return low / factor, high * factor
    room = MARGIN * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def svg(chart: Chart) -> Markup:
    """The chart as an ``svg`` element; what is drawn stands in its title."""
    x, y = axes(chart)
    names = chart.names
    rows = list(_key_rows(names))
    tall = HEIGHT + KEY * len(rows)
    body = [
        *_grid(chart, x, y),
        *(_level(value, word, y) for value, word in chart.levels),
        *(part for one in chart.series for part in _curve(one, names.index(one.name), x, y)),
        *_key(rows, names),
    ]
    return Markup('<svg class="chart-svg" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, tall, chart.words, Markup("").join(body)
    )


def _grid(chart: Chart, x: Axis, y: Axis) -> Iterator[Markup]:
    low, high = y.start, y.end
    for tick, at in zip(x.ticks(), x.at(np.array(x.ticks())), strict=True):
        yield Markup('<path class="grid" d="M{0:.1f} {1}V{2}"/>').format(at, low, high)
        yield _text(at, low + 16, _tick(tick, x, chart.time), "middle")
    for tick, at in zip(y.ticks(), y.at(np.array(y.ticks())), strict=True):
        yield Markup('<path class="grid" d="M{0} {1:.1f}H{2}"/>').format(x.start, at, x.end)
        yield _text(x.start - 6, at + 4, _tick(tick, y, False), "end")
    yield Markup('<path class="axis" d="M{0} {1}V{2}H{3}"/>').format(x.start, high, low, x.end)
    yield _text((x.start + x.end) / 2, low + 36, chart.xlabel, "middle", "label")
    yield Markup(
        '<text class="label" text-anchor="middle" transform="translate(14 {}) rotate(-90)">{}</text>'
    ).format((low + high) / 2, chart.ylabel)


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "number") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, text
    )


def _tick(value: float, axis: Axis, time: bool) -> str:
    if time:
        when = datetime.fromtimestamp(value, UTC)
        return when.strftime("%Y-%m-%d" if axis.high - axis.low > 2 * 86400 else "%m-%d %H:%M")
    power = round(math.log10(value)) if axis.log and value > 0 else 0
    if axis.log and math.isclose(value, 10.0**power) and not -3 <= power <= 5:
        return f"10{str(power).translate(RAISED)}"
    clean = 0.0 if abs(value) < 1e-12 * max(abs(axis.low), abs(axis.high)) else value
    return number(float(f"{clean:.6g}"), 6)


def _level(value: float, word: str, y: Axis) -> Markup:
    at = float(y.at(np.array([value]))[0])
    line = Markup('<path class="level" d="M{0} {1:.1f}H{2}"/>').format(LEFT, at, WIDTH - RIGHT)
    return line + _text(WIDTH - RIGHT - 4, at - 4, word, "end")


def _curve(one: Series, index: int, x: Axis, y: Axis) -> Iterator[Markup]:
    across, up = x.at(one.x), y.at(one.y)
    look = f"c{index % COLOURS} m{index // COLOURS % MARKS}"
    if one.sigma is not None:
        yield Markup('<path class="bars {}" d="{}"/>').format(look, "".join(_bars(one, across, y)))
    if one.line:
        points = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(across, up, strict=True))
        yield Markup('<path class="curve {}" d="M{}"/>').format(look, points)
    if not one.line or len(one.x) <= 40:
        dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(across, up, strict=True))
        yield Markup('<path class="{} {}" d="{}"/>').format(
            "dots" if len(dots) < DENSE else "specks", look, dots
        )


def _bars(one: Series, across: F8, y: Axis) -> Iterator[str]:
    assert one.sigma is not None
    for at, value, error in zip(across, one.y, one.sigma, strict=True):
        low, high = max(value - error, y.low), min(value + error, y.high)
        if math.isfinite(error) and low < high:
            ends = y.at(np.array([low, high]))
            if abs(ends[1] - ends[0]) > 2:
                yield f"M{at:.1f} {ends[0]:.1f}V{ends[1]:.1f}"


def _key_rows(names: list[str]) -> Iterator[list[tuple[float, str]]]:
    """Names in lines: each with where it begins; a single curve needs none."""
    row: list[tuple[float, str]] = []
    at = float(LEFT)
    for name in names if len(names) > 1 else []:
        wide = 26 + LETTER * len(name)
        if row and at + wide > WIDTH - RIGHT:
            yield row
            row, at = [], float(LEFT)
        row.append((at, name))
        at += wide
    if row:
        yield row


def _key(rows: list[list[tuple[float, str]]], names: list[str]) -> Iterator[Markup]:
    for line, row in enumerate(rows):
        for at, name in row:
            index, top = names.index(name), HEIGHT + KEY * line + 8
            look = f"c{index % COLOURS} m{index // COLOURS % MARKS}"
            yield Markup('<path class="dots {}" d="M{:.1f} {}h0"/>').format(look, at + 6, top - 4)
            yield _text(at + 14, top, name)
