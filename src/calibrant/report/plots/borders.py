"""Borders: steps between amplifiers where they lie on the detector, and the levels that explain them."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from calibrant.errors import SelectionError
from calibrant.product import Product
from calibrant.report.plots.amplifiers import Row, row_of
from calibrant.report.plots.canvas import CURVES, FAINT, INK, TEXT, Box
from calibrant.report.plots.grids import EITHER, bar
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import Columns, headed, parts, table_of, titled
from calibrant.report.plots.tiles import Tile, bare, names_of, paint, shade, shape_of, tiles, write_in

WIDE, TALL = 9.6, 3.3
"""Inches of a detector."""
LEFT, BELOW, GAP, BAR = 0.5, 0.15, 0.35, 0.14
CENTRES = {"offset": 0.0, "gain_ratio": 1.0}
"""What a level would be without any difference."""


def amplifier_borders(product: Product) -> Figure:
    """Steps across the borders of amplifiers on the detector, which is coloured by the levels found of them.

    Parameters
    ----------
    product : Product
        Kind ``amplifier_offsets``: offset [adu] and gain_ratio [] of amplifiers; tables ``interfaces``
        (quantity, one, other, step, sigma, used) and ``amplifiers``. Steps of gain ratios are in ln.

    Raises
    ------
    SelectionError
        If a table is missing, or no step was measured.
    """
    table = table_of(product, "interfaces", "quantity", "one", "other", "step", "sigma", "used")
    table_of(product, "amplifiers", "name", "place")
    found = {name: rows for name, rows in parts(table, "quantity").items() if np.isfinite(rows["step"]).any()}
    if not found:
        raise SelectionError(f"the {product.kind} has no step that was measured")
    facts = (
        "on the borders: right less left, or upper less lower, with its sigma",
        "red: left out, it disagrees with the others" if not table["used"].all() else "",
    )
    tall = len(found) * TALL + (len(found) - 1) * GAP
    figure = headed(titled(product, "steps at the borders"), facts, LEFT + WIDE + 1.1, BELOW + tall)
    for number, (name, rows) in enumerate(found.items()):
        bottom = BELOW + (len(found) - 1 - number) * (TALL + GAP)
        _detector(figure, Box(LEFT, bottom, WIDE, TALL), product, name, rows)
    return figure


def _detector(figure: Figure, box: Box, product: Product, name: str, rows: Columns) -> None:
    names = names_of(product)
    row, centre = row_of(product, name, names), CENTRES.get(name, 0.0)
    away = np.abs(row.values - centre)
    reach = max(float(np.nanmax(away, initial=0.0)), 1e-6)
    norm = Normalize(centre - reach, centre + reach)
    axes = figure.add_axes(box.on(figure))
    places = dict(zip(names, tiles(product, (0, 0)), strict=True))
    for index, (amplifier, tile) in enumerate(places.items()):
        paint(axes, tile, row.values[index], norm, EITHER)
        words = f"{amplifier}\n{_with_sigma(row, index)}"
        write_in(axes, tile, words, shade(row.values[index], norm, EITHER))
    percent = name == "gain_ratio"
    for one, other, step, sigma, used in zip(
        *(rows[column] for column in ("one", "other", "step", "sigma", "used")), strict=True
    ):
        if math.isfinite(step):
            size = 100.0 if percent else 1.0
            _step(axes, places[str(one)], places[str(other)], size * step, size * sigma, bool(used))
    bare(axes, shape_of(product))
    unit = "%" if percent else "adu"
    axes.set_ylabel(label("steps", unit), fontsize=TEXT, color=INK)
    place = Box(box.left + box.width + 0.12, box.bottom, BAR, box.height)
    bar(figure, place, norm, EITHER, row.label)


def _with_sigma(row: Row, index: int) -> str:
    text = row.text(index)
    sigma = row.sigmas[index]
    return f"{text}\n±{sigma:.{row.digits}f}" if math.isfinite(row.values[index]) and sigma > 0 else text


def _step(axes: Axes, one: Tile, other: Tile, step: float, sigma: float, used: bool) -> None:
    """A step on the border that two tiles share."""
    beside = other.col >= one.col + one.width
    row = (max(one.row, other.row) + min(one.row + one.height, other.row + other.height)) / 2
    col = (max(one.col, other.col) + min(one.col + one.width, other.col + other.width)) / 2
    digits = (
        2 if sigma <= 0 or not math.isfinite(sigma) else max(0, min(3, -math.floor(math.log10(sigma / 2))))
    )
    colour = INK if used else CURVES[1]
    axes.text(
        other.col if beside else col, row if beside else other.row,
        f"{step:+.{digits}f} ±{sigma:.{digits}f}".replace("-", "−"), ha="center", va="center", fontsize=6.0,
        rotation=90 if beside else 0, color=colour,
        bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": FAINT if used else colour,
              "linewidth": 0.4},
    )  # fmt: skip
