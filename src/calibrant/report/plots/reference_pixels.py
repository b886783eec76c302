"""Reference pixels: levels against time, Allan deviations, and which pixels cannot be trusted, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from calibrant.frame import DQ
from calibrant.product import Product
from calibrant.report.plots.canvas import CURVES, FAINT, INK, SMALL, Box, dress
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import (
    BELOW,
    LEFT,
    RIGHT,
    Columns,
    Style,
    headed,
    hide_numbers,
    parts,
    sheet,
    styles,
    table_of,
    titled,
)

Mask = NDArray[np.bool_]
PANEL = 1.9
"""Inches: height of one panel of levels."""
SERIES = ("active", "reference", "difference")
NAMES: Mapping[str, str] = {
    "active": "active pixels",
    "reference": "reference pixels",
    "difference": "active less reference",
}
PAUSE = 2.0
"""Groups of room between two ramps."""
SQUARE = 5.2
"""Inches of the outline of an array."""
SIDES = ("top", "bottom", "left", "right")
STRIP, BETWEEN = 0.96, 0.45
"""Inches: height of the pixels of one side, and room between two."""
MOST = 12.0
"""Sigmas: pixels beyond it are drawn there."""
KINDS: Mapping[str, Style] = {
    "telegraph": Style("#D55E00", "D"),
    "unstable": Style("#0072B2", "o"),
}


def reference_levels(product: Product) -> Figure:
    """Levels of active pixels, of reference pixels and of their difference, read by read, about their mean.

    Parameters
    ----------
    product : Product
        Kind ``reference_pixels`` with the table ``outputs``. The dark current is taken off its active pixels.
    """
    table = table_of(product, "outputs", "file", "integration", "time", "output", *SERIES)
    time, ends = _without_pauses(table)
    outputs = parts({**table, "shown": time}, "output")
    looks = styles(outputs)
    key = [look.entry(f"output {name}") for name, look in looks.items()]
    facts = (*_keys(product), "the dark current is taken off active pixels", "dotted: resets")
    heights = [PANEL] * len(SERIES)
    figure, panels = sheet(titled(product, "levels in time"), facts, heights, key)
    for axes, name in zip(panels, SERIES, strict=True):
        dress(
            axes,
            "time, pauses left out [s]" if axes is panels[-1] else "",
            label(NAMES[name], "adu"),
            grid=True,
        )
        for end in ends:
            axes.axvline(end, color=FAINT, linewidth=0.7, linestyle=":")
        for output, look in looks.items():
            rows = outputs[output]
            level = rows[name] - np.nanmean(rows[name]) if np.isfinite(rows[name]).any() else rows[name]
            for ramp in _ramps(rows):
                axes.plot(
                    rows["shown"][ramp], level[ramp], color=look.colour, marker=look.marker, markersize=2.2,
                    linewidth=0.9, linestyle=look.line or "-",
                )  # fmt: skip
    hide_numbers(panels)
    return figure


def _ramps(table: Columns) -> list[NDArray[np.intp]]:
    """The rows of each ramp."""
    number = table["file"].astype(np.int64) * 100_000 + table["integration"].astype(np.int64)
    return [np.flatnonzero(number == one) for one in dict.fromkeys(number.tolist())]


def _without_pauses(table: Columns) -> tuple[NDArray[np.float64], list[float]]:
    """Times as they are within ramps, which follow each other closely; and where ramps end."""
    shown = np.zeros(len(table["time"]))
    at, ends = 0.0, []
    for ramp in _ramps(table):
        time = table["time"][ramp]
        steps = np.diff(np.unique(time))
        step = float(np.median(steps)) if steps.size else 1.0
        if at > 0:
            ends.append(at + PAUSE * step / 2.0)
            at += PAUSE * step
        shown[ramp] = at + time - time.min()
        at = float(shown[ramp].max())
    return shown, ends


def allan_deviation(product: Product) -> Figure:
    """Allan deviations against the time of averaging: each output, and what the noise of pixels makes.

    Parameters
    ----------
    product : Product
        Kind ``reference_pixels`` with the table ``allan``.
    """
    table = table_of(product, "allan", "output", "series", "time", "deviation", "sigma", "expected")
    several = parts(table, "series")
    looks = dict(zip(SERIES, (Style(c, "o", "-") for c in CURVES), strict=False))
    key = [looks[name].entry(NAMES[name]) for name in several]
    key.append(Style(INK, line="--").entry("noise of single pixels"))
    facts = (*_keys(product), "thin: each output; thick: rms of all", "averages of reads of one ramp")
    figure, (axes,) = sheet(titled(product, "Allan deviation"), facts, (4.2,), key)
    dress(axes, "time of averaging [s]", label("Allan deviation of the level", "adu"), grid=True)
    for name, rows in several.items():
        look = looks[name]
        for one in parts(rows, "output").values():
            axes.plot(one["time"], one["deviation"], color=look.colour, linewidth=0.6, alpha=0.55)
        times = np.unique(rows["time"])
        mean = [math.sqrt(float(np.mean(rows["deviation"][rows["time"] == t] ** 2))) for t in times]
        error = [_error(rows, t) for t in times]
        white = [math.sqrt(float(np.nanmean(rows["expected"][rows["time"] == t] ** 2))) for t in times]
        axes.errorbar(
            times, mean, error, color=look.colour, marker="o", markersize=4, linewidth=1.6, capsize=2
        )
        axes.plot(times, white, color=look.colour, linewidth=1.0, linestyle="--")
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_numbers(axes)
    return figure


def _error(rows: Columns, time: float) -> float:
    """Of the rms of the outputs: they share too much to be independent, so the mean of their errors."""
    return float(np.mean(rows["sigma"][rows["time"] == time]))


def _plain_numbers(axes: Axes) -> None:
    """Numbers such as 0.2 on logarithmic axes."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()


