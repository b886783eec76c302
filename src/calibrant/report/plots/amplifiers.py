"""Amplifiers: their quantities as bars with errors, on the detector, and on the focal plane."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.instrument import FocalPlane, Instrument
from calibrant.instrument.sections import bounds, parse_section
from calibrant.product import Product, Quantity
from calibrant.report.plots.canvas import (
    CURVES,
    INK,
    SMALL,
    TEXT,
    Box,
    dress,
    heading,
    heading_height,
    page,
    wrapped,
)
from calibrant.report.plots.grids import NOTHING, RISING, bar, ink_on
from calibrant.report.plots.panels import product_title
from calibrant.report.plots.sheets import scaled, short, titled

PANEL, GAP, LEFT, BELOW = 1.45, 0.3, 0.95, 0.55
WIDE, MAP, BETWEEN, BAR = 4.6, 4.6, 0.35, 0.14
SKIPPED = frozenset({"pairs", "levels"})
"""Counts, which no bar says better than the table."""
CHECKS = frozenset({"chi2", "chi2_serial", "chi2_parallel", "noise_ratio", "residual_rms"})
"""How well it was measured, not what: on a page of their own."""
FEW = 9
"""Amplifiers up to which names stand upright below the bars."""
PLANE = 8.6
"""Inches of the longer side of a focal plane."""


def places(product: Product) -> list[str]:
    """Names of the amplifiers that a product has quantities of, in its order."""
    return list(dict.fromkeys(q.place for q in product.quantities if q.place))


def drawn_names(product: Product, *, checks: bool = False) -> list[str]:
    """Quantities of amplifiers that have a number: what was measured, or how well."""
    known = dict.fromkeys(q.name for q in product.quantities if q.place and math.isfinite(q.value))
    return [name for name in known if name not in SKIPPED and (name in CHECKS) == checks]


@dataclass(frozen=True, eq=False)
class _Row:
    """One quantity of all amplifiers, in the unit of its label."""

    values: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    label: str

    @property
    def good(self) -> NDArray[np.bool_]:
        return np.isfinite(self.values)

    @property
    def digits(self) -> int:
        """Places after the point that its errors allow, or else its spread."""
        errors = self.sigmas[self.good & (self.sigmas > 0)]
        spread = float(np.ptp(self.values[self.good])) if self.good.any() else 0.0
        step = float(np.median(errors)) if errors.size else spread / 50
        return 2 if step <= 0 else max(0, min(4, -math.floor(math.log10(step / 2))))

    def text(self, index: int) -> str:
        value = self.values[index]
        return f"{value:.{self.digits}f}".replace("-", "−") if math.isfinite(value) else "none"


def _row(product: Product, name: str, order: Sequence[str]) -> _Row:
    """Values and errors in the order of the amplifiers, NaN where there is none."""
    found = {q.place: q for q in product.quantities if q.name == name}
    picked = [found.get(place, Quantity(name, math.nan)) for place in order]
    values = np.array([q.value for q in picked], np.float64)
    size, unit = scaled(values, next((q.unit for q in found.values()), ""))
    words = name.replace("_", " ")
    sigmas = np.nan_to_num(np.array([q.sigma or 0.0 for q in picked], np.float64))
    return _Row(values / size, sigmas / size, f"{words} [{unit}]" if unit else words)


def bars(product: Product, names: Sequence[str] = ()) -> Figure:
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
    title, facts = titled(product, "amplifiers"), ["dashed: median of the amplifiers"]
    above = heading_height(title, facts) + 0.12
    right = BETWEEN + MAP + 0.12 + BAR + 0.75 if has_map else 0.25
    figure = page(LEFT + WIDE + right, low + tall + above)
    for number, name in enumerate(shown):
        bottom = low + (len(shown) - 1 - number) * (PANEL + GAP)
        row = _row(product, name, order)
        axes = figure.add_axes(Box(LEFT, bottom, WIDE, PANEL).on(figure))
        _bars(axes, row, order, last=number == len(shown) - 1)
        if has_map:
            _beside(figure, product, _row(product, name, _names(product)), bottom)
    heading(figure, Box(0.15, 0.0, LEFT + WIDE + right - 0.3, low + tall + above - 0.08), title, facts)
    return figure


def _bars(axes: Axes, row: _Row, order: Sequence[str], *, last: bool) -> None:
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
            place, (low + high) / 2, "none", ha="center", va="center", fontsize=SMALL, color=CURVES[1],
            rotation=90,
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


def _names(product: Product) -> list[str]:
    return [str(one) for one in product.tables["amplifiers"]["name"]]


def _beside(figure: Figure, product: Product, row: _Row, bottom: float) -> None:
    """The detector with its amplifiers coloured, and what the colours mean."""
    left = LEFT + WIDE + BETWEEN
    axes = figure.add_axes(Box(left, bottom, MAP, PANEL).on(figure))
    norm = _colours(row.values)
    shape = _shape(product)
    for index, tile in enumerate(_tiles(product, (0, 0))):
        _paint(axes, tile, row.values[index], norm)
        words = f"{_names(product)[index]}\n{row.text(index)}"
        _write(axes, tile, words, row.values[index], norm, upright=tile.width * 5.0 < shape[1] * 0.3)
    _bare(axes, shape)
    bar(figure, Box(left + MAP + 0.1, bottom, BAR, PANEL), norm, RISING, "")


@dataclass(frozen=True)
class _Tile:
    """A rectangle of pixels: first row and column, size."""

    row: int
    col: int
    height: int
    width: int


def _tiles(product: Product, first: tuple[int, int]) -> Iterator[_Tile]:
    """The amplifiers in the order of the table, the detector's corner lying at `first` row and column."""
    shape = _shape(product)
    for place in product.tables["amplifiers"]["place"]:
        r0, r1, c0, c1 = bounds(parse_section(str(place)), shape)
        yield _Tile(first[0] + r0, first[1] + c0, r1 - r0, c1 - c0)


