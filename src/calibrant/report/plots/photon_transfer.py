"""Photon transfer: noise against signal, variance against mean, both with residuals, and the matrix a."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from calibrant.product import Product
from calibrant.report.plots.canvas import (
    CURVES,
    FAINT,
    INK,
    SMALL,
    Box,
    dress,
)
from calibrant.report.plots.grids import EITHER, about_zero, bar, cells, plain, square
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import (
    BELOW,
    LEFT,
    LOW,
    TALL,
    Columns,
    Style,
    absent,
    drawable,
    headed,
    hide_numbers,
    hollow,
    points,
    residual_lines,
    scaled,
    sheet,
    styles,
    titled,
    typical,
    typical_facts,
)

NUMBERS = ("gain", "read_noise", "a00", "turnoff")
FLOOR, SHOT, STRAIGHT = Style(INK, line="--"), Style(INK, line=":"), Style(INK, line=":")
SIDE = 4.4
SURE = 3.0
"""Sigmas from which on an element of a matrix is written down."""
RANGE = 5.0
MEAN = "mean above the bias"


def noise_curve(product: Product) -> Figure:
    """Noise against signal, both logarithmic, with residuals in sigmas.

    Read noise is level at the left, photon noise rises with slope 1/2; hollow points are not in the fit.

    Parameters
    ----------
    product : Product
        Kind ``gain`` with the table ``ptc``: mean [adu], variance and model [adu2], residual [sigma], used.

    Raises
    ------
    SelectionError
        If the product has no such table, or no amplifier has a curve.
    """
    found = _curves(product)
    looks = styles(found)
    gain, noise = typical(product, "gain"), typical(product, "read_noise")
    key = _entries(looks, (FLOOR.entry("read noise"), SHOT.entry("photon noise")))
    figure, axes = sheet(titled(product, "noise against signal"), _facts(product, found), (TALL, LOW), key)
    dress(axes[0], "", label("noise", "adu"), grid=True)
    axes[0].set_xscale("log")
    axes[0].set_yscale("log")
    for name, rows in found.items():
        lit = (rows["mean"] > 0) & (rows["variance"] > 0)
        mean, used = rows["mean"][lit], rows["used"][lit].astype(bool)
        points(axes[0], mean, np.sqrt(rows["variance"][lit]), looks[name], used)
        _model(axes[0], rows, looks[name], np.sqrt)
    _regimes(axes[0], gain, noise)
    _residuals(axes[1], found, looks)
    hide_numbers(axes)
    return figure


def variance_curve(product: Product) -> Figure:
    """Variance against mean with the models, and below the residuals in sigmas.

    Parameters
    ----------
    product : Product
        As of `noise_curve`. Hollow points were left out of the fit. The dotted line is that of the typical
        gain and read noise: what the variance would be without brighter-fatter.

    Raises
    ------
    SelectionError
        If the product has no such table, or no amplifier has a curve.
    """
    found = _curves(product)
    looks = styles(found)
    gain, noise = typical(product, "gain"), typical(product, "read_noise")
    key = _entries(looks, (STRAIGHT.entry("straight line"),))
    figure, axes = sheet(titled(product, "variance against mean"), _facts(product, found), (TALL, LOW), key)
    dress(axes[0], "", label("variance", "adu2"), grid=True)
    for name, rows in found.items():
        used = rows["used"].astype(bool)
        points(axes[0], rows["mean"], rows["variance"], looks[name], used)
        _errors(axes[0], rows, looks[name])
        _model(axes[0], rows, looks[name], np.asarray)
    if math.isfinite(gain):
        low, high = axes[0].get_xlim()
        mean = np.linspace(max(low, 0.0), high, 2)
        floor = (noise / gain) ** 2 if math.isfinite(noise) else 0.0
        axes[0].plot(mean, mean / gain + floor, color=INK, linestyle=":", linewidth=1.0, zorder=1)
        axes[0].set_xlim(low, high)
    _residuals(axes[1], found, looks)
    hide_numbers(axes)
    return figure


def several_levels(product: Product) -> bool:
    """Whether the levels of a curve lie far enough apart for logarithmic axes."""
    mean = np.asarray(product.tables.get("ptc", {}).get("mean", ()), np.float64)
    lit = mean[np.isfinite(mean) & (mean > 0)]
    return lit.size > 0 and bool(lit.max() > RANGE * lit.min())


def _curves(product: Product) -> dict[str, Columns]:
    return drawable(product, "ptc", "variance", "mean", "model", "residual", "sigma", "used")


def _entries(looks: Mapping[str, Style], more: tuple[Line2D, ...]) -> list[Line2D]:
    own = [look.entry(name) for name, look in looks.items()] if len(looks) > 1 else []
    return [*own, *more]


def _facts(product: Product, found: Mapping[str, Columns]) -> tuple[str, ...]:
    return *typical_facts(product, *NUMBERS), hollow(found, "variance"), absent(product, "ptc", found)


def _model(axes: Axes, rows: Columns, look: Style, form: Callable[[Any], Any]) -> None:
    order = np.argsort(rows["mean"])
    order = order[np.isfinite(rows["model"][order]) & rows["used"][order].astype(bool)]
    axes.plot(
        rows["mean"][order], form(rows["model"][order]), color=look.colour, linestyle=look.line, linewidth=0.9
    )


def _errors(axes: Axes, rows: Columns, look: Style) -> None:
    axes.errorbar(
        rows["mean"], rows["variance"], rows["sigma"], fmt="none", ecolor=look.colour, elinewidth=0.7
    )


def _regimes(axes: Axes, gain: float, noise: float) -> None:
    """The two regimes of the typical amplifier: the floor of its read noise, and photon noise alone."""
    if not (math.isfinite(gain) and gain > 0):
        return
    limits = axes.get_xlim(), axes.get_ylim()
    ends = np.array(limits[0])
    if math.isfinite(noise):
        axes.axhline(noise / gain, color=INK, linestyle=FLOOR.line, linewidth=0.9, zorder=1)
    axes.plot(ends, np.sqrt(ends / gain), color=INK, linestyle=SHOT.line, linewidth=1.0, zorder=1)
    axes.set_xlim(*limits[0])
    axes.set_ylim(min(limits[1][0], 0.8 * noise / gain if noise > 0 else math.inf), limits[1][1])


def _residuals(axes: Axes, found: Mapping[str, Columns], looks: Mapping[str, Style]) -> None:
    dress(axes, label(MEAN, "adu"), "residual [sigma]", grid=True)
    most = 0.0
    for name, rows in found.items():
        used = rows["used"].astype(bool) & np.isfinite(rows["residual"])
        points(axes, rows["mean"][used], rows["residual"][used], looks[name], np.ones(used.sum(), bool))
        most = max(most, float(np.max(np.abs(rows["residual"][used]), initial=0.0)))
    residual_lines(axes, most)


def a_matrix(product: Product) -> Figure:
    """The matrix a, median of the amplifiers, as a map and against the distance of the pixels.

    Parameters
    ----------
    product : Product
        With the table ``a_matrix``: amplifier (if there are several), i (lag of rows), j (lag of columns),
        a and sigma [1/electron].

    Raises
    ------
    SelectionError
        If the product has no such table, or no amplifier has a matrix.
    """
    a, sigma, count = _middle(product)
    size, unit = scaled(a, "1/electron")
    facts = (
        f"median of {count} amplifiers" if count > 1 else "",
        f"numbers: {SURE:g} sigma or more",
        "a < 0 at lag 0: charge pushes charge away",
    )
    figure = headed(titled(product, "a matrix"), facts, LEFT + SIDE + 1.9 + SIDE + 0.25, BELOW + SIDE)
    noise = SURE * float(np.nanmedian(sigma)) / size if np.isfinite(sigma).any() else 0.0
    _map(figure, a / size, sigma / size, noise, unit)
    falling = figure.add_axes(Box(LEFT + SIDE + 1.9, BELOW, SIDE, SIDE).on(figure))
    _falling(falling, a / size, sigma / size, noise, unit)
    return figure


def _middle(product: Product) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Median over the amplifiers, its standard error from those stated, and how many there are."""
    table = product.tables.get("a_matrix", {})
    by = "amplifier" if "amplifier" in table else "i"
    columns = ("a", "i", "j", "sigma")
    if by == "amplifier":
        several = list(drawable(product, "a_matrix", *columns).values())
    else:
        drawable(product, "a_matrix", *columns, by="i")
        several = [table]
    n = 1 + int(max(rows[axis].max() for rows in several for axis in ("i", "j")))
    a, sigma = (
        np.array([square(rows["i"], rows["j"], rows[name], n) for rows in several]) for name in ("a", "sigma")
    )
    count = len(several)
    # The factor of the median of many normal values; for two or one it is that of the mean.
    factor = math.sqrt(math.pi / 2) if count > 2 else 1.0
    return np.nanmedian(a, axis=0), factor * np.sqrt(np.nanmean(sigma**2, axis=0) / count), count


