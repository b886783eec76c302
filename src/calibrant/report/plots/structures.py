"""Structures of flats: profiles against places on the detector and on the focal plane, and the inventory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
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
from calibrant.report.plots.grids import bar, cells, plain
from calibrant.report.plots.panels import product_title
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import Columns, headed, parts, table_of

WIDE, TALL, ACROSS = 5.2, 2.1, 2
"""Inches of a panel, and panels side by side."""
LEFT, BELOW, RIGHT, GAP = 0.85, 0.55, 0.25, 0.62
DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))
UNDER = 0.55
NUMBERED = 14
"""Columns of the inventory up to which amplitudes fit into the cells."""
PALE = "YlGnBu"
"""From pale, where nothing is, to dark."""
LEAST, MOST = 1.0, 1000.0
"""Significances that are shown in the first and in the last colour."""


@dataclass(frozen=True, eq=False)
class _Panel:
    """One set of axes: what runs along x, whose lines, and what tells them apart."""

    axis: str
    title: str
    rows: Columns
    unit: str
    by: str
    first: bool


def structure_profiles(product: Product) -> Figure:
    """Level against places on the detector and on the focal plane, band by band.

    What stays in place on the detectors lies on one line in the coordinates of the detector; what belongs to
    the light does so on the focal plane. A column of panels for each band, a line for each detector; of one
    detector, a line for each band.

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
    detectors, bands = (list(dict.fromkeys(np.asarray(table[by]).astype(str).tolist())) for by in names[:2])
    alone = len(detectors) == 1
    looks = {
        name: (CURVES[i % 7], DASHES[i // 7 % 6]) for i, name in enumerate(bands if alone else detectors)
    }
    across = min(ACROSS, len(found)) if alone else len(bands)
    panels = _panels(found, bands, alone)
    wide, tall = (WIDE, TALL) if alone else (max(1.7, min(WIDE, 12.6 / across)), 1.5)
    step = wide + (LEFT if alone else 0.12)
    down = -(-len(panels) // across)
    facts = ("amplifiers at equal level", "shaded: 1 sigma" if alone else "")
    high = down * tall + (down - 1) * GAP
    figure = headed(
        f"{product_title(product)}: profiles",
        facts,
        LEFT + across * step + RIGHT,
        BELOW + high,
        key=KEY_ROW + 0.2,
    )
    for number, panel in enumerate(panels):
        bottom = BELOW + (down - 1 - number // across) * (tall + GAP)
        axes = figure.add_axes(Box(LEFT + (number % across) * step, bottom, wide, tall).on(figure))
        if not alone:
            axes.set_xlim(*_limits(found[panel.axis]["position"], 0.01))
            axes.set_ylim(*_limits(found[panel.axis]["level"], 0.06))
        _profile(axes, panel, looks, shaded=alone)
        if number < across:
            axes.set_title(panel.title, fontsize=TEXT, color=INK, pad=3)
    _key(figure, looks, "band" if alone else "detector", BELOW + high + 0.2)
    return figure


def _panels(found: Mapping[str, Columns], bands: Sequence[str], alone: bool) -> list[_Panel]:
    if alone:
        return [_Panel(axis, "", rows, str(rows["unit"][0]), "band", True) for axis, rows in found.items()]
    return [
        _Panel(
            axis, f"band {band}".strip(), parts(rows, "band").get(band, {}), str(rows["unit"][0]), "detector",
            band == bands[0],
        )
        for axis, rows in found.items()
        for band in bands
    ]  # fmt: skip


def _limits(values: NDArray[np.float64], margin: float) -> tuple[float, float]:
    """From the lowest to the highest: panels side by side have one range."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = max(margin * (high - low), 1e-6)
    return low - room, high + room


def _profile(axes: Axes, panel: _Panel, looks: Mapping[str, tuple[str, Any]], *, shaded: bool) -> None:
    if not panel.rows:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", color=FAINT)
    dress(axes, label(panel.axis, panel.unit), "level [%]" if panel.first else "", grid=True)
    axes.tick_params(labelleft=panel.first)
    for name, rows in parts(panel.rows, panel.by).items() if panel.rows else ():
        order = np.argsort(rows["position"])
        x, y, sigma = (rows[column][order] for column in ("position", "level", "sigma"))
        colour, dash = looks[name]
        axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.3 if shaded else 0.9)
        if shaded:
            s = np.nan_to_num(sigma)
            axes.fill_between(x, y - s, y + s, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(0.0, color=FAINT, linewidth=0.7, zorder=1)
    if shaded:
        axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(8 if shaded else 4))


def _key(figure: Figure, looks: Mapping[str, tuple[str, Any]], what: str, bottom: float) -> None:
    wide, tall = figure.get_size_inches()
    figure.legend(
        handles=[
            Line2D([], [], color=colour, linestyle=dash, linewidth=1.6, label=f"{what} {name}".strip())
            for name, (colour, dash) in looks.items()
        ],
        loc="lower left", ncols=min(len(looks), int((wide - LEFT) / 1.2)), fontsize=SMALL, labelcolor=INK,
        frameon=False, bbox_to_anchor=(LEFT / wide, bottom / tall), borderpad=0.1, borderaxespad=0.0,
    )  # fmt: skip


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
    facts = ("numbers: amplitude [%]" if few else "", "marked: found", "grey: no entry")
    figure = headed(f"{product_title(product)}: inventory", facts, max(left + wide + 1.1, 5.0), UNDER + tall)
    axes = figure.add_axes(Box(left, UNDER, wide, tall).on(figure))
    dress(axes)
    norm = LogNorm(LEAST, MOST)
    shown = np.clip(sure, LEAST, MOST)
    cells(
        axes, shown, norm, PALE,
        lambda row, col: _percent(size[row, col]) if few and math.isfinite(shown[row, col]) else "",
    )  # fmt: skip
    _ring(axes, seen, large=few)
    _label(axes, names, columns)
    colours = bar(figure, Box(left + wide + 0.12, UNDER, 0.14, tall), norm, PALE, "significance [sigma]")
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
    if not math.isfinite(value):
        return ""
    return f"{value:.2g}" if abs(value) >= 0.005 else "0"


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
            f"band {band}" if band else "", (middle, 0), xycoords=("data", "axes fraction"), xytext=(0, -28),
            textcoords="offset points", ha="center", fontsize=TEXT, color=INK, annotation_clip=False,
        )  # fmt: skip
        if number:
            axes.axvline(number * per - 0.5, color="white", linewidth=2.0)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.tick_params(length=0)
