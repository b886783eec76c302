"""Tiles: amplifiers as coloured rectangles where they lie on a detector, with words in them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from calibrant.instrument.sections import bounds, parse_section
from calibrant.product import Product
from calibrant.report.plots.canvas import INK, dress
from calibrant.report.plots.grids import NOTHING, RISING, ink_on
from calibrant.stats import mad_std

MANY, FAR = 12, 5.0


@dataclass(frozen=True)
class Tile:
    """A rectangle of pixels: first row and column, size."""

    row: int
    col: int
    height: int
    width: int


def tiles(product: Product, first: tuple[int, int]) -> Iterator[Tile]:
    """The amplifiers in the order of the table, the detector's corner lying at `first` row and column."""
    shape = shape_of(product)
    for place in product.tables["amplifiers"]["place"]:
        r0, r1, c0, c1 = bounds(parse_section(str(place)), shape)
        yield Tile(first[0] + r0, first[1] + c0, r1 - r0, c1 - c0)


def shape_of(product: Product) -> tuple[int, int]:
    """Rows, columns of the detector: as stated, or up to the farthest end of its amplifiers."""
    table = product.tables["amplifiers"]
    if "rows" in table and "cols" in table:
        return int(table["rows"][0]), int(table["cols"][0])
    ends = [bounds(parse_section(str(place)), (0, 0)) for place in table["place"]]
    return max(end[1] for end in ends), max(end[3] for end in ends)


def rising(values: NDArray[np.float64]) -> Normalize:
    """Colours from the lowest to the highest value; one far off takes the last colour, not all of them.

    Far off is beyond `FAR` scatters of the values from their median, where there are many of them.
    """
    good = values[np.isfinite(values)]
    low, high = (float(good.min()), float(good.max())) if good.size else (0.0, 1.0)
    if good.size >= MANY:
        reach = FAR * float(mad_std(good))
        if reach > 0:
            low, high = max(low, float(np.median(good)) - reach), min(high, float(np.median(good)) + reach)
    room = max(0.5e-3 * max(abs(low), abs(high)), 1e-9)
    return Normalize(low, high) if high - low > 2 * room else Normalize(low - room, high + room)


def paint(axes: Axes, tile: Tile, value: float, norm: Normalize, cmap: str = RISING) -> None:
    """Colour a tile; grey where there is no number."""
    axes.add_patch(
        Rectangle(
            (tile.col, tile.row), tile.width, tile.height, facecolor=shade(value, norm, cmap),
            edgecolor="white", linewidth=0.7,
        )
    )  # fmt: skip


def shade(value: float, norm: Normalize, cmap: str = RISING) -> tuple[float, ...] | str:
    """The colour of a value."""
    return tuple(colormaps[cmap](norm(value))) if math.isfinite(value) else NOTHING


def write_in(
    axes: Axes,
    tile: Tile,
    words: str,
    on: tuple[float, ...] | str,
    *,
    upright: bool = False,
    size: float = 7.0,
) -> None:
    """Words in the middle of a tile whose colour is `on`."""
    axes.text(
        tile.col + tile.width / 2, tile.row + tile.height / 2, words, ha="center", va="center", fontsize=size,
        color=INK if isinstance(on, str) else ink_on(on), rotation=90 * upright, linespacing=1.25,
    )  # fmt: skip


def bare(axes: Axes, shape: tuple[int, int]) -> None:
    """No ticks: places are named, not counted."""
    dress(axes)
    axes.set_xlim(0, shape[1])
    axes.set_ylim(0, shape[0])
    axes.set_xticks([])
    axes.set_yticks([])


def names_of(product: Product) -> list[str]:
    """Names of the amplifiers in the order of the table."""
    return [str(one) for one in product.tables["amplifiers"]["name"]]