def _shape(product: Product) -> tuple[int, int]:
    table = product.tables["amplifiers"]
    return int(table["rows"][0]), int(table["cols"][0])


def _colours(values: NDArray[np.float64]) -> Normalize:
    """From the lowest to the highest; equal values get a range of a thousandth."""
    good = values[np.isfinite(values)]
    low, high = (float(good.min()), float(good.max())) if good.size else (0.0, 1.0)
    room = max(0.5e-3 * max(abs(low), abs(high)), 1e-9)
    return Normalize(low, high) if high - low > 2 * room else Normalize(low - room, high + room)


def _paint(axes: Axes, tile: _Tile, value: float, norm: Normalize) -> None:
    axes.add_patch(
        Rectangle(
            (tile.col, tile.row), tile.width, tile.height, facecolor=_shade(value, norm), edgecolor="white",
            linewidth=0.7,
        )
    )  # fmt: skip


def _shade(value: float, norm: Normalize) -> tuple[float, ...] | str:
    return tuple(colormaps[RISING](norm(value))) if math.isfinite(value) else NOTHING


def _write(
    axes: Axes, tile: _Tile, words: str, value: float, norm: Normalize, *, upright: bool, size: float = 7.0
) -> None:
    shade = _shade(value, norm)
    axes.text(
        tile.col + tile.width / 2, tile.row + tile.height / 2, words, ha="center", va="center", fontsize=size,
        color=INK if isinstance(shade, str) else ink_on(shade), rotation=90 * upright, linespacing=1.25,
    )  # fmt: skip


def _bare(axes: Axes, shape: tuple[int, int]) -> None:
    """No ticks: places are named, not counted."""
    dress(axes)
    axes.set_xlim(0, shape[1])
    axes.set_ylim(0, shape[0])
    axes.set_xticks([])
    axes.set_yticks([])


