"""Charge where no light fell: crosstalk, trails of charge transfer, the kernel of brighter-fatter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.product import Product
from calibrant.report.plots.canvas import (
    CURVES,
    INK,
    KEY_ROW,
    SMALL,
    TEXT,
    Box,
    dress,
    key_above,
)
from calibrant.report.plots.grids import EITHER, about_zero, bar, cells, plain
from calibrant.report.plots.panels import quantity_text
from calibrant.report.plots.pixels import RAISED, label
from calibrant.report.plots.sheets import (
    BELOW,
    LEFT,
    Columns,
    Style,
    absent,
    drawable,
    headed,
    parts,
    scaled,
    sheet,
    styles,
    table_of,
    titled,
    typical_facts,
)

CELL = 0.44
"""Inches of a side of a cell with a number in it."""
SIDE = 4.2
SURE = 3.0
HALF = 2.4
WRITTEN = 13
"""Pixels of a kernel's side up to which numbers fit into them."""


def crosstalk_matrix(product: Product) -> Figure:
    """What each amplifier receives of each other: [source][target], grey where it is not known.

    Parameters
    ----------
    product : Product
        Kind ``crosstalk`` with the table ``crosstalk``: source, target, coefficient, and sigma if known.

    Raises
    ------
    SelectionError
        If the product has no such table, or no coefficient is a number.
    """
    table = table_of(product, "crosstalk", "source", "target", "coefficient")
    if not np.isfinite(table["coefficient"]).any():
        raise SelectionError("the crosstalk has no coefficient to draw", where=product.kind)
    names = _names(product, table)
    values, sigmas = (_square(table, names, column) for column in ("coefficient", "sigma"))
    power = 3 * math.floor(math.log10(max(np.nanmax(np.abs(values)), 1e-300)) / 3)
    values, sigmas = values / 10.0**power, sigmas / 10.0**power
    side = max(len(names) * CELL, 2.2)
    known = bool(np.isfinite(sigmas).any())
    ten = "10" + str(power).translate(RAISED) if power else ""
    facts = (
        "grey: itself, or not measured",
        f"pale: below {SURE:g} sigma" if known else "",
        f"median sigma {np.nanmedian(sigmas):.2g}{f'×{ten}' if ten else ''}" if known else "",
    )
    figure = headed(titled(product, "coefficients [source][target]"), facts, LEFT + side + 1.25, BELOW + side)
    axes = figure.add_axes(Box(LEFT, BELOW, side, side).on(figure))
    dress(axes, "target: sees the ghost", "source: holds the light")
    noise = SURE * float(np.nanmedian(sigmas)) if known else 0.0
    norm = about_zero(float(np.nanmax(np.abs(values))), noise)
    digits = 0 if np.nanmax(np.abs(values)) >= 20 else 1
    cells(axes, values, norm, EITHER, lambda row, col: _number(values[row, col], digits), size=7.0)
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 4 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    words = f"coefficient [{ten}]" if ten else "coefficient"
    bar(figure, Box(LEFT + side + 0.12, BELOW, 0.14, side), norm, EITHER, words)
    return figure


def _names(product: Product, table: Columns) -> list[str]:
    """All amplifiers, in the order of the detector where it is known."""
    order = [str(name) for name in product.tables.get("amplifiers", {}).get("name", ())]
    there = [str(name) for column in ("source", "target") for name in table[column]]
    return list(dict.fromkeys([*order, *there]))


def _square(table: Columns, names: list[str], column: str) -> NDArray[np.float64]:
    """A column as a matrix [source][target], NaN where the table has nothing."""
    plane = np.full((len(names), len(names)), np.nan)
    if column in table:
        for source, target, value in zip(table["source"], table["target"], table[column], strict=True):
            plane[names.index(str(source)), names.index(str(target))] = value
    return plane


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}" if math.isfinite(value) else ""
    return text.lstrip("-") if text and float(text) == 0 else text


def transfer_trails(product: Product) -> Figure:
    """Charge in the overscan behind the last pixel, amplifier by amplifier: serial above, parallel below.

    Parameters
    ----------
    product : Product
        Kind ``charge_transfer`` with the table ``trail``: amplifier, direction, pixel, deferred and sigma
        [adu].

    Raises
    ------
    SelectionError
        If the product has no such table, or no trail is a number.
    """
    ways = drawable(product, "trail", "deferred", "sigma", "pixel", "amplifier", by="direction")
    seen = drawable(product, "trail", "deferred")
    names = list(seen)
    looks = styles(names)
    dots = {name: replace(look, line="") for name, look in looks.items()}
    key = [look.entry(name) for name, look in dots.items()] if len(names) > 1 else []
    facts = (*typical_facts(product, *(f"cti_{way}" for way in ways)), absent(product, "trail", seen))
    figure, axes = sheet(titled(product, "deferred charge"), facts, (HALF,) * len(ways), key)
    for one, (way, rows) in zip(axes, ways.items(), strict=True):
        last = one is axes[-1]
        dress(one, "pixel of the overscan, behind the last one with light" if last else "", grid=True)
        one.set_ylabel(label(f"{way}, deferred", "adu"), fontsize=TEXT, color=INK)
        _trails(one, {name: own for name, own in parts(rows).items() if name in seen}, looks)
        one.tick_params(labelbottom=last)
    return figure


