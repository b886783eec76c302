"""Product: one class for every calibration, measurement and truth."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import SelectionError

Table = Mapping[str, NDArray[Any]]
"""A table as columns: name -> one-dimensional array, all of one length.

The unit of a column is in `Product.units` under ``table.column``."""


@dataclass(frozen=True)
class Quantity:
    """One measured number: its name, the place it belongs to, value, sigma and unit.

    Attributes
    ----------
    place : str
        Amplifier, slice, row ... or ``""`` for the whole detector.
    sigma : float or None
        Standard uncertainty in `unit`; None if unknown.
    """

    name: str
    value: float
    sigma: float | None = None
    unit: str = ""
    place: str = ""


@dataclass(frozen=True)
class Input:
    """A raw file that a product was made of, by name and by the hash of its bytes (``sha256:...``)."""

    name: str
    hash: str | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a product comes from. Not part of its identity.

    Attributes
    ----------
    effect : str
        The effect that measured it.
    inputs : tuple of Input
        Raw files.
    parents : tuple of str
        Identities of the products that prepared the pixels.
    options : mapping
        Options of the measurement, JSON-able.
    versions : mapping
        Software: name -> version.
    created : str or None
        ISO time of making, UTC.
    notes : tuple of str
        Sentences for the reader: warnings, fallbacks, decisions.
    """

    effect: str = ""
    inputs: tuple[Input, ...] = ()
    parents: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of product as its effect declares it: what its planes and quantities mean.

    Attributes
    ----------
    planes : mapping
        Name of each plane -> a sentence.
    quantities : mapping
        Name of each quantity -> a sentence.
    """

    name: str
    planes: Mapping[str, str] = field(default_factory=dict)
    quantities: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Product:
    """A calibration, a measurement, or a truth.

    Attributes
    ----------
    kind : str
        ``bias``, ``dark``, ``flat``, ``defects``, ``gain``, ...
    instrument : str
        Name of the instrument file.
    keys : mapping
        What must match before it may be used: detector, binning, filter, temperature, ...
    epoch : int or None
        Mid-time of its inputs, microseconds since 1970 UTC.
    planes : mapping of str to array
        ``data``, ``variance``, ``dq`` and further planes of the kind, (rows, cols).
    units : mapping of str to str
        Unit of each plane (and of each column as ``table.column``); ``""`` if it has none.
    tables : mapping of str to Table
    quantities : tuple of Quantity
    """

    kind: str
    instrument: str = ""
    keys: Mapping[str, Any] = field(default_factory=dict)
    epoch: int | None = None
    planes: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    quantities: tuple[Quantity, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def data(self) -> NDArray[Any]:
        """The main plane."""
        return self.planes["data"]

    @property
    def unit(self) -> str:
        """Unit of the main plane."""
        return self.units.get("data", "")

    def __iter__(self) -> Iterator[Quantity]:
        return iter(self.quantities)

    def quantity(self, name: str, place: str = "") -> Quantity:
        """The quantity `name` at `place`.

        Raises
        ------
        SelectionError
            If there is none.
        """
        for found in self.quantities:
            if found.name == name and found.place == place:
                return found
        known = (
            ", ".join(sorted({f"{q.name}[{q.place}]" if q.place else q.name for q in self.quantities}))
            or "no quantities"
        )
        raise SelectionError(
            f"the {self.kind} has no quantity {name!r}" + (f" at {place!r}" if place else ""), got=known
        )

    @cached_property
    def identity(self) -> str:
        """``sha256:`` of kind, instrument, keys, planes, tables and quantities.

        Not of time, path, host, version or verdict: the same measurement has the same identity everywhere.
        Made once: planes of a product are not changed in place.
        """
        digest = hashlib.sha256()
        head = {
            "kind": self.kind,
            "instrument": self.instrument,
            "keys": {name: _plain(value) for name, value in sorted(self.keys.items())},
            "units": dict(sorted(self.units.items())),
            "quantities": [
                [q.name, q.place, _plain(q.value), _plain(q.sigma), q.unit] for q in self.quantities
            ],
        }
        digest.update(json.dumps(head, sort_keys=True).encode())
        for name, plane in sorted(self.planes.items()):
            _add_array(digest, name, plane)
        for table, columns in sorted(self.tables.items()):
            for column, values in columns.items():
                _add_array(digest, f"{table}.{column}", values)
        return f"sha256:{digest.hexdigest()}"

    def _repr_html_(self) -> str:
        """How a notebook shows the product: a small picture, its keys, quantities and inputs."""
        from calibrant.report.plots import product_html

        return product_html(self)


def _plain(value: Any) -> Any:
    """A JSON value that is the same for equal numbers of different types."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return "nan" if math.isnan(value) else repr(float(value))
    if isinstance(value, (int, np.integer)):
        return repr(float(value))
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if value is None else str(value)


def _add_array(digest: Any, name: str, array: NDArray[Any]) -> None:
    """Feed an array: little-endian, one bit pattern for every NaN, text as UTF-8."""
    values = np.asarray(array)
    if values.dtype.kind in "OUS":
        digest.update(json.dumps([name, "text", [str(v) for v in values.ravel()]]).encode())
        return
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values)
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    digest.update(json.dumps([name, values.dtype.str, list(values.shape)]).encode())
    digest.update(values.data)
