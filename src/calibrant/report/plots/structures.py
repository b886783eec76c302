"""Structures of flats: profiles against places on the detector and on the focal plane, and the inventory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.product import Product
from calibrant.report.plots.canvas import (
    CURVES,
    FAINT,
    INK,
    KEY_ROW,
    SMALL,
    TEXT,
    Box,
    dress,
)
from calibrant.report.plots.grids import RISING, bar, cells, plain
from calibrant.report.plots.panels import product_title
from calibrant.report.plots.sheets import Columns, headed, parts, table_of

WIDE, TALL, ACROSS = 5.2, 2.1, 2
"""Inches of a panel, and panels side by side."""
LEFT, BELOW, RIGHT, GAP = 0.85, 0.55, 0.25, 0.62
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
NUMBERED = 14
"""Columns of the inventory up to which amplitudes fit into the cells."""
LEAST, MOST = 1.0, 1000.0
"""Significances that are shown in the first and in the last colour."""


def structure_profiles(product: Product) -> Figure:
    """Level against places on the detector and on the focal plane: a colour for each band.

    What stays in place on the detectors lies on one line in the coordinates of the detector; what belongs to
    the light does so on the focal plane.

    Parameters
    ----------
    product : Product
        Kind ``flat_structure`` with the table ``profiles``: detector, band, axis, position, unit, level and
        sigma [%].

    Raises
    ------
    SelectionError
        If the product has no such table, or no profile has a point.
    """
    names = "detector", "band", "axis", "position", "level", "sigma", "unit"
    table = table_of(product, "profiles", *names)
    found = {axis: rows for axis, rows in parts(table, "axis").items() if np.isfinite(rows["level"]).any()}
    if not found:
        raise SelectionError(f"the {product.kind} has no profile to draw")
    bands = list(dict.fromkeys(table["band"].astype(str).tolist()))
    looks = {band: (CURVES[i % 7], DASHES[i // 7 % 6]) for i, band in enumerate(bands)}
    detectors = len(set(table["detector"].astype(str).tolist()))
    across = min(ACROSS, len(found))
    down = -(-len(found) // across)
    facts = (
        f"{detectors} detectors: a line for each" if detectors > 1 else "shaded: 1 sigma",
        "amplifiers at equal level",
    )
    wide, tall = across * (LEFT + WIDE) + RIGHT, down * TALL + (down - 1) * GAP
    figure = headed(f"{product_title(product)}: profiles", facts, wide, BELOW + tall, key=KEY_ROW)
    for number, (axis, rows) in enumerate(found.items()):
        left = LEFT + (number % across) * (LEFT + WIDE)
        bottom = BELOW + (down - 1 - number // across) * (TALL + GAP)
        axes = figure.add_axes(Box(left, bottom, WIDE, TALL).on(figure))
        _profile(axes, axis, rows, looks, alone=detectors == 1)
    key = [Line2D([], [], color=c, linestyle=d, linewidth=1.6, label=band) for band, (c, d) in looks.items()]
    figure.legend(
        handles=key, loc="lower left", ncols=len(key),
        bbox_to_anchor=(LEFT / wide, (BELOW + tall + 0.02) / figure.get_figheight()),
        fontsize=SMALL, labelcolor=INK, frameon=False, borderpad=0.1, borderaxespad=0.0,
        handlelength=2.0,
    )  # fmt: skip
    return figure


def _profile(
    axes: Axes, axis: str, rows: Columns, looks: Mapping[str, tuple[str, object]], *, alone: bool
) -> None:
    unit = str(rows["unit"][0])
    dress(axes, f"{axis} [{unit}]" if unit else axis, "level [%]", grid=True)
    for band, own in parts(rows, "band").items():
        colour, dash = looks[band]
        for one in parts(own, "detector").values():
            order = np.argsort(one["position"])
            x, y = one["position"][order], one["level"][order]
            axes.plot(
                x,
                y,
                color=colour,
                linestyle=dash,
                linewidth=1.3 if alone else 0.7,
                alpha=1 if alone else 0.75,
            )
            if alone:
                s = np.nan_to_num(one["sigma"][order])
                axes.fill_between(x, y - s, y + s, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(0.0, color=FAINT, linewidth=0.7, zorder=1)
    axes.margins(x=0.01)


def structure_matrix(product: Product) -> Figure:
    """The inventory: structures against bands and detectors, coloured by significance.

    Parameters
    ----------
    product : Product
        Kind ``flat_structure`` with the table ``structures``: structure, detector, band (empty: all of them),
        amplitude [%], significance [sigma], detected. Of several findings in one place the surest is shown.

    Raises
    ------
    SelectionError
        If the product has no such table, or it is empty.
    """
    table = table_of(
        product, "structures", "structure", "detector", "band", "amplitude", "significance", "detected"
    )
    columns, names = _columns(product, table), list(dict.fromkeys(table["structure"].astype(str).tolist()))
    if not names:
        raise SelectionError(f"the {product.kind} has no structure to draw")
    sure, size, seen = _fill(table, names, columns)
    few = len(columns) <= NUMBERED
    cell = 0.62 if few else max(0.13, min(0.3, 9.0 / len(columns)))
    wide, tall, left = cell * len(columns), 0.34 * len(names), 1.75
    facts = ("numbers: amplitude [%]" if few else "", "marked: found", "grey: not looked for")
    figure = headed(f"{product_title(product)}: inventory", facts, max(left + wide + 1.1, 5.0), 0.85 + tall)
    axes = figure.add_axes(Box(left, 0.85, wide, tall).on(figure))
    dress(axes)
    norm = LogNorm(LEAST, MOST)
    shown = np.clip(sure, LEAST, MOST)
    cells(
        axes, shown, norm, RISING,
        lambda row, col: _percent(size[row, col]) if few and math.isfinite(shown[row, col]) else "",
    )  # fmt: skip
    _ring(axes, seen, large=few)
    _label(axes, names, columns)
    colours = bar(figure, Box(left + wide + 0.12, 0.85, 0.14, tall), norm, RISING, "significance [sigma]")
    colours.yaxis.set_major_formatter(plain)
    return figure


def _columns(product: Product, table: Columns) -> list[tuple[str, str]]:
    """Band and detector of each column: those of the flats, where the product has them."""
    source = product.tables.get("flats", table)
    bands, detectors = (
        list(dict.fromkeys(word for word in source[name].astype(str).tolist() if word)) or [""]
        for name in ("band", "detector")
    )
    return [(band, detector) for band in bands for detector in detectors]


def _fill(
    table: Columns, names: Sequence[str], columns: Sequence[tuple[str, str]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Significance and amplitude of the surest finding of each cell, and whether it was found."""
    sure = np.full((len(names), len(columns)), np.nan)
    size, seen = np.full_like(sure, np.nan), np.zeros(sure.shape, bool)
    rows = zip(
        *(table[k] for k in ("structure", "band", "detector", "significance", "amplitude", "detected")),
        strict=True,
    )
    for structure, band, detector, significance, amplitude, detected in rows:
        row = names.index(str(structure))
        for col, (own_band, own_detector) in enumerate(columns):
            if str(band) in ("", own_band) and str(detector) in ("", own_detector):
                seen[row, col] |= bool(detected)
                if not sure[row, col] >= significance:
                    sure[row, col], size[row, col] = significance, amplitude
    return sure, size, seen