def unstable_map(product: Product) -> Figure:
    """Where unstable reference pixels lie: the outline of the array, and all pixels of each side.

    Parameters
    ----------
    product : Product
        Kind ``reference_pixels`` with the planes dq and deviation, and the table ``regions``.
    """
    regions = table_of(product, "regions", "side", "pixels")
    dq, deviation = product.planes["dq"], np.asarray(product.planes["deviation"], np.float64)
    bad, two = ((dq & np.uint32(bit)) != 0 for bit in (DQ.BAD_REF_PIXEL, DQ.TELEGRAPH))
    masks = {"telegraph": bad & two, "unstable": bad & ~two}
    known = set(np.asarray(regions["side"]).astype(str).tolist())
    sides = [name for name in SIDES if name in known]
    facts = (
        *_keys(product),
        f"{int(bad.sum())} of {int(np.sum(regions['pixels']))} reference pixels unstable",
        f"{int((bad & two).sum())} of them between two levels",
    )
    tall = max(SQUARE, STRIP * len(sides) + BETWEEN * (len(sides) - 1))
    wide = LEFT + SQUARE + 1.05 + 5.6
    figure = headed(titled(product, "unstable reference pixels"), facts, wide + RIGHT, BELOW + tall, 0.3)
    rows, cols = dq.shape
    scale = SQUARE / max(rows, cols)
    box = Box(LEFT, BELOW + tall - rows * scale, cols * scale, rows * scale)
    _outline(figure.add_axes(box.on(figure)), masks)
    threshold = product.provenance.options.get("threshold")
    for index, name in enumerate(sides):
        bottom = BELOW + tall - STRIP * (index + 1) - BETWEEN * index
        axes = figure.add_axes(Box(LEFT + SQUARE + 1.05, bottom, 5.6, STRIP).on(figure))
        _strip(axes, np.isfinite(deviation) & _side(name, deviation), deviation, masks, name)
        if threshold is not None:
            axes.axhline(float(threshold), color=INK, linewidth=0.8, linestyle="--")
    return figure


def _side(name: str, deviation: NDArray[np.float64]) -> Mask:
    """The half of the image on that side, in which all rows, or columns, are as wide as the border."""
    rows, cols = deviation.shape
    across = name in ("top", "bottom")
    # a row of the border is finite throughout; of other rows only its ends are
    inner = np.isfinite(deviation).all(axis=1 if across else 0)
    half = np.arange(rows if across else cols) < (rows if across else cols) // 2
    line = inner & (half if name in ("bottom", "left") else ~half)
    return np.broadcast_to(line[:, None] if across else line, (rows, cols))


