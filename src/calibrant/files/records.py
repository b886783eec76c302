"""The table PROVENANCE: facts as rows (what, name, value), each value in JSON, so that nothing is rounded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import FileError
from calibrant.files.encode import Unit, table_unit
from calibrant.files.header import Contents
from calibrant.files.tables import read_table
from calibrant.frame import DQ

PROVENANCE = "PROVENANCE"
DQ_DEF = "DQ_DEF"
VERSION = "CALVERS"  # card of the primary header: version of our layout, and the mark that a file is ours
LAYOUT_VERSION = 1

Row = tuple[str, str, Any]


def provenance_unit(rows: Iterable[Row]) -> Unit:
    """Rows as the table PROVENANCE."""
    listed = [(what, name, json.dumps(plain(value))) for what, name, value in rows]
    columns: dict[str, NDArray[Any]] = {
        label: np.array([row[n] for row in listed], np.str_)
        for n, label in enumerate(("what", "name", "value"))
    }
    return table_unit(columns, PROVENANCE)


def definitions_unit() -> Unit:
    """The bits of `DQ` with their sentences as the table DQ_DEF."""
    bits = list(DQ)
    columns: dict[str, NDArray[Any]] = {
        "BIT": np.array([bit.value.bit_length() - 1 for bit in bits], np.int32),
        "VALUE": np.array([bit.value for bit in bits], np.int64),
        "NAME": np.array([bit.name for bit in bits]),
        "DESCRIPTION": np.array([bit.sentence for bit in bits]),
    }
    return table_unit(columns, DQ_DEF)


@dataclass(frozen=True)
class Records:
    """What PROVENANCE of a file says.

    Attributes
    ----------
    rows : tuple of (what, name, value)
    """

    path: str
    rows: tuple[Row, ...] = field(default_factory=tuple)

    @classmethod
    def read(cls, contents: Contents) -> Records:
        """Those of a file of ours.

        Raises
        ------
        FileError
            If the table is missing or broken, or the file is of a version that is yet to come.
        """
        version = contents.hdus[0].header.get(VERSION)
        if not isinstance(version, int) or version > LAYOUT_VERSION:
            raise FileError(
                "the file was written by a newer version",
                where=contents.path,
                expected=f"layout {LAYOUT_VERSION}",
                got=version,
                do="install that version",
            )
        hdu = contents.find(PROVENANCE)
        if hdu is None:
            raise FileError("the table PROVENANCE is missing", where=contents.path, do="write it again")
        table = read_table(contents, hdu)
        try:
            rows = tuple(
                (what, name, tupled(json.loads(value)))
                for what, name, value in zip(
                    *(table[label].tolist() for label in ("what", "name", "value")), strict=True
                )
            )
        except (KeyError, ValueError) as error:
            raise FileError(f"the table PROVENANCE is broken ({error})", where=contents.path) from None
        return cls(contents.path, rows)

    def all(self, what: str) -> Iterator[tuple[str, Any]]:
        """Name and value of every row of a sort."""
        return ((name, value) for sort, name, value in self.rows if sort == what)

    def mapping(self, what: str) -> dict[str, Any]:
        """Rows of a sort by name."""
        return dict(self.all(what))


def is_ours(contents: Contents) -> bool:
    """Whether a file is written in our layout."""
    return VERSION in contents.hdus[0].header


def plain(value: Any) -> Any:
    """A value that JSON can hold; numbers of NumPy become Python's, sets sorted lists."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def tupled(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    if isinstance(value, list):
        return tuple(tupled(item) for item in value)
    if isinstance(value, dict):
        return {name: tupled(item) for name, item in value.items()}
    return value


def unique(name: str, taken: set[str]) -> str:
    """An EXTNAME that no other unit of the file has; it is added to `taken`."""
    base = "".join(c if c.isalnum() else "_" for c in name.upper().encode("ascii", "replace").decode())[:60]
    found, number = base or "PLANE", 2
    while found in taken:
        found, number = f"{base}_{number}", number + 1
    taken.add(found)
    return found