def _map(figure: Figure, a: NDArray[np.float64], sigma: NDArray[np.float64], noise: float, unit: str) -> None:
    axes = figure.add_axes(Box(LEFT, BELOW, SIDE, SIDE).on(figure))
    dress(axes, "lag along columns [pixel]", "lag along rows [pixel]")
    norm = about_zero(float(np.nanmax(np.abs(a))), noise)

    def text(row: int, col: int) -> str:
        value, error = a[row, col], sigma[row, col]
        sure = abs(value) >= SURE * error or not math.isfinite(error)
        return f"{value:.2f}" if math.isfinite(value) and sure else ""

    cells(axes, a, norm, EITHER, text)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    bar(figure, Box(LEFT + SIDE + 0.12, BELOW, 0.14, SIDE), norm, EITHER, f"a [{unit}]")


def _falling(axes: Axes, a: NDArray[np.float64], sigma: NDArray[np.float64], noise: float, unit: str) -> None:
    dress(axes, "distance [pixel]", f"a [{unit}]", grid=True)
    distance = np.hypot(*np.indices(a.shape))
    sure = np.isfinite(a) & (np.abs(a) >= SURE * np.nan_to_num(sigma))
    for at, colour, full in ((sure, CURVES[0], "full"), (np.isfinite(a) & ~sure, FAINT, "none")):
        axes.errorbar(
            distance[at], a[at], np.nan_to_num(sigma[at]), fmt="o", markersize=4, color=colour,
            elinewidth=0.7, fillstyle=full, markeredgewidth=0.8,
        )  # fmt: skip
    if noise > 0:
        axes.set_yscale("symlog", linthresh=noise, linscale=0.8)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(plain)
    axes.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(-0.4, float(distance.max()) + 0.4)
    axes.text(
        0.98, 0.98, f"hollow: below {SURE:g} sigma", ha="right", va="top", fontsize=SMALL, color=FAINT,
        transform=axes.transAxes,
    )  # fmt: skip
