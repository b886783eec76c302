"""Panels: several images on one page, each with its own limits: masters, and the steps of a frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrant.errors import OptionError, SelectionError
from calibrant.frame import Frame
from calibrant.product import Product, Quantity
from calibrant.report.plots.canvas import (
    TEXT,
    TITLE,
    Box,
    heading,
    heading_height,
    page,
    shortened,
    wrapped,
    write,
)
from calibrant.report.plots.drawing import (
    LEGEND_ROW,
    Picture,
    draw,
    image_size,
    legend,
    legend_entries,
    legend_rows,
)
from calibrant.report.plots.images import size_facts
from calibrant.report.plots.look import Limits, Look
from calibrant.report.plots.pixels import RAISED, Shown, shown, unit_text

PAGE = 14.0
"""Widest page, inches."""
WIDE, TALL = 7.5, 4.3
"""Room for one image, inches; less where many stand side by side."""
LEFT, RIGHT, BELOW, GAP = 0.72, 1.0, 0.55, 0.2
WORDS = 3.6
"""Least width of a panel, for its words, inches."""
DEFECTS_LOOK = Look(limits=(-1.0, 0.07))
"""Zero as a light grey, on which every colour of flags is seen."""
MOST_FACTS = 8
TECHNICAL = frozenset(
    {"frames_per_second", "intercept", "slope", "pixel_std_median", "pixel_noise_median", "drift", "time_min"}
)
"""Quantities for those who open the file: a picture has room for what a reader knows by its name."""
Panel = Picture | tuple[str, tuple[str, ...]]
"""A picture, or the title and facts of what has no pixels."""


def masters(
    products: Product | Iterable[Product] | Mapping[str, Product],
    *,
    plane: str = "data",
    stretch: str = "linear",
    limits: Limits = "zscale",
    low: float | None = None,
    high: float | None = None,
    cmap: str = "gray",
    title: str = "",
) -> Figure:
    """Masters side by side, each between its own limits and in its own unit.

    Parameters
    ----------
    products : Product, or several, or a mapping of titles to them
        A product without the plane asked for shows its flags, and where it has none its numbers.
    plane : str
        ``data``, ``variance``, ``read_noise``, ``count`` ...
    stretch, limits, low, high, cmap
        As of `image`, for each panel by itself.
    title : str
        Above all of them.

    Raises
    ------
    SelectionError
        If there is no product.
    OptionError
        If no product has the plane, or for an option without meaning.
    """
    named = _named(products)
    if plane != "data" and not any(plane in product.planes for _, product in named):
        known = sorted({name for _, product in named for name in product.planes})
        raise OptionError("no product has this plane", where=plane, expected=", ".join(known) or "no planes")
    look = Look(limits, stretch, low, high, cmap)
    return panels([_panel(name, product, plane, look) for name, product in named], title)


def sequence(
    steps: Sequence[tuple[str, Frame | NDArray[Any]]] | Mapping[str, Frame | NDArray[Any]],
    *,
    stretch: str = "linear",
    limits: Limits = "zscale",
    low: float | None = None,
    high: float | None = None,
    cmap: str = "gray",
    title: str = "",
) -> Figure:
    """One frame on its way: raw, without bias, without dark, flattened; each step between its own limits.

    Parameters
    ----------
    steps : sequence of (title, Frame or array), or mapping
        In the order in which they are read.
    stretch, limits, low, high, cmap
        As of `image`, for each panel by itself.
    title : str
        Above all of them.

    Raises
    ------
    SelectionError
        If there is no step.
    """
    pairs = list(steps.items()) if isinstance(steps, Mapping) else list(steps)
    look = Look(limits, stretch, low, high, cmap)
    pictures = []
    for name, step in pairs:
        what = shown(step)
        quantity = "" if isinstance(step, Frame) else "value"
        pictures.append(
            Picture(what, look, title=name, facts=(what.note,) * bool(what.note), quantity=quantity)
        )
    return panels(pictures, title)


def _named(products: Any) -> list[tuple[str, Product]]:
    if isinstance(products, Product):
        products = [products]
    if isinstance(products, Mapping):
        return [(str(name), product) for name, product in products.items()]
    return [(product_title(product), product) for product in products]


def product_title(product: Product) -> str:
    """What the product is and of how many frames: ``Master dark of 10 frames``."""
    inputs = len(product.provenance.inputs)
    kind = product.kind.replace("_", " ")
    word = f"Master {kind}" if "data" in product.planes else kind.capitalize()
    return f"{word} of {inputs} frame{'s' if inputs != 1 else ''}" if inputs else word


def product_facts(product: Product) -> tuple[str, ...]:
    """Its most telling keys and quantities, in short words; those of single places are left to the tables."""
    keys = [_key_fact(name, value) for name, value in product.keys.items()]
    numbers = [
        quantity_text(q)
        for q in product.quantities
        if not q.place and math.isfinite(q.value) and q.name not in TECHNICAL
    ]
    return tuple([fact for fact in keys if fact] + numbers)[:MOST_FACTS]


def _key_fact(name: str, value: Any) -> str:
    if (
        value is None
        or (name == "binning" and tuple(np.atleast_1d(value)) == (1, 1))
        or isinstance(value, bool)
    ):
        return ""
    if name == "temperature" and isinstance(value, (int, float)):
        return f"{value:.1f} °C".replace("-", "−")
    if name in ("exptime", "duration", "dark_time") and isinstance(value, (int, float)):
        return f"{value:g} s"
    if name == "binning":
        return "binned " + " × ".join(str(n) for n in np.atleast_1d(value))
    return f"{name.replace('_', ' ')} {value}"


def quantity_text(quantity: Quantity) -> str:
    """``read noise 6.702 ± 0.031 ADU``: two digits of the uncertainty, four of a value without one."""
    place = f" ({quantity.place})" if quantity.place else ""
    number = _measured(quantity.value, quantity.sigma)
    text = f"{quantity.name.replace('_', ' ')}{place} {number} {unit_text(quantity.unit)}"
    return text.strip().replace("-", "−")


def _measured(value: float, sigma: float | None) -> str:
    if sigma is None or not (math.isfinite(sigma) and sigma > 0 and math.isfinite(value)):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"
    digits = 1 - math.floor(math.log10(sigma))
    if -5 <= digits <= (6 if abs(value) >= 0.1 else 5):
        return f"{value:.{max(digits, 0)}f} ± {sigma:.{max(digits, 0)}f}"
    power = math.floor(math.log10(max(abs(value), sigma)))
    digits = max(digits + power, 0)
    scaled = f"{value / 10.0**power:.{digits}f} ± {sigma / 10.0**power:.{digits}f}"
    return f"({scaled})×10{str(power).translate(RAISED)}"


def _panel(title: str, product: Product, plane: str, look: Look) -> Panel:
    """The picture of a product, or its title and facts where it has no pixels to show."""
    own = product_title(product)
    facts = (own,) * (title != own) + product_facts(product)
    name = plane if plane in product.planes else "dq" if "dq" in product.planes else None
    if name is None:
        places = tuple(quantity_text(q) for q in product.quantities if q.place)
        return title, (*facts, *places)
    what = shown_plane(product, name)
    flags = name == "dq" and plane == "data"
    return Picture(
        what,
        DEFECTS_LOOK if flags else look,
        title,
        (*facts, *size_facts(what)),
        flags=0xFFFFFFFF if flags else 0,
        colorbar=not flags,
        quantity="" if name == "data" else name.replace("_", " "),
    )


def shown_plane(product: Product, name: str) -> Shown:
    """One plane of a product with its flags and unit; one of flags alone is shown as zeros under them."""
    dq = product.planes.get("dq")
    if name == "dq" and "data" not in product.planes and dq is not None:
        return replace(shown(np.zeros(dq.shape, np.float32), dq), blank=np.zeros(dq.shape, bool))
    values = product.planes[name]
    if name == "dq" or (dq is not None and dq.shape != values.shape[-2:]):
        dq = None
    return shown(values, dq, product.units.get(name, ""))


def panels(pictures: Sequence[Panel], title: str = "", columns: int | None = None) -> Figure:
    """Pictures on one page, in as many columns as make the page a little wider than high, unless given.

    Parameters
    ----------
    pictures : sequence
        Pictures; or, for what has no pixels, a title and the facts to print.

    Raises
    ------
    SelectionError
        If there is none.
    """
    if not pictures:
        raise SelectionError("there is nothing to draw", expected="one picture or more", got=0)
    columns = columns or _columns(pictures)
    cells = [_cell(picture, columns) for picture in pictures]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    widths = [max(row[c].width for row in rows if c < len(row)) for c in range(columns)]
    heads = [max(cell.head for cell in row) for row in rows]
    heights = [head + max(cell.height for cell in row) for head, row in zip(heads, rows, strict=True)]
    above = 0.1 + (TITLE + 2) * 2.0 / 72 if title else 0.12
    figure = page(sum(widths) + GAP * columns, sum(heights) + GAP * (len(rows) - 1) + above + 0.1)
    wide, tall = figure.get_size_inches()
    if title:
        write(
            figure,
            0.15,
            tall - 0.12,
            shortened(title, wide - 0.3, TITLE + 2, bold=True),
            TITLE + 2,
            bold=True,
        )
    top = tall - above
    for r, row in enumerate(rows):
        for c in range(len(row)):
            place = Box(sum(widths[:c]) + GAP * c, top - heights[r], widths[c], heights[r])
            _place(figure, place, heads[r], row[c], pictures[r * columns + c])
        top -= heights[r] + GAP
    return figure


@dataclass(frozen=True)
class _Cell:
    """Sizes of a panel, inches: whole width, heading, all that is beneath the heading, and the image."""

    width: float
    head: float
    height: float
    image: tuple[float, float] = (0.0, 0.0)


def _columns(pictures: Sequence[Panel]) -> int:
    """The number of columns whose page comes nearest to a ratio of 1.5, with few empty places."""

    def cost(columns: int) -> float:
        sizes = [_cell(picture, columns) for picture in pictures]
        rows = -(-len(sizes) // columns)
        wide = max(cell.width for cell in sizes) * columns
        tall = max(cell.head + cell.height for cell in sizes) * rows
        return abs(math.log(wide / tall / 1.5)) + 1.5 * (rows * columns - len(sizes)) / len(sizes)

    return min(range(1, min(4, len(pictures)) + 1), key=cost)


def _cell(picture: Panel, columns: int) -> _Cell:
    if isinstance(picture, tuple):
        title, facts = picture
        return _Cell(WORDS, heading_height(title, list(facts)), 0.2)
    room = min(WIDE, PAGE / columns - LEFT - RIGHT - GAP)
    width, height = image_size(picture.shape, room, min(TALL, room))
    whole = max(LEFT + width + RIGHT, WORDS)
    legend_room = LEGEND_ROW * legend_rows(legend_entries(picture), whole)
    head = heading_height(picture.title, wrapped(picture.facts, whole - 0.3, TEXT)) + 0.04
    return _Cell(whole, head, height + BELOW + legend_room, (width, height))


def _place(figure: Figure, place: Box, head: float, cell: _Cell, picture: Panel) -> None:
    """Draw one panel, title up, legend down; images of one row begin at one height."""
    words = Box(place.left + 0.15, place.bottom, place.width - 0.3, place.height)
    if isinstance(picture, tuple):
        title, facts = picture
        heading(figure, words, title, list(facts) or ["no pixels, no numbers"])
        return
    heading(figure, words, picture.title, wrapped(picture.facts, cell.width - 0.3, TEXT))
    width, height = cell.image
    box = Box(place.left + LEFT, place.bottom + place.height - head - height, width, height)
    draw(figure, box, picture)
    entries = legend_entries(picture)
    if entries:
        legend(figure, entries, Box(place.left, box.bottom - BELOW, cell.width, 0.0))
