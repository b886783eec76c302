"""Amplifiers in the colours of their numbers: quantities of a product as planes of an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from calibrant.instrument.sections import bounds, parse_section
from calibrant.product import Product, Quantity
from calibrant.web.patchwork import Patch, Patchwork, Uniform
from calibrant.web.planes import Plane

TABLE = "amplifiers"
"""Of a product: where its amplifiers lie."""


@dataclass(frozen=True)
class Amplifier:
    """Where the data of an amplifier lie in the image: rows and columns, half open.

    Attributes
    ----------
    margins : mapping of str to (int, int, int, int)
        Of a raw image: rows and columns, half open, of its overscans and prescan by their names.
    """

    name: str
    rows: tuple[int, int]
    cols: tuple[int, int]
    gain: float | None = None
    read_noise: float | None = None
    margins: Mapping[str, tuple[int, int, int, int]] = field(default_factory=dict)

    def holds(self, row: int, col: int) -> bool:
        """Whether a pixel is its own."""
        return self.rows[0] <= row < self.rows[1] and self.cols[0] <= col < self.cols[1]

    def told(self, row: int, col: int) -> str | None:
        """Its name at a pixel of its data; name and margin at one that is read beside them; else None."""
        if self.holds(row, col):
            return self.name
        beside = (
            name for name, (r0, r1, c0, c1) in self.margins.items() if r0 <= row < r1 and c0 <= col < c1
        )
        return next((f"{self.name}, {name}" for name in beside), None)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.rows[1] - self.rows[0], self.cols[1] - self.cols[0]


def amplifiers_of(product: Product) -> tuple[Amplifier, ...]:
    """The amplifiers as a product's table places them; none without the table."""
    table = product.tables.get(TABLE, {})
    if not {"name", "place"} <= set(table):
        return ()
    shape = tuple(
        int(table[axis][0]) if axis in table and len(table[axis]) else 0 for axis in ("rows", "cols")
    )
    found = []
    for name, place in zip(table["name"], table["place"], strict=True):
        r0, r1, c0, c1 = bounds(parse_section(str(place)), (shape[0], shape[1]))
        found.append(Amplifier(str(name), (r0, r1), (c0, c1)))
    return tuple(found)


def size_of(amplifiers: Iterable[Amplifier]) -> tuple[int, int]:
    """Rows, columns up to the farthest end of some amplifiers."""
    ends = [(one.rows[1], one.cols[1]) for one in amplifiers]
    return max(rows for rows, _ in ends), max(cols for _, cols in ends)


def patches(
    quantities: Iterable[Quantity],
    amplifiers: Iterable[Amplifier],
    size: tuple[int, int],
    corner: tuple[int, int] = (0, 0),
) -> Iterator[tuple[str, str, Patch]]:
    """Name and unit of each quantity that has a place in a detector, and the patch of its value.

    Parameters
    ----------
    quantities : iterable of Quantity
        Of an amplifier, or of the detector as a whole.
    amplifiers : iterable of Amplifier
        Of the detector.
    size, corner : (int, int)
        Of the detector, and where its first pixel lies.
    """
    places = {one.name: one for one in amplifiers}
    for quantity in quantities:
        if not quantity.place:
            yield quantity.name, quantity.unit, Patch(Uniform(quantity.value, size[1]), *corner, size)
        elif quantity.place in places:
            one = places[quantity.place]
            at = corner[0] + one.rows[0], corner[1] + one.cols[0]
            yield quantity.name, quantity.unit, Patch(Uniform(quantity.value, one.shape[1]), *at, one.shape)


def planes(found: Iterable[tuple[str, str, Patch]], whole: tuple[int, int]) -> Iterator[Plane]:
    """A plane for each quantity of `patches`."""
    named: dict[str, tuple[str, list[Patch]]] = {}
    for name, unit, patch in found:
        named.setdefault(name, (unit, []))[1].append(patch)
    for name, (unit, own) in named.items():
        yield Plane(name, unit, Patchwork(whole, own))