def _trails(axes: Axes, found: Mapping[str, Columns], looks: Mapping[str, Style]) -> None:
    """One line for each amplifier, side by side so that their errors are seen."""
    for index, (name, rows) in enumerate(found.items()):
        look, beside = looks[name], 0.5 * (index / max(len(found) - 1, 1) - 0.5) if len(found) > 1 else 0.0
        axes.errorbar(
            rows["pixel"] + beside, rows["deferred"], rows["sigma"], fmt=look.marker, markersize=3.4,
            color=look.colour, elinewidth=0.8,
        )  # fmt: skip
    every = np.concatenate([rows["sigma"] for rows in found.values()])
    noise = SURE * float(np.nanmedian(every))
    if noise > 0:
        axes.set_yscale("symlog", linthresh=noise, linscale=0.8)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(plain)
    axes.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def kernel_map(product: Product) -> Figure:
    """The kernel of brighter-fatter as a map with numbers, and cuts through its middle with errors.

    Parameters
    ----------
    product : Product
        Kind ``brighter_fatter``: planes data and variance, (2n+1, 2n+1) [1/electron].

    Raises
    ------
    SelectionError
        If there is no kernel.
    """
    if "data" not in product.planes or not np.isfinite(product.data).any():
        raise SelectionError(f"the {product.kind} has no kernel to draw")
    kernel = np.asarray(product.data, np.float64)
    variance = np.asarray(product.planes.get("variance", np.full(kernel.shape, np.nan)), np.float64)
    size, unit = scaled(kernel, product.unit)
    kernel, sigma = kernel / size, np.sqrt(variance) / size
    facts = (*_detector_facts(product, "a00", "centre", "sum", "chi2"),)
    figure = headed(
        titled(product, "kernel"), facts, LEFT + SIDE + 1.9 + SIDE + 0.25, BELOW + SIDE, key=KEY_ROW
    )
    noise = float(np.nanmedian(sigma)) if np.isfinite(sigma).any() else 0.0
    norm = about_zero(float(np.nanmax(np.abs(kernel))), SURE * noise)
    _kernel(figure, kernel, norm, unit)
    axes = figure.add_axes(Box(LEFT + SIDE + 1.9, BELOW, SIDE, SIDE).on(figure))
    _cuts(axes, kernel, sigma, SURE * noise, unit)
    return figure


def _detector_facts(product: Product, *names: str) -> tuple[str, ...]:
    """Quantities of the whole detector with their errors."""
    own = (q for name in names for q in product.quantities if q.name == name and not q.place)
    return tuple(quantity_text(q) for q in own if math.isfinite(q.value))


def _kernel(figure: Figure, kernel: NDArray[np.float64], norm: Normalize, unit: str) -> None:
    n = len(kernel) // 2
    axes = figure.add_axes(Box(LEFT, BELOW, SIDE, SIDE).on(figure))
    dress(axes, "columns from the charge [pixel]", "rows from the charge [pixel]")

    def text(row: int, col: int) -> str:
        fits = 2 * n + 1 <= WRITTEN and math.isfinite(kernel[row, col])
        return _number(kernel[row, col], 2) if fits else ""

    cells(axes, kernel, norm, EITHER, text, size=SMALL - 2)
    places = [place for place in range(-n, n + 1) if place % (2 if n < 8 else 4) == 0]
    axes.set_xticks([n + place for place in places], [plain(place) for place in places])
    axes.set_yticks([n + place for place in places], [plain(place) for place in places])
    bar(figure, Box(LEFT + SIDE + 0.12, BELOW, 0.14, SIDE), norm, EITHER, f"kernel [{unit}]")


def _cuts(
    axes: Axes, kernel: NDArray[np.float64], sigma: NDArray[np.float64], noise: float, unit: str
) -> None:
    dress(axes, "distance from the charge [pixel]", f"kernel [{unit}]", grid=True)
    n = len(kernel) // 2
    away = np.arange(-n, n + 1)
    lines = (
        ("along the column (parallel)", kernel[:, n], sigma[:, n], -0.06),
        ("along the row (serial)", kernel[n], sigma[n], 0.06),
    )
    for (text, values, errors, beside), colour, marker in zip(lines, CURVES[:2], "os", strict=True):
        axes.errorbar(
            away + beside, values, np.nan_to_num(errors), fmt=marker, linestyle="-", markersize=3.6,
            color=colour, elinewidth=0.9, linewidth=0.8, label=text,
        )  # fmt: skip
    if noise > 0:
        axes.set_yscale("symlog", linthresh=noise, linscale=0.8)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(plain)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    key_above(axes)