def _percent(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else ""


def _ring(axes: Axes, seen: NDArray[np.bool_], *, large: bool) -> None:
    """A frame around what was found; a dot where cells are small."""
    rows, cols = np.nonzero(seen)
    if not large:
        axes.plot(
            cols, rows, "o", markersize=3.0, color=CURVES[1], markeredgecolor="white", markeredgewidth=0.4
        )
        return
    for row, col in zip(rows, cols, strict=True):
        x, y = col + 0.42 * np.array([-1, 1, 1, -1, -1]), row + 0.38 * np.array([-1, -1, 1, 1, -1])
        axes.plot(x, y, color=CURVES[1], linewidth=1.4)


def _label(axes: Axes, names: Sequence[str], columns: Sequence[tuple[str, str]]) -> None:
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    bands = list(dict.fromkeys(band for band, _ in columns))
    per = len(columns) // len(bands)
    small = len(columns) > NUMBERED
    axes.set_xticks(
        range(len(columns)), [detector for _, detector in columns], rotation=90 if small else 0,
        fontsize=SMALL - (2.5 if small else 0),
    )  # fmt: skip
    for number, band in enumerate(bands):
        middle = (number + 0.5) * per - 0.5
        axes.annotate(
            f"band {band}" if band else "", (middle, 0), xycoords=("data", "axes fraction"), xytext=(0, -34),
            textcoords="offset points", ha="center", fontsize=TEXT, color=INK, annotation_clip=False,
        )  # fmt: skip
        if number:
            axes.axvline(number * per - 0.5, color="white", linewidth=2.0)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.tick_params(length=0)
