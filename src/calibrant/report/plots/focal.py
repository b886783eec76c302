"""The focal plane: detectors in their places, each amplifier coloured by a quantity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.instrument import FocalPlane, Instrument
from calibrant.product import Product, Quantity
from calibrant.report.plots.amplifiers import BAR, places, row_of
from calibrant.report.plots.canvas import INK, SMALL, TEXT, Box
from calibrant.report.plots.grids import NOTHING, RISING, bar
from calibrant.report.plots.panels import product_title
from calibrant.report.plots.sheets import headed, scaled, short, with_unit
from calibrant.report.plots.tiles import Tile, bare, names_of, paint, rising, shade, shape_of, tiles, write_in

GAP = 0.05
"""Of a detector: between neighbours, whatever the camera has."""
PLANE = 8.6
"""Inches of the longer side of a focal plane."""


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
    for name in found:
        plane.where(name)  # says so if it does not stand there
    shape = next((shape_of(p) for p in found.values() if "amplifiers" in p.tables), (100, 100))
    gap = round(GAP * shape[0]), round(GAP * shape[1])
    whole = plane.shape(shape, gap)
    tall, wide = (PLANE * side / max(whole) for side in whole)
    values = np.array([q.value for p in found.values() for q in p.quantities if q.name == quantity])
    size, unit = scaled(values, _unit(found, quantity))
    norm = rising(values / size)
    title = f"{product_title(next(iter(found.values())))}: {quantity.replace('_', ' ')} on the focal plane"
    facts = _plane_facts(values / size, unit, plane, found)
    figure = headed(title, facts, 0.2 + wide + 1.1, 0.15 + tall)
    axes = figure.add_axes(Box(0.2, 0.15, wide, tall).on(figure))
    bare(axes, whole)
    for name in plane.names:
        first = plane.offset(name, shape, gap)
        _detector(axes, found.get(name), name, Tile(*first, *shape), (quantity, size, norm))
    for spine in axes.spines.values():
        spine.set_visible(False)
    words = quantity.replace("_", " ")
    label_text = f"{words} [{unit}]" if unit else words
    bar(figure, Box(0.2 + wide + 0.12, 0.15, BAR, tall), norm, RISING, label_text, values / size)
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
        f"median {with_unit(short(float(np.median(good))), unit)}",
        f"{short(float(good.min()))} to {with_unit(short(float(good.max())), unit)}",
        f"{good.size} of {values.size} measured",
        "gaps not to scale",
        *((f"grey: no product of {', '.join(lost)}",) if lost else ()),
    )


def _detector(
    axes: Axes, product: Product | None, name: str, tile: Tile, what: tuple[str, float, Normalize]
) -> None:
    """One detector: its amplifiers with their numbers, its name in the middle."""
    quantity, size, norm = what
    across = axes.get_xlim()[1] / tile.width
    if product is None:
        paint(axes, tile, math.nan, norm)
        write_in(axes, tile, f"{name}\nno product", NOTHING, size=SMALL)
        return
    order = places(product)
    if "amplifiers" not in product.tables or not order:
        value = next((q.value / size for q in product.quantities if q.name == quantity), math.nan)
        paint(axes, tile, value, norm)
        write_in(axes, tile, f"{name}\n{short(value)}", shade(value, norm), size=TEXT)
        return
    row = row_of(product, quantity, names_of(product))
    values = np.array([q.value for q in _picked(product, quantity)]) / size
    for index, part in enumerate(tiles(product, (tile.row, tile.col))):
        paint(axes, part, values[index], norm)
        words = row.text(index)
        write_in(
            axes, part, words, shade(values[index], norm), upright=True, size=max(4.5, min(8.0, 26 / across))
        )
    axes.text(
        tile.col + tile.width / 2, tile.row + tile.height / 2, name, ha="center", va="center", fontsize=SMALL,
        color=INK, bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"},
    )  # fmt: skip


def _picked(product: Product, quantity: str) -> list[Quantity]:
    found = {q.place: q for q in product.quantities if q.name == quantity}
    return [found.get(name, Quantity(quantity, math.nan)) for name in names_of(product)]
