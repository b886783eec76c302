"""Read noise of ramps: the map, a histogram of each output, boxes, and the trend over epochs."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from calibrant.frame import MICROSECOND
from calibrant.product import Product
from calibrant.report.plots.canvas import dress
from calibrant.report.plots.drawing import Picture
from calibrant.report.plots.grids import EITHER
from calibrant.report.plots.images import marks_of
from calibrant.report.plots.look import Look
from calibrant.report.plots.panels import panels, product_facts, shown_plane
from calibrant.report.plots.pixels import Shown, label
from calibrant.report.plots.sheets import TALL, Style, parts, sheet, styles, table_of, titled

FIRST, LAST = 0.5, 10.0
"""First and last grey of the map in units of the middle, which so is half-way in logarithmic greys."""
RATIO = 0.1
"""Least distance of the last colours from a ratio of one."""


def noise_map(
    product: Product,
    *,
    low: float | None = None,
    high: float | None = None,
    mark: tuple[float, float] | tuple[()] = (),
) -> Figure:
    """The noise of every pixel in logarithmic greys, one pixel marked if wanted.

    Parameters
    ----------
    product : Product
        Kind ``read_noise`` with its plane.
    low, high : float, optional
        adu: the first and the last grey; from 0.5 to 10 times the median if not given.
    mark : (row, col), optional
        Pixel that gets a circle.
    """
    what = shown_plane(product, "read_noise")
    good = np.asarray(what.good, np.float64)
    middle = float(np.median(good)) if good.size else 1.0
    first = FIRST * middle if low is None else low
    last = LAST * middle if high is None else high
    look = Look((first, max(last, 1.001 * first)), "log")
    facts = (*product_facts(product), "of a single read")
    picture = Picture(
        what, look, title=titled(product, "map"), facts=facts, quantity="read noise",
        mark=marks_of(mark, (what.values.shape[0], what.values.shape[1])),
    )  # fmt: skip
    return panels([picture])


def noise_histogram(product: Product) -> Figure:
    """How many pixels of each output have which noise.

    Parameters
    ----------
    product : Product
        Kind ``read_noise`` with the table ``histogram`` (output, low, high, pixels).
    """
    table = table_of(product, "histogram", "output", "low", "high", "pixels")
    outputs = parts(table, "output")
    looks = styles(outputs)
    levels = {q.place: q.value for q in product.quantities if q.name == "read_noise"}
    key = []
    for name, look in looks.items():
        level = levels.get(name, levels.get("", math.nan))
        key.append(Style(look.colour, line="-").entry(f"output {name}: {level:.3f} adu"))
    figure, (axes,) = sheet(titled(product, "noise of the pixels"), product_facts(product), (TALL,), key)
    dress(axes, label("read noise of a single read", "adu"), "pixels per bin", grid=True)
    most = [math.inf, 0.0]
    for name, look in looks.items():
        own = outputs[name]
        edges = np.append(own["low"], own["high"][-1])
        axes.stairs(own["pixels"], edges, baseline=None, color=look.colour, linewidth=1.2)
        filled = np.flatnonzero(own["pixels"])
        if filled.size:
            most = [min(most[0], float(edges[filled[0]])), max(most[1], float(edges[filled[-1] + 1]))]
    axes.set_yscale("log")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0.7)
    if most[1] > most[0]:
        axes.set_xlim(*most)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0, 7.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    return figure


def noise_boxes(product: Product) -> Figure:
    """Spatial by temporal noise of each box: one for white noise, below where many pixels drift together.

    Parameters
    ----------
    product : Product
        Kind ``read_noise`` with the table ``boxes`` (row, col, ratio) and the plane dq.
    """
    table = table_of(product, "boxes", "row", "col", "ratio")
    rows, cols = (np.unique(table[name], return_inverse=True) for name in ("row", "col"))
    grid = np.full((len(rows[0]), len(cols[0])), np.nan)
    grid[rows[1], cols[1]] = table["ratio"]
    finite = np.abs(grid[np.isfinite(grid)] - 1.0)
    reach = max(RATIO, float(finite.max())) if finite.size else RATIO
    look = Look((1.0 - reach, 1.0 + reach), cmap=EITHER)
    shape = product.planes["dq"].shape
    high, wide = (np.diff([*edges[0], size]) for edges, size in zip((rows, cols), shape, strict=True))
    pixels = np.repeat(np.repeat(grid, high, axis=0), wide, axis=1)
    what = Shown(pixels, ~np.isfinite(pixels), None, None)
    facts = product_facts(product)
    return panels(
        [Picture(what, look, title=titled(product, "spatial by temporal"), facts=facts, quantity="ratio")]
    )


def noise_trend(product: Product) -> Figure:
    """Read noise of each detector against time, all outputs together.

    Parameters
    ----------
    product : Product
        Kind ``read_noise_trend`` with the table ``trend`` (detector, output, epoch, read_noise, sigma).
    """
    table = table_of(product, "trend", "detector", "output", "epoch", "read_noise", "sigma")
    whole = {name: values[np.asarray(table["output"]) == ""] for name, values in table.items()}
    detectors = parts(whole, "detector")
    looks = styles(detectors)
    change = {q.place: q for q in product.quantities if q.name == "change"}
    key = []
    for name, look in looks.items():
        told = f": {change[name].value:+.3f} adu/yr" if name in change else ""
        key.append(Style(look.colour, look.marker, "-").entry(f"{name}{told}"))
    figure, (axes,) = sheet(titled(product, "read noise of epochs"), product_facts(product), (TALL,), key)
    dress(axes, "", label("read noise", "adu"), grid=True)
    for name, look in looks.items():
        own = detectors[name]
        axes.errorbar(
            _days(own["epoch"]), own["read_noise"], own["sigma"], color=look.colour, marker=look.marker,
            markersize=4, linewidth=1.0, capsize=2,
        )  # fmt: skip
    axes.xaxis_date()
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
    return figure


def _days(epoch: NDArray[np.int64]) -> NDArray[np.float64]:
    """Days since 1970, as axes of dates count."""
    return np.asarray(epoch, np.float64) / (86_400 * MICROSECOND)