def focal_plane(products: Iterable[Product], instrument: Instrument, quantity: str) -> Figure:
    """The detectors of a mosaic in their places, each amplifier coloured by a quantity.

    Parameters
    ----------
    products : iterable of Product
        One of each detector (its key ``detector``) with the quantity per amplifier and the table
        ``amplifiers``; or with the quantity of the whole detector.
    instrument : Instrument
        With a focal plane. Detectors without a product are grey.
    quantity : str

    Raises
    ------
    SelectionError
        If the instrument has no focal plane, no product has the quantity, or two are of one detector.
    ConfigError
        If a detector does not stand in the focal plane.
    """
    plane, found = instrument.focal_plane, _by_detector(products, quantity)
    if plane is None:
        raise SelectionError("the instrument has no focal plane", where=instrument.name)
    shape = next((_shape(p) for p in found.values() if "amplifiers" in p.tables), (1, 1))
    gap = None if shape != (1, 1) else (0, 0)
    whole = plane.shape(shape, gap)
    tall, wide = (PLANE * side / max(whole) for side in whole)
    values = np.array([q.value for p in found.values() for q in p.quantities if q.name == quantity])
    size, unit = scaled(values, _unit(found, quantity))
    norm = _colours(values / size)
    title = f"{product_title(next(iter(found.values())))}: {quantity.replace('_', ' ')} on the focal plane"
    facts = wrapped(_plane_facts(values / size, unit, plane, found), wide + 0.6, TEXT)
    above = heading_height(title, facts) + 0.12
    figure = page(0.2 + wide + 1.1, 0.3 + tall + above)
    axes = figure.add_axes(Box(0.2, 0.15, wide, tall).on(figure))
    _bare(axes, whole)
    for name in plane.names:
        first = plane.offset(name, shape, gap)
        _detector(axes, found.get(name), name, _Tile(*first, *shape), (quantity, size, norm))
    for spine in axes.spines.values():
        spine.set_visible(False)
    words = quantity.replace("_", " ")
    label_text = f"{words} [{unit}]" if unit else words
    bar(figure, Box(0.2 + wide + 0.12, 0.15, BAR, tall), norm, RISING, label_text)
    heading(figure, Box(0.2, 0.0, wide + 0.8, 0.3 + tall + above - 0.08), title, facts)
    return figure


def _by_detector(products: Iterable[Product], quantity: str) -> dict[str, Product]:
    found: dict[str, Product] = {}
    for product in products:
        name = str(product.keys.get("detector", ""))
        if name in found:
            raise SelectionError("a focal plane shows one product of each detector", got=f"two of {name!r}")
        found[name] = product
    values = [q.value for p in found.values() for q in p.quantities if q.name == quantity]
    if not any(map(math.isfinite, values)):
        known = sorted({q.name for p in found.values() for q in p.quantities})
        raise SelectionError(
            f"no product has the quantity {quantity!r}", got=", ".join(known) or "no quantities"
        )
    return found


def _unit(found: Mapping[str, Product], quantity: str) -> str:
    return next(q.unit for p in found.values() for q in p.quantities if q.name == quantity)


def _plane_facts(
    values: NDArray[np.float64], unit: str, plane: FocalPlane, found: Mapping[str, Product]
) -> tuple[str, ...]:
    good = values[np.isfinite(values)]
    lost = [name for name in plane.names if name not in found]
    return (
        f"median {short(float(np.median(good)))} {unit}".rstrip(),
        f"{short(float(good.min()))} to {short(float(good.max()))} {unit}".rstrip(),
        f"{good.size} of {values.size} measured",
        *((f"grey: no product of {', '.join(lost)}",) if lost else ()),
    )


def _detector(
    axes: Axes, product: Product | None, name: str, tile: _Tile, what: tuple[str, float, Normalize]
) -> None:
    """One detector: its amplifiers with their numbers, its name in the middle."""
    quantity, size, norm = what
    across = axes.get_xlim()[1] / tile.width
    if product is None:
        _paint(axes, tile, math.nan, norm)
        _write(axes, tile, f"{name}\nno product", math.nan, norm, upright=False, size=SMALL)
        return
    order = places(product)
    if "amplifiers" not in product.tables or not order:
        value = next((q.value / size for q in product.quantities if q.name == quantity), math.nan)
        _paint(axes, tile, value, norm)
        _write(axes, tile, f"{name}\n{short(value)}", value, norm, upright=False, size=TEXT)
        return
    row = _row(product, quantity, _names(product))
    values = np.array([q.value for q in _picked(product, quantity)]) / size
    for index, part in enumerate(_tiles(product, (tile.row, tile.col))):
        _paint(axes, part, values[index], norm)
        words = row.text(index)
        _write(axes, part, words, values[index], norm, upright=True, size=max(4.5, min(8.0, 26 / across)))
    axes.text(
        tile.col + tile.width / 2, tile.row + tile.height / 2, name, ha="center", va="center", fontsize=SMALL,
        color=INK, bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"},
    )  # fmt: skip


def _picked(product: Product, quantity: str) -> list[Quantity]:
    found = {q.place: q for q in product.quantities if q.name == quantity}
    return [found.get(name, Quantity(quantity, math.nan)) for name in _names(product)]
