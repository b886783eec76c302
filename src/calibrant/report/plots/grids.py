"""Grids: matrices as coloured cells with their numbers, grey where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from calibrant.report.plots.canvas import FAINT, INK, SMALL, TEXT, Box

NOTHING = "#C4C4C4"
"""Grey of a cell without a number: no colour of the maps in use."""
EITHER, RISING = "RdBu_r", "viridis"
"""Colour maps about zero, and from low to high: told apart with every kind of colour vision."""


def ink_on(colour: tuple[float, ...]) -> str:
    """White on dark colours, black on light ones (relative luminance of sRGB, weights of Rec. 709)."""
    red, green, blue = colour[:3]
    return "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.45 else INK


def about_zero(reach: float, noise: float) -> Normalize:
    """Colours about zero: linear and pale up to `noise`, logarithmic beyond it up to `reach`."""
    if not (0 < noise < 0.3 * reach):
        return Normalize(-reach, reach)
    return SymLogNorm(noise, linscale=0.4, vmin=-reach, vmax=reach)


def cells(
    axes: Axes,
    values: NDArray[np.float64],
    norm: Normalize,
    cmap: str,
    text: Callable[[int, int], str],
    *,
    size: float = SMALL - 1.5,
) -> None:
    """Colour each cell by its value, and write into it.

    Parameters
    ----------
    axes : Axes
    values : array
        (rows, cols), row 0 at the bottom; NaN is grey.
    norm : Normalize
    cmap : str
    text : callable
        Row, column -> what stands in the cell.
    size : float
        Of the type, points.
    """
    colours = colormaps[cmap].with_extremes(bad=NOTHING)
    shown = np.ma.masked_invalid(values)
    axes.imshow(shown, origin="lower", cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    for row, col in np.ndindex(*values.shape):
        words = text(row, col)
        if words:
            ink = ink_on(tuple(colours(norm(shown[row, col]))))
            axes.text(col, row, words.replace("-", "−"), ha="center", va="center", fontsize=size, color=ink)


def _beyond(norm: Normalize, values: ArrayLike | None) -> Literal["neither", "both", "min", "max"]:
    if values is None or norm.vmin is None or norm.vmax is None:
        return "neither"
    every = np.asarray(values, np.float64)
    low, high = bool(np.any(every < norm.vmin)), bool(np.any(every > norm.vmax))
    return ("both" if high else "min") if low else ("max" if high else "neither")


def decades(noise: float, reach: float) -> list[float]:
    """Ticks of an axis that `about_zero` bends: zero, and powers of ten beyond the noise on both sides."""
    powers = 10.0 ** np.arange(np.floor(np.log10(noise)), np.floor(np.log10(reach)) + 1)
    if len(powers) < 4:
        powers = np.sort(np.concatenate([powers, 3.0 * powers]))
    powers = powers[(powers >= noise) & (powers <= reach)]
    return [*(-powers[::-1]), 0.0, *powers]


def plain(value: float, place: float = 0.0) -> str:
    """A tick of a logarithmic axis as a number: ``−0.1``."""
    del place
    return f"{value:g}".replace("-", "−")


def bar(
    figure: Figure, box: Box, norm: Normalize, cmap: str, label: str, values: ArrayLike | None = None
) -> Axes:
    """A colour bar in its own place, with pointed ends where `values` lie beyond it."""
    axes = figure.add_axes(box.on(figure))
    shown = figure.colorbar(
        ScalarMappable(norm, cmap), cax=axes, extend=_beyond(norm, values), extendfrac=0.04
    )
    shown.set_label(label, fontsize=TEXT, color=INK)
    axes.minorticks_off()
    if isinstance(norm, SymLogNorm):
        shown.set_ticks(decades(norm.linthresh, float(norm.vmax or 0.0)))
        axes.yaxis.set_major_formatter(plain)
    axes.tick_params(labelsize=SMALL, labelcolor=INK, color=FAINT, width=0.7, length=3)
    shown.outline.set_edgecolor(FAINT)
    return axes


def square(rows: ArrayLike, cols: ArrayLike, values: ArrayLike, size: int) -> NDArray[np.float64]:
    """A table of rows, columns and values as a matrix, NaN where the table has none."""
    plane = np.full((size, size), np.nan)
    plane[np.asarray(rows, int), np.asarray(cols, int)] = values
    return plane
