"""Stray light between slices, and rows of even and odd number, before and after."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrant.product import Product
from calibrant.report.plots.canvas import CURVES, FAINT, INK, dress, key_above
from calibrant.report.plots.cuts import SHADE, ZOOM, along, cuts_of, shade_gaps
from calibrant.report.plots.drawing import Picture
from calibrant.report.plots.grids import RISING
from calibrant.report.plots.look import Look
from calibrant.report.plots.panels import panels, product_facts, shown_plane
from calibrant.report.plots.pixels import label, shown
from calibrant.report.plots.sheets import Columns, charts, table_of, titled

BEFORE, AFTER, MODEL = CURVES[1], CURVES[0], INK
WIDE, PART = (7.2, 2.3), 40
"""Inches of a chart, and rows of the one that shows single rows."""


def stray_map(product: Product) -> Figure:
    """The stray light of each pixel, and its sigma where it is told.

    Parameters
    ----------
    product : Product
        Kind ``stray_light``.
    """
    look = Look("percentile", low=0.5, high=99.5, cmap=RISING)
    pictures = [Picture(shown_plane(product, "data"), look, "stray light", quantity="stray light")]
    if "variance" in product.planes:
        sigma = np.sqrt(np.asarray(product.planes["variance"]))
        what = shown(sigma, product.planes.get("dq"), product.units.get("data", ""))
        pictures.append(Picture(what, look, "its sigma", quantity="sigma"))
    return panels(pictures, titled(product, "map"))


def stray_rows(product: Product) -> Figure:
    """Rows before and after, the model with its error, and the pixels of gaps that it was made of.

    The first chart has the whole range of signals; the others only the low ones of the first slices, of three
    rows.

    Parameters
    ----------
    product : Product
        Kind ``stray_light`` with the table ``cuts``.
    """
    rows = cuts_of(product, "value", "stray", "sigma", "spill", "used")
    step, across = along(product)
    unit = product.units.get("cuts.value")
    figure, axes = charts(
        titled(product, f"{step}s before and after"), _facts(product), (1 + len(rows), 1), WIDE, (0.85, 0.8)
    )
    middle = list(rows)[len(rows) // 2]
    for k, (row, cut) in enumerate([(middle, rows[middle]), *rows.items()]):
        axis = axes[k][0]
        dress(axis, f"{across} [pixel]", label("signal", unit), grid=True)
        _cut(axis, cut)
        if k == 0:
            axis.set_xlim(cut["col"][0] - 0.5, cut["col"][-1] + 0.5)
            axis.set_ylim(*_around(cut["value"], 0.0))
        else:
            axis.set_xlim(cut["col"][0] - 0.5, cut["col"][0] + ZOOM - 0.5)
            axis.set_ylim(*_around(np.concatenate([c["stray"] for c in rows.values()]), 2.0))
        axis.set_title(f"{step} {row}" + (", low signals" if k else ""), loc="right", fontsize=9, color=INK)
    key_above(axes[0][0], 5)
    return figure


def _cut(axes: Axes, cut: Columns) -> None:
    shade_gaps(axes, cut)
    col, stray, sigma = cut["col"], np.asarray(cut["stray"], float), np.asarray(cut["sigma"], float)
    axes.axhline(0.0, color=FAINT, linewidth=0.7)
    axes.fill_between(col, stray - sigma, stray + sigma, color=MODEL, alpha=0.2, linewidth=0)
    axes.plot(col, cut["value"], color=BEFORE, linewidth=1.0, linestyle="--", label="before")
    axes.plot(col, cut["value"] - stray, color=AFTER, linewidth=1.0, label="after")
    axes.plot(col, stray, color=MODEL, linewidth=1.2, label="stray light")
    used = np.asarray(cut["used"]).astype(bool)
    axes.plot(
        col[used], (cut["value"] - cut["spill"])[used], "o", color=CURVES[2], markersize=3.2,
        label="gap without spill",
    )  # fmt: skip
    axes.fill_between([], [], [], color=SHADE, label="gap")


def _around(values: NDArray[np.float64], more: float) -> tuple[float, float]:
    """A range that holds zero and the values, and so many times their size more above."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if not known.size:
        return -1.0, 1.0
    low, high = np.percentile(known, (0.5, 99.5))
    top = max(float(high), 0.0)
    bottom = min(float(low), 0.0)
    return bottom - 0.08 * (top - bottom) - 0.2 * more * top, top + (0.08 + more) * (top - bottom)


def _facts(product: Product) -> tuple[str, ...]:
    """What is told of the whole, and by which method."""
    method = str(product.provenance.options.get("method", ""))
    return (*product_facts(product), f"method {method}" if method else "")


def parity_rows(product: Product) -> Figure:
    """Some rows of one column before and after, and half the difference of even and odd rows along them.

    Parameters
    ----------
    product : Product
        Kind ``row_parity`` with the tables ``example`` and ``parts``.
    """
    example = table_of(product, "example", "col", "row", "before", "after")
    table = table_of(product, "parts", "row", "before", "after", "sigma")
    turned = product.provenance.options.get("axis") == "cols"
    step, across = ("column", "row") if turned else ("row", "column")
    figure, axes = charts(titled(product, "before and after"), product_facts(product), (2, 1), WIDE)
    above, below = axes[0][0], axes[1][0]
    dress(above, f"{step} [pixel]", label("signal", product.units.get("example.before")), grid=True)
    dress(below, f"{step} [pixel]", "half the difference\nof even and odd [%]", grid=True)
    first = max((len(example["row"]) - PART) // 2, 0)
    some = slice(first, first + PART)
    for name, colour, marker in (("before", BEFORE, "s"), ("after", AFTER, "o")):
        above.plot(
            example["row"][some], example[name][some], color=colour, marker=marker, markersize=3,
            linewidth=1.0, linestyle="--" if name == "before" else "-", label=name,
        )  # fmt: skip
        below.errorbar(
            table["row"], 100 * table[name], 100 * table["sigma"], color=colour, marker=marker,
            markersize=3.4, linestyle="none", elinewidth=0.9,
        )  # fmt: skip
    below.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    for gain in (q.value for q in product.quantities if q.name == "gain" and not q.place):
        below.axhline(100 * gain, color=BEFORE, linewidth=0.9, linestyle=":", zorder=1)
    above.set_title(f"{across} {int(example['col'][0])}", loc="right", fontsize=9, color=INK)
    key_above(above, 2)
    return figure
