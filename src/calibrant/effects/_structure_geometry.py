"""Where the pixels of a flat lie: amplifiers, detector and focal plane, in lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._assembly import assembled_shape, turns, window
from calibrant.errors import ConfigError, HeaderError
from calibrant.frame import Exposure
from calibrant.instrument import Instrument
from calibrant.instrument.sections import Section, bounds, parse_section
from calibrant.product import Product

Shape = tuple[int, int]


@dataclass(frozen=True)
class Amplifier:
    """Name, window in the assembled image, and slices that put its first read pixel at [0, 0]."""

    name: str
    window: Section
    order: Section


@dataclass(frozen=True)
class Geometry:
    """One detector.

    Attributes
    ----------
    shape : tuple of int
        Rows, columns of its flats.
    amplifiers : tuple of Amplifier
    pitch : tuple of float
        Length of a pixel along rows and columns, in `unit`.
    origin : tuple of float or None
        Place of its lower left corner on the focal plane in `unit`, from the middle of the focal plane;
        None if that is not known.
    unit : str
        ``mm`` or ``pixel``.
    """

    shape: Shape
    amplifiers: tuple[Amplifier, ...]
    pitch: tuple[float, float]
    origin: tuple[float, float] | None
    unit: str

    @property
    def extent(self) -> tuple[float, float]:
        """Rows, columns as lengths."""
        return self.shape[0] * self.pitch[0], self.shape[1] * self.pitch[1]


def geometry(
    shape: Shape, detector: str, instrument: Instrument | None, places: Mapping[str, NDArray[Any]] | None
) -> Geometry:
    """The geometry of a detector.

    Parameters
    ----------
    shape : tuple of int
        Of its flats.
    detector : str
    instrument : Instrument, optional
        Amplifiers and focal plane; binned images are seen by their shape.
    places : Table, optional
        Columns ``name`` and ``place`` in the image of the flats; before the instrument's.
    """
    whole = Amplifier("", (slice(0, shape[0]), slice(0, shape[1])), (slice(None), slice(None)))
    nominal = shape
    amplifiers: tuple[Amplifier, ...] = (whole,)
    if instrument is not None:
        nominal, found = _of_instrument(instrument, detector, shape)
        amplifiers = found or amplifiers
    if places is not None:
        amplifiers = _of_table(places, shape) or amplifiers
    plane = None if instrument is None else instrument.focal_plane
    size = 1.0 if plane is None or plane.pixel is None else plane.pixel
    unit = "pixel" if plane is None or plane.pixel is None else "mm"
    # A binned image, or one of larger pixels, covers the same silicon.
    pitch = size * nominal[0] / shape[0], size * nominal[1] / shape[1]
    origin = None
    if plane is not None and detector in plane.names:
        at, every = plane.offset(detector, nominal), plane.shape(nominal)
        origin = size * (at[0] - every[0] / 2.0), size * (at[1] - every[1] / 2.0)
    return Geometry(shape, amplifiers, pitch, origin, unit)


def _of_instrument(
    instrument: Instrument, detector: str, shape: Shape
) -> tuple[Shape, tuple[Amplifier, ...] | None]:
    try:
        readouts = instrument.readouts(Exposure(detector=detector, instrument=instrument.name))
        nominal = assembled_shape(readouts, shape)
    except (ConfigError, HeaderError):
        return shape, None
    if len(readouts) < 2:
        return nominal, None
    return nominal, tuple(
        Amplifier(r.name, _scaled(window(r.place, nominal), nominal, shape), turns(r.place)) for r in readouts
    )


def _of_table(table: Mapping[str, NDArray[Any]], shape: Shape) -> tuple[Amplifier, ...]:
    sections = [parse_section(str(place)) for place in table["place"]]
    ends = np.array([bounds(section, (1 << 31, 1 << 31)) for section in sections])
    nominal = int(ends[:, 1].max()), int(ends[:, 3].max())
    return tuple(
        Amplifier(str(name), _scaled(window(section, nominal), nominal, shape), turns(section))
        for name, section in zip(table["name"], sections, strict=True)
    )


def _scaled(section: Section, nominal: Shape, shape: Shape) -> Section:
    rows, cols = (
        slice(round(axis.start * have / full), round(axis.stop * have / full))
        for axis, full, have in zip(section, nominal, shape, strict=True)
    )
    return rows, cols


def places_of(products: Sequence[Product | None]) -> Mapping[str, NDArray[Any]] | None:
    """The first table of amplifiers with their places among the products."""
    for product in products:
        table = {} if product is None else product.tables.get("amplifiers", {})
        if {"name", "place"} <= set(table):
            return table
    return None