def _outline(axes: Axes, masks: Mapping[str, Mask]) -> None:
    dress(axes, "column", "row")
    shape = next(iter(masks.values())).shape
    axes.set_xlim(-0.5, shape[1] - 0.5)
    axes.set_ylim(-0.5, shape[0] - 0.5)
    for name, mask in masks.items():
        row, col = np.nonzero(mask)
        _markers(axes, col, row, KINDS[name], 5.0, f"{name} ({int(mask.sum())})")
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, fontsize=SMALL, frameon=False, labelcolor=INK
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))


def _markers(axes: Axes, x: NDArray[Any], y: NDArray[Any], look: Style, size: float, text: str = "") -> None:
    axes.plot(
        x, y, linestyle="none", marker=look.marker, color=look.colour, markersize=size, fillstyle="none",
        markeredgewidth=1.2, clip_on=False, label=text or None,
    )  # fmt: skip


def _strip(
    axes: Axes, here: Mask, deviation: NDArray[np.float64], masks: Mapping[str, Mask], name: str
) -> None:
    along = 1 if name in ("top", "bottom") else 0
    dress(axes, "", f"{name} [σ]", grid=True)
    axes.set_title("column" if along else "row", fontsize=SMALL, color=FAINT, loc="right", pad=2)
    for kind, mask in ((None, here), *((kind, here & mask) for kind, mask in masks.items())):
        place, far = np.nonzero(mask)[along], np.minimum(deviation[mask], MOST)
        if kind is None:
            axes.plot(place, far, ".", color=FAINT, markersize=1.6, alpha=0.6)
        else:
            _markers(axes, place, far, KINDS[kind], 4.5)
    axes.set_ylim(0.0, MOST)
    axes.set_yticks((0, 5, 10))
    axes.set_xlim(-1, here.shape[along])
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def shared_levels(product: Product) -> Figure:
    """Covariances of the levels of outputs, before and after the reference is taken off.

    Parameters
    ----------
    product : Product
        Kind ``reference_pixels`` with the table ``covariance``.
    """
    table = table_of(product, "covariance", "one", "other", "reference", "difference")
    outputs = np.unique(np.concatenate([table["one"], table["other"]]))
    facts = (*_keys(product), "within ramps, noise of single pixels taken out")
    side = max(2.2, min(4.6, 0.62 * len(outputs)))
    title = titled(product, "what outputs share")
    figure = headed(title, facts, LEFT + 2 * side + 1.5 + RIGHT, BELOW + side + 0.3)
    most = float(np.nanmax(np.abs([table["reference"], table["difference"]]))) or 1.0
    for index, name in enumerate(("reference", "difference")):
        box = Box(LEFT + index * (side + 1.0), BELOW, side, side)
        axes = figure.add_axes(box.on(figure))
        dress(axes, "output", "output" if index == 0 else "")
        axes.set_title(f"{NAMES[name]} [ADU²]", fontsize=SMALL, color=INK)
        grid = np.full((len(outputs), len(outputs)), np.nan)
        at = [np.searchsorted(outputs, table[which]) for which in ("one", "other")]
        grid[at[0], at[1]] = grid[at[1], at[0]] = table[name]
        axes.imshow(grid, cmap="RdBu_r", vmin=-most, vmax=most, origin="lower")
        axes.set_xticks(range(len(outputs)), [str(one) for one in outputs])
        axes.set_yticks(range(len(outputs)), [str(one) for one in outputs])
        if len(outputs) <= 8:
            for (row, col), value in np.ndenumerate(grid):
                colour = "white" if abs(value) > 0.6 * most else INK
                axes.text(col, row, f"{value:.2g}", ha="center", va="center", fontsize=SMALL, color=colour)
    return figure


def _keys(product: Product) -> tuple[str, ...]:
    names = ("readpatt", "subarray", "temperature")
    return tuple(f"{name} {product.keys[name]}" for name in names if product.keys.get(name) is not None)
