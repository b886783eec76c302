"""Cubes: files whose HDU holds several exposures, a plane each, with what their tables say of every one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import FileError
from calibrant.files.header import HDU, Contents
from calibrant.files.source import FitsSource
from calibrant.files.tables import read_table

AXES = (2, 3)


class Tables:
    """The binary tables of a file, each read when it is first asked for, and once.

    Parameters
    ----------
    rows : mapping
        Table -> HDU whose planes its rows describe; other tables have one row, for all.
    """

    def __init__(self, contents: Contents, rows: Mapping[str, str]) -> None:
        self._contents = contents
        self._rows = {table.upper(): hdu.upper() for table, hdu in rows.items()}
        self._units = {unit.name: unit for unit in contents.hdus if unit.is_table and unit.name}
        self._read: dict[str, dict[str, NDArray[Any]]] = {}

    def names(self) -> Iterator[str]:
        """``TABLE.COLUMN`` of all of them, in upper case; no table is read for it."""
        for name, unit in self._units.items():
            for number in range(1, unit.header.integer("TFIELDS", 0) + 1):
                yield f"{name}.{str(unit.header.get(f'TTYPE{number}') or '').upper()}"

    def cell(self, name: str, unit: HDU, plane: int) -> Any:
        """What a column says of a plane: the cell in its row, or in the only row; None if it is not there.

        Of a cell that is an array, such as the widths of all bins, the most frequent value.
        """
        table, _, column = name.partition(".")
        if table not in self._read:
            columns = read_table(self._contents, self._units[table])
            self._read[table] = {key.upper(): values for key, values in columns.items()}
        values = self._read[table].get(column)
        of_planes = table in self._rows
        if values is None or len(values) != (planes_of(unit) if of_planes else 1):
            return None
        if of_planes and self._rows[table] != unit.name:
            return None
        cell = values[plane if of_planes else 0]
        if np.ndim(cell):
            kinds, counts = np.unique(cell, return_counts=True)
            cell = kinds[np.argmax(counts)]
        return cell.item() if isinstance(cell, np.generic) else cell


class PlaneCards(Mapping[str, Any]):
    """The cards of one plane: ``HDU``, ``PLANE``, the header, and ``TABLE.COLUMN``."""

    def __init__(self, contents: Contents, unit: HDU, tables: Tables, plane: int) -> None:
        self._header = contents.header(unit.index)
        self._tables, self._unit, self._plane = tables, unit, plane
        self._own = {"HDU": unit.name or str(unit.index), "PLANE": plane}
        self._columns = frozenset(tables.names())

    def __getitem__(self, key: str) -> Any:
        if key in self._own:
            return self._own[key]
        if key in self._columns:
            return self._tables.cell(key, self._unit, self._plane)
        return self._header[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._columns
        yield from (key for key in self._header if key not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def planes_of(unit: HDU) -> int:
    """Number of images in a unit; one that has two axes holds one."""
    return 1 if len(unit.shape) == min(AXES) else unit.shape[0]


def cube_unit(contents: Contents, hdu: int | str | None) -> HDU:
    """The unit of a cube, or of a single image.

    Raises
    ------
    FileError
        If the file has none of that name, or it has more than three axes.
    """
    unit = contents.image(hdu)
    if len(unit.shape) not in AXES:
        raise FileError(
            "a cube has the axes plane, row and column",
            where=f"{contents.path}[{hdu}]",
            got=" x ".join(map(str, unit.shape)),
        )
    return unit


def plane_cards(
    contents: Contents, hdu: int | str | None, tables: Tables
) -> Iterator[tuple[HDU, PlaneCards]]:
    """The unit and the cards of each plane of a cube.

    Raises
    ------
    FileError
        As `cube_unit`.
    """
    unit = cube_unit(contents, hdu)
    for plane in range(planes_of(unit)):
        yield unit, PlaneCards(contents, unit, tables, plane)


def plane_source(contents: Contents, hdu: int | str | None, plane: int) -> FitsSource:
    """One plane of a cube as a Source.

    Raises
    ------
    FileError
        As `cube_unit`, or if the cube has no such plane.
    """
    unit = cube_unit(contents, hdu)
    if not 0 <= plane < planes_of(unit):
        raise FileError(
            f"the cube has no plane {plane}", where=f"{contents.path}[{hdu}]", got=f"{planes_of(unit)} planes"
        )
    source = FitsSource.of(contents, unit)
    return source if len(unit.shape) == min(AXES) else source.plane(plane)
