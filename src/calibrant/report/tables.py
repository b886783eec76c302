"""Tables of a report: quantities with sigma, unit, limits and mark; few columns each, none cut on paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from calibrant.product import Quantity
from calibrant.registry.records import Item
from calibrant.report.verdicts import FAIL, PASS
from calibrant.report.words import UNKNOWN, count, head, limits, measured, plain, unit, with_sigma

WIDE = 6
"""Columns of numbers beside each other on a page of A4."""
Bounds = Mapping[tuple[str, str], Item]


@dataclass(frozen=True)
class Numbers:
    """What the table of a product's numbers is made of.

    Attributes
    ----------
    name : str
        Of the product.
    kind : str
    quantities : sequence of Quantity
    bounds : mapping
        (name, place) -> the limits that it was held against.
    """

    name: str
    kind: str
    quantities: Sequence[Quantity]
    bounds: Bounds = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A number in words, and how it stands to its limits; empty if it has none."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Line:
    """One quantity in a table with a line for each."""

    name: str
    value: str
    sigma: str
    unit: str
    limits: str
    mark: str


@dataclass(frozen=True)
class Table:
    """Numbers in rows and columns.

    Attributes
    ----------
    title : str
    corner : str
        What the rows are.
    heads, limits : sequence of str
        Name and unit of each column, and its limits; empty if no column has any.
    rows : sequence of (str, sequence of Cell)
    lines : sequence of Line
        Instead of rows, where each quantity has a line.
    """

    title: str
    corner: str = ""
    heads: Sequence[str] = ()
    limits: Sequence[str] = ()
    rows: Sequence[tuple[str, Sequence[Cell]]] = ()
    lines: Sequence[Line] = ()


def tables(found: Sequence[Numbers]) -> Iterator[tuple[str, list[Table]]]:
    """The tables of measurements: kind, and those of its products.

    Products of one kind that state numbers of the whole detector are rows of one table; one alone has a line
    for each number; numbers of places have a table for each product.

    Parameters
    ----------
    found : sequence of Numbers
        In order.
    """
    for kind, several in groupby(sorted(found, key=lambda one: [n.kind for n in found].index(one.kind)),
                                 key=lambda one: one.kind):  # fmt: skip
        group = [one for one in several if one.quantities]
        if group:
            yield plain(kind), list(_of_kind(plain(kind), group))


def _of_kind(kind: str, group: Sequence[Numbers]) -> Iterator[Table]:
    if len(group) > 1:
        rows = {one.name: {(q.name, ""): q for q in one.quantities if not q.place} for one in group}
        judged = {one.name: one.bounds for one in group}
        yield from _grid(f"{kind}: {count(len(group), 'product')}", "product", rows, judged)
    shared = _shared(group)
    if shared:
        yield from _of_places(_beside(kind, shared, group))
    for one in group:
        whole = [q for q in one.quantities if not q.place]
        if len(group) == 1 and whole:
            yield Table(one.name, lines=[_line(q, one.bounds) for q in whole])
        if not shared:
            yield from _of_places(one)


def _shared(group: Sequence[Numbers]) -> str:
    """The only quantity that several products state of places; empty if there are more."""
    names = {q.name for one in group for q in one.quantities if q.place}
    return names.pop() if len(names) == 1 and len(group) > 1 else ""


def _beside(kind: str, name: str, group: Sequence[Numbers]) -> Numbers:
    """One quantity of places, with a column for each product."""
    quantities = [replace(q, name=one.name) for one in group for q in one.quantities if q.place]
    bounds = {
        (one.name, place): item for one in group for (n, place), item in one.bounds.items() if n == name
    }
    return Numbers(f"{kind}: {plain(name)}", kind, quantities, bounds)


def _of_places(one: Numbers) -> Iterator[Table]:
    """A row for each place; places that share no quantity (amplifiers, sides) have tables of their own."""
    groups: list[dict[str, dict[tuple[str, str], Quantity]]] = []
    for place in dict.fromkeys(q.place for q in one.quantities if q.place):
        own = {(q.name, ""): q for q in one.quantities if q.place == place}
        group = next((rows for rows in groups if own.keys() & next(iter(rows.values())).keys()), None)
        if group is None:
            groups.append({place: own})
        else:
            group[place] = own
    for rows in groups:
        bounds = {
            place: {(n, ""): item for (n, p), item in one.bounds.items() if p == place} for place in rows
        }
        yield from _grid(one.name, "place", rows, bounds)


def _grid(
    title: str,
    corner: str,
    rows: Mapping[str, Mapping[tuple[str, str], Quantity]],
    bounds: Mapping[str, Bounds],
) -> Iterator[Table]:
    """Rows and columns, as many tables as keep each of them narrow."""
    first = {key: quantity for own in reversed(list(rows.values())) for key, quantity in own.items()}
    columns = list(dict.fromkeys(key for own in rows.values() for key in own))
    for start in range(0, len(columns), WIDE):
        some = columns[start : start + WIDE]
        items = [next((own[key] for own in bounds.values() if key in own), None) for key in some]
        told = ["" if item is None else limits(item.low, item.high) for item in items]
        yield Table(
            title if start == 0 else f"{title}, continued",
            corner,
            [head(name, first[name, place].unit) for name, place in some],
            told if any(told) else [],
            [
                (name, [_cell(own.get(key), bounds[name].get(key)) for key in some])
                for name, own in rows.items()
            ],
        )


def _cell(quantity: Quantity | None, item: Item | None) -> Cell:
    if quantity is None:
        return Cell(UNKNOWN)
    return Cell(with_sigma(quantity.value, quantity.sigma), _mark(item))


def _mark(item: Item | None) -> str:
    return "" if item is None else PASS if item.passed else FAIL


def _line(quantity: Quantity, bounds: Bounds) -> Line:
    item = bounds.get((quantity.name, quantity.place))
    value, sigma = measured(quantity.value, quantity.sigma)
    return Line(
        plain(quantity.name),
        value,
        sigma or "unknown",
        unit(quantity.unit) or "dimensionless",
        "" if item is None else limits(item.low, item.high),
        _mark(item),
    )
