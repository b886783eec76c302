"""Cuts: rows of frames across the slices, with the gaps between slices shaded, and parts of them larger."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from calibrant.product import Product
from calibrant.report.plots.canvas import CURVES
from calibrant.report.plots.sheets import Columns, Style, table_of

SHADE = "#E4E4E4"
ZOOM = 64
"""Pixels across that are shown larger."""
BESIDE = 8
"""Pixels shown beside the first and the last slice."""
LINES = ("-", "--", ":", "-.")


def along(product: Product) -> tuple[str, str]:
    """What runs along the dispersion, and what across: ``row`` and ``column``, or the reverse."""
    turned = product.provenance.options.get("dispersion") == "cols"
    return ("column", "row") if turned else ("row", "column")


def cuts_of(product: Product, *columns: str) -> dict[int, Columns]:
    """The rows of the table ``cuts``, each from the first slice to the last one.

    Raises
    ------
    SelectionError
        If the product has no such table.
    """
    table = table_of(product, "cuts", "row", "col", "slice", *columns)
    col = np.asarray(table["col"])
    lit = col[np.asarray(table["slice"]) > 0]
    near = inside(col, (lit.min() - BESIDE, lit.max() + BESIDE))
    return {
        int(row): {name: np.asarray(values)[near & (table["row"] == row)] for name, values in table.items()}
        for row in dict.fromkeys(np.asarray(table["row"]).tolist())
    }


def row_styles(rows: dict[int, Columns]) -> dict[int, Style]:
    """A colour and a line for each row."""
    return {row: Style(CURVES[i % 7], line=LINES[i % 4]) for i, row in enumerate(rows)}


def larger(cut: Columns) -> tuple[float, float]:
    """Which columns to show larger: some about the middle, with gaps in them."""
    col = np.asarray(cut["col"])
    if col.size <= ZOOM:
        return float(col[0]) - 0.5, float(col[-1]) + 0.5
    first = float(col[(col.size - ZOOM) // 2])
    return first - 0.5, first + ZOOM - 0.5


def shade_gaps(axes: Axes, cut: Columns) -> None:
    """Grey where there is no light of a slice."""
    col = np.asarray(cut["col"])
    for first, last in _runs(np.asarray(cut["slice"]) == 0):
        axes.axvspan(col[first] - 0.5, col[last] + 0.5, color=SHADE, linewidth=0, zorder=0)


def _runs(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and last place of each stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    for first, end in edges.reshape(-1, 2):
        yield int(first), int(end) - 1


def inside(x: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    """Which places lie between two others."""
    return np.asarray((x >= limits[0]) & (x <= limits[1]))


def fit_range(axes: Axes, values: NDArray[np.float64], low: float = 0.5, high: float = 99.5) -> None:
    """A range that holds nearly all values, so that a hot pixel does not flatten the rest."""
    known = values[np.isfinite(values)]
    if known.size:
        bottom, top = np.percentile(known, (low, high))
        room = 0.08 * max(float(top - bottom), 1e-12)
        axes.set_ylim(float(bottom) - room, float(top) + room)
