"""Series: levels against frame number, time and exposure time, and the read noise of every pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.product import Product, Quantity
from calibrant.report.plots.canvas import (
    CURVES,
    FAINT,
    KEY_ROW,
    TEXT,
    Box,
    dress,
    heading,
    heading_height,
    key_above,
    page,
    wrapped,
)
from calibrant.report.plots.drawing import Picture, draw, image_size
from calibrant.report.plots.histograms import bin_edges
from calibrant.report.plots.look import Limits, Look
from calibrant.report.plots.panels import product_title, quantity_text, shown_plane
from calibrant.report.plots.pixels import label

WIDE, TALL = 6.6, 3.3
LEFT, BELOW = 0.85, 0.55
MINUTE = 60_000_000
"""Microseconds."""
ONE_TIME = 0.01
"""Dark times that differ by less than this fraction are one time: a line against them would say nothing."""


@dataclass(frozen=True)
class Line:
    """A straight line to be drawn: ``level at x = 0`` and slope, in the units of the axes, and what it is."""

    level: float
    slope: float
    text: str = ""


def trend(
    x: ArrayLike,
    y: ArrayLike,
    *,
    xlabel: str,
    ylabel: str,
    sigma: ArrayLike | None = None,
    line: Line | None = None,
    title: str = "",
    facts: tuple[str, ...] = (),
) -> Figure:
    """Points against something that grows, with a line that was measured elsewhere.

    Parameters
    ----------
    x, y : array
        1-D, of one length; points that are not finite are left out.
    xlabel, ylabel : str
        With units.
    sigma : array, optional
        Standard uncertainty of y.
    line : Line, optional
    title : str
    facts : tuple of str
        Beneath the title.

    Raises
    ------
    ShapeError
        If the lengths differ.
    SelectionError
        If there is no finite point.
    """
    across, up = np.asarray(x, np.float64), np.asarray(y, np.float64)
    bars = None if sigma is None else np.asarray(sigma, np.float64)
    if across.ndim != 1 or across.shape != up.shape or (bars is not None and bars.shape != up.shape):
        raise ShapeError(
            "points need as many x as y", where=title or None, expected=across.shape, got=up.shape
        )
    use = np.isfinite(across) & np.isfinite(up)
    if not use.any():
        raise SelectionError("there is no point to draw", where=title or None)
    lines = wrapped(facts, WIDE + 0.6, TEXT)
    above = heading_height(title, lines) + 0.12 + (KEY_ROW if line is not None and line.text else 0.0)
    figure = page(LEFT + WIDE + 0.25, BELOW + TALL + above)
    axes = figure.add_axes(Box(LEFT, BELOW, WIDE, TALL).on(figure))
    dress(axes, xlabel, ylabel, grid=True)
    axes.errorbar(
        across[use], up[use], None if bars is None else bars[use],
        fmt="o", markersize=5, color=CURVES[0], ecolor=CURVES[0], elinewidth=1, capsize=2,
    )  # fmt: skip
    if line is not None:
        _draw_line(axes, across[use], line)
    axes.ticklabel_format(useOffset=False)
    axes.margins(x=0.04, y=0.12)
    heading(figure, Box(0.15, 0.0, WIDE + 0.7, BELOW + TALL + above - 0.08), title, lines)
    return figure


def _draw_line(axes: Axes, x: NDArray[np.float64], line: Line) -> None:
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, line.level + line.slope * ends, color=CURVES[1], linewidth=1.4, label=line.text)
    if line.text:
        key_above(axes)


def drift(product: Product, *, against: str = "number") -> Figure:
    """Level of each frame of a series, as the bias has it in its table ``frames``.

    Parameters
    ----------
    product : Product
        With the table ``frames`` and its column ``level``; the quantity ``drift``, per frame, gives the line.
    against : str
        ``number`` of the frame, or ``time`` since the first one.

    Raises
    ------
    SelectionError
        If the product has no such table, or times are unknown.
    OptionError
        For another choice of `against`.
    """
    if against not in ("number", "time"):
        raise OptionError("frames are drawn against number or time", where="against", got=repr(against))
    level = _column(product, "level")
    x, xlabel = np.arange(level.size, dtype=np.float64), "frame"
    slope = _find(product, "drift")
    line = None
    if against == "time":
        start = _column(product, "start")
        if np.any(start < 0):
            raise SelectionError("the times of some frames are unknown", where=product.kind)
        x, xlabel = (start - start.min()) / MINUTE, "time since the first frame [min]"
    elif slope is not None:
        line = Line(float(level.mean()) - slope.value * (level.size - 1) / 2, slope.value, _per_frame(slope))
    figure = trend(
        x,
        level,
        xlabel=xlabel,
        ylabel=label("level", _unit(product, "level")),
        line=line,
        title=f"{product_title(product)}: level of each frame",
        facts=_facts(product, ("level", "drift_range", "first_offset", "read_noise")),
    )
    if against == "number":
        figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def dark_line(product: Product) -> Figure:
    """Level of each dark against its dark time, with the line through them; of one time, frame by frame.

    Parameters
    ----------
    product : Product
        Kind ``dark``, with the table ``frames`` (``time`` in seconds, ``median`` in adu, less the bias if one
        was given). The line is that of the quantities ``slope`` and ``intercept``; with one time only, the
        level that ``rate`` means for it.

    Raises
    ------
    SelectionError
        If the product has no such table.
    """
    time, level = _column(product, "time"), _column(product, "median")
    single = bool(np.ptp(time) <= ONE_TIME * np.max(time)) if time.size else False
    figure = trend(
        np.arange(level.size) if single else time,
        level,
        xlabel="frame" if single else "dark time [s]",
        ylabel=label("median level", _unit(product, "median")),
        line=_dark_levels(product, float(np.mean(time)) if single else None),
        title=f"{product_title(product)}: level " + ("of each frame" if single else "against dark time"),
        facts=(
            *((f"dark time {np.mean(time):g} s",) if single else ()),
            *_facts(product, ("rate", "intercept", "nonlinearity", "hot_fraction", "cosmic_ray_rate")),
        ),
    )
    if single:
        figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    else:
        figure.axes[0].set_xlim(left=0.0)
    return figure


def _dark_levels(product: Product, time: float | None) -> Line | None:
    """The measured line through the levels: against the dark time, or the level at one `time`."""
    slope, start, rate = (_find(product, name) for name in ("slope", "intercept", "rate"))
    if time is None and slope is not None and start is not None:
        return Line(start.value, slope.value, quantity_text(slope))
    if rate is None or product.keys.get("includes_bias"):
        return None
    if time is None:
        return Line(0.0, rate.value, quantity_text(rate))
    return Line(rate.value * time, 0.0, quantity_text(rate))


def noise_map(product: Product, *, limits: Limits = "percentile") -> Figure:
    """Read noise of every pixel as an image, and their histogram beside it.

    Parameters
    ----------
    product : Product
        With the plane ``read_noise``; the quantity of this name is marked in the histogram.
    limits : str or (float, float)
        Of the image, as of `image`.

    Raises
    ------
    SelectionError
        If there is no such plane.
    """
    if "read_noise" not in product.planes:
        raise SelectionError(
            f"the {product.kind} has no map of its read noise", expected="a plane read_noise",
            got=", ".join(product.planes) or "no planes", do="make the bias of two frames or more",
        )  # fmt: skip
    what = shown_plane(product, "read_noise")
    picture = Picture(what, Look(limits), quantity="read noise")
    width, height = image_size(picture.shape, 5.2, 4.6)
    tall = max(height, 2.4)
    lines = wrapped(_facts(product, ("read_noise", "pixel_noise_median")), 9.0, TEXT)
    title = f"{product_title(product)}: read noise"
    above = heading_height(title, lines) + 0.12 + KEY_ROW
    left = LEFT + width + 1.05 + 0.85
    figure = page(left + 3.6 + 0.25, BELOW + tall + above)
    draw(figure, Box(LEFT, BELOW + (tall - height), width, height), picture)
    axes = figure.add_axes(Box(left, BELOW, 3.6, tall).on(figure))
    _noise_histogram(axes, what.good, what.unit, _find(product, "read_noise"))
    heading(figure, Box(0.15, 0.0, left + 3.4, BELOW + tall + above - 0.08), title, lines)
    return figure


def _noise_histogram(axes: Axes, noise: NDArray[Any], unit: str | None, typical: Quantity | None) -> None:
    dress(axes, label("read noise", unit), "pixels per bin", grid=True)
    edges = bin_edges([noise], 120)
    counts, _ = np.histogram(noise, edges)
    axes.stairs(counts, edges, color=CURVES[0], linewidth=1.4, fill=True, alpha=0.35)
    axes.stairs(counts, edges, color=CURVES[0], linewidth=1.2)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(bottom=0.5)
    axes.set_xlim(edges[0], edges[-1])
    if typical is not None and edges[0] < typical.value < edges[-1]:
        axes.axvline(typical.value, color=CURVES[1], linewidth=1.4, label=quantity_text(typical))
        key_above(axes)
    axes.tick_params(which="minor", color=FAINT)


def _column(product: Product, name: str) -> NDArray[np.float64]:
    table: Mapping[str, NDArray[Any]] = product.tables.get("frames", {})
    if name not in table:
        raise SelectionError(
            f"the {product.kind} has no table of its frames with {name}",
            expected=f"frames.{name}",
            got=", ".join(f"{t}.{c}" for t, columns in product.tables.items() for c in columns)
            or "no tables",
        )
    return np.asarray(table[name], np.float64)


def _unit(product: Product, column: str) -> str:
    """Unit of a column of ``frames``; levels are in adu where nothing else is said, as all raw frames are."""
    return product.units.get(f"frames.{column}", "adu")


def _find(product: Product, name: str) -> Quantity | None:
    """The quantity of the whole detector, if it is there and a number."""
    found = (q for q in product.quantities if q.name == name and not q.place and math.isfinite(q.value))
    return next(found, None)


def _facts(product: Product, names: tuple[str, ...]) -> tuple[str, ...]:
    found = (_find(product, name) for name in names)
    return tuple(quantity_text(quantity) for quantity in found if quantity is not None)


def _per_frame(slope: Quantity) -> str:
    return f"{quantity_text(slope)} per frame"
