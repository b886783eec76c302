"""Amplifiers: their quantities as bars with errors, and on the detector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.product import Product, Quantity
from calibrant.report.plots.canvas import CURVES, INK, SMALL, Box, dress
from calibrant.report.plots.grids import RISING, bar
from calibrant.report.plots.sheets import headed, scaled, titled
from calibrant.report.plots.tiles import bare, names_of, paint, rising, shade, shape_of, tiles, write_in

PANEL, GAP, LEFT, BELOW = 1.45, 0.3, 0.95, 0.55
WIDE, MAP, BETWEEN, BAR = 4.6, 4.6, 0.35, 0.14
SKIPPED = frozenset({"pairs", "levels", "sources"})
"""Counts, which no bar says better than the table."""
CHECKS = frozenset({"chi2", "chi2_serial", "chi2_parallel", "noise_ratio", "residual_rms"})
"""How well it was measured, not what: on a page of their own."""
FEW = 9
"""Amplifiers up to which names stand upright below the bars."""


def places(product: Product) -> list[str]:
    """Names of the amplifiers that a product has quantities of, in its order."""
    return list(dict.fromkeys(q.place for q in product.quantities if q.place))


def drawn_names(product: Product, *, checks: bool = False) -> list[str]:
    """Quantities of amplifiers that have a number: what was measured, or how well."""
    known = dict.fromkeys(q.name for q in product.quantities if q.place and math.isfinite(q.value))
    return [name for name in known if name not in SKIPPED and (name in CHECKS) == checks]


@dataclass(frozen=True, eq=False)
class Row:
    """One quantity of all amplifiers, in the unit of its label."""

    values: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    label: str

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which amplifiers have a number."""
        return np.isfinite(self.values)

    @property
    def digits(self) -> int:
        """Places after the point that its errors allow, or else its spread."""
        errors = self.sigmas[self.good & (self.sigmas > 0)]
        spread = float(np.ptp(self.values[self.good])) if self.good.any() else 0.0
        step = float(np.median(errors)) if errors.size else spread / 50
        return 2 if step <= 0 else max(0, min(4, -math.floor(math.log10(step / 2))))

    def text(self, index: int) -> str:
        """The number of one amplifier."""
        value = self.values[index]
        return f"{value:.{self.digits}f}".replace("-", "−") if math.isfinite(value) else "none"


def row_of(product: Product, name: str, order: Sequence[str]) -> Row:
    """Values and errors in the order of the amplifiers, NaN where there is none."""
    found = {q.place: q for q in product.quantities if q.name == name}
    picked = [found.get(place, Quantity(name, math.nan)) for place in order]
    values = np.array([q.value for q in picked], np.float64)
    size, unit = scaled(values, next((q.unit for q in found.values()), ""))
    words = name.replace("_", " ")
    sigmas = np.nan_to_num(np.array([q.sigma or 0.0 for q in picked], np.float64))
    return Row(values / size, sigmas / size, f"{words} [{unit}]" if unit else words)


def amplifier_bars(product: Product, names: Sequence[str] = ()) -> Figure:
    """A row for each quantity: a bar for each amplifier with its error, and its place on the detector.

    Bars stand on the median of the amplifiers (dashed), or on zero where that is near.

    Parameters
    ----------
    product : Product
        With quantities whose place is an amplifier, and the table ``amplifiers`` for the detector's map.
    names : sequence of str
        Of the quantities; all that were measured if empty, without counts and checks.

    Raises
    ------
    SelectionError
        If no quantity of an amplifier is a number.
    """
    order = places(product)
    known = drawn_names(product) + drawn_names(product, checks=True)
    shown = [name for name in names if name in known] or ([] if names else drawn_names(product))
    if not shown:
        raise SelectionError(f"the {product.kind} has no quantity of an amplifier to draw")
    has_map = "amplifiers" in product.tables and len(order) > 1
    tall = len(shown) * PANEL + (len(shown) - 1) * GAP
    low = BELOW if len(order) > FEW else 0.35
    right = BETWEEN + MAP + 0.12 + BAR + 0.75 if has_map else 0.25
    facts = ("dashed: median of the amplifiers",)
    figure = headed(titled(product, "amplifiers"), facts, LEFT + WIDE + right, low + tall)
    for number, name in enumerate(shown):
        bottom = low + (len(shown) - 1 - number) * (PANEL + GAP)
        row = row_of(product, name, order)
        axes = figure.add_axes(Box(LEFT, bottom, WIDE, PANEL).on(figure))
        _bars(axes, row, order, last=number == len(shown) - 1)
        if has_map:
            _beside(figure, product, row_of(product, name, names_of(product)), bottom)
    return figure


def _bars(axes: Axes, row: Row, order: Sequence[str], *, last: bool) -> None:
    dress(axes, "", row.label, grid=True)
    axes.grid(False, axis="x")
    across, good = np.arange(len(order)), row.good
    low, high, base = _span(row.values[good], row.sigmas[good])
    axes.bar(across[good], row.values[good] - base, 0.7, bottom=base, color=CURVES[0], alpha=0.4)
    axes.plot(across[good], row.values[good], "o", markersize=3.2, color=CURVES[0])
    known = good & (row.sigmas > 0)
    axes.errorbar(
        across[known], row.values[known], row.sigmas[known], fmt="none", ecolor=INK, elinewidth=1.0,
        capsize=2.2,
    )  # fmt: skip
    for place in across[~good]:
        axes.text(
            place, low + 0.04 * (high - low), "none", ha="center", va="bottom", fontsize=SMALL,
            color=CURVES[1], rotation=90,
        )  # fmt: skip
    axes.axhline(float(np.median(row.values[good])), color=CURVES[1], linewidth=1.0, linestyle="--", zorder=1)
    axes.set_ylim(low, high)
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_xticks(across, list(order) if last else [], fontsize=SMALL, rotation=90 * (len(order) > FEW))
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")


def _span(values: NDArray[np.float64], sigmas: NDArray[np.float64]) -> tuple[float, float, float]:
    """Limits of the axis, and where the bars stand: on zero where it is near, else on the median."""
    # One amplifier that is hardly known shall not press all others flat.
    usual = float(np.median(sigmas))
    errors = np.minimum(sigmas, 5.0 * usual) if usual > 0 else sigmas
    low, high = float(np.min(values - errors)), float(np.max(values + errors))
    reach = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-9)
    if low <= 1.2 * reach and high >= -1.2 * reach:
        low, high = min(low, 0.0), max(high, 0.0)
        reach = high - low
        return low - (0.1 * reach if low < 0 else 0.0), high + (0.1 * reach if high > 0 else 0.0), 0.0
    return low - 0.12 * reach, high + 0.12 * reach, float(np.median(values))


def _beside(figure: Figure, product: Product, row: Row, bottom: float) -> None:
    """The detector with its amplifiers coloured, and what the colours mean."""
    left = LEFT + WIDE + BETWEEN
    axes = figure.add_axes(Box(left, bottom, MAP, PANEL).on(figure))
    norm = rising(row.values)
    shape = shape_of(product)
    for index, tile in enumerate(tiles(product, (0, 0))):
        paint(axes, tile, row.values[index], norm)
        words = f"{names_of(product)[index]}\n{row.text(index)}"
        on = shade(row.values[index], norm)
        write_in(axes, tile, words, on, upright=tile.width * 5.0 < shape[1] * 0.3)
    bare(axes, shape)
    bar(figure, Box(left + MAP + 0.1, bottom, BAR, PANEL), norm, RISING, "", row.values)
