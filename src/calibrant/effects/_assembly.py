"""Amplifiers: their sections of the raw image, and their places in the assembled one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import ConfigError, ShapeError
from calibrant.instrument import Readout
from calibrant.instrument.sections import (
    Section,
    bounds,
    format_section,
    is_inside,
    parse_section,
    section_shape,
)

Shape = tuple[int, int]
Way = tuple[Section, Section, tuple[bool, bool]]


@dataclass(frozen=True)
class AmplifierSections:
    """One amplifier in a raw image. Sections are (rows, columns), from 0.

    Attributes
    ----------
    name : str
    data : Section
        Pixels that saw light, in the raw image.
    place : Section
        Where they go in the assembled image; an axis with step -1 is flipped.
    overscan : Section or None
        Serial: columns read beyond the data, in the data's rows at least.
    parallel : Section or None
        Rows read beyond the data, in the data's columns.
    saturation : float or None
        Raw level, adu, from which a pixel is saturated.
    """

    name: str
    data: Section
    place: Section
    overscan: Section | None = None
    parallel: Section | None = None
    saturation: float | None = None


@dataclass(frozen=True)
class Assembly:
    """All amplifiers of a raw image.

    Attributes
    ----------
    amplifiers : tuple of AmplifierSections
    raw, shape : tuple of int
        Rows, columns of the raw and of the assembled image.

    Raises
    ------
    ShapeError
        If a section lies outside the image, or one does not fit its place, or pixels of the assembled image
        belong to no amplifier or to two.
    """

    amplifiers: tuple[AmplifierSections, ...]
    raw: Shape
    shape: Shape

    def __post_init__(self) -> None:
        for amp in self.amplifiers:
            for name in ("data", "overscan", "parallel"):
                section = getattr(amp, name)
                if section is not None and not is_inside(section, self.raw):
                    raise ShapeError(
                        f"the {name} section of amplifier {amp.name} lies outside the image",
                        expected=f"within {self.raw[0]} x {self.raw[1]} (rows x columns)",
                        got=format_section(section),
                        do="check the sections in the instrument file, and the binning of the frame",
                    )
            sizes = section_shape(amp.data, self.raw), section_shape(amp.place, self.shape)
            if sizes[0] != sizes[1] or not is_inside(amp.place, self.shape):
                raise ShapeError(
                    f"the data of amplifier {amp.name} do not fit their place in the assembled image",
                    expected=f"{sizes[0]} within {self.shape}",
                    got=f"{sizes[1]} at {format_section(amp.place)}",
                )
        if tiles([amp.place for amp in self.amplifiers], self.shape):
            return
        filled = np.zeros(self.shape, np.uint8)
        for amp in self.amplifiers:
            filled[window(amp.place, self.shape)] += 1
        raise ShapeError(
            "the amplifiers do not tile the assembled image",
            expected="every pixel in exactly one amplifier",
            got=f"{int((filled == 0).sum())} pixels in none, {int((filled > 1).sum())} in two",
        )

    @classmethod
    def of(cls, readouts: Sequence[Readout], raw: Shape) -> Assembly:
        """The amplifiers of an image as the instrument describes them; a prescan may replace the overscan.

        Raises
        ------
        ShapeError
            If sections do not lie in the image or do not tile it.
        """
        full = [_resolved(readout.data, raw) for readout in readouts]
        alone = len(readouts) == 1
        places = [
            _at_origin(readout.place, section_shape(data, raw)) if alone else _resolved(readout.place, raw)
            for readout, data in zip(readouts, full, strict=True)
        ]
        huge = (1 << 31, 1 << 31)
        corners = np.array([bounds(place, huge) for place in places])
        low = int(corners[:, 0].min()), int(corners[:, 2].min())
        amplifiers = tuple(
            AmplifierSections(
                readout.name,
                data,
                _shifted(place, low),
                readout.overscan or readout.prescan,
                readout.parallel_overscan,
                readout.saturation,
            )
            for readout, data, place in zip(readouts, full, places, strict=True)
        )
        return cls(amplifiers, raw, extent(amplifiers))

    @cached_property
    def ways(self) -> Mapping[str, Way]:
        """By name: window in the raw image, window in the assembled one, whether rows and columns turn."""
        found = {}
        for amp in self.amplifiers:
            turned = amp.place[0].step == -1, amp.place[1].step == -1
            found[amp.name] = window(amp.data, self.raw), window(amp.place, self.shape), turned
        return found

    @property
    def has_overscan(self) -> bool:
        """Whether any amplifier has a serial or a parallel overscan."""
        return any(amp.overscan is not None or amp.parallel is not None for amp in self.amplifiers)

    def assemble(self, plane: NDArray[Any]) -> NDArray[Any]:
        """A plane of the raw image, trimmed and with every amplifier in its place and direction."""
        if plane.shape[-2:] != self.raw:
            raise ShapeError("the plane is not of the raw image", expected=self.raw, got=plane.shape)
        whole = np.empty((*plane.shape[:-2], *self.shape), plane.dtype)
        for amp in self.amplifiers:
            flips = turns(amp.place)
            whole[(..., *window(amp.place, self.shape))] = plane[(..., *window(amp.data, self.raw))][
                (..., *flips)
            ]
        return whole

    def plane(self, values: Mapping[str, float]) -> NDArray[np.float32]:
        """An assembled plane, float32, holding one value per amplifier."""
        whole = np.empty(self.shape, np.float32)
        for amp in self.amplifiers:
            whole[window(amp.place, self.shape)] = values[amp.name]
        return whole

    def table(self) -> dict[str, NDArray[Any]]:
        """The geometry as a table of section strings, for a Product; `from_table` reads it."""
        columns: dict[str, list[Any]] = {"name": [], "data": [], "place": [], "overscan": [], "parallel": []}
        for amp in self.amplifiers:
            columns["name"].append(amp.name)
            for name in ("data", "place", "overscan", "parallel"):
                section = getattr(amp, name)
                columns[name].append("" if section is None else format_section(section))
        saturation = [np.nan if amp.saturation is None else amp.saturation for amp in self.amplifiers]
        return {name: np.array(values) for name, values in columns.items()} | {
            "saturation": np.array(saturation, np.float64),
            "raw_rows": np.full(len(saturation), self.raw[0]),
            "raw_cols": np.full(len(saturation), self.raw[1]),
        }

    @classmethod
    def from_table(cls, table: Mapping[str, NDArray[Any]]) -> Assembly:
        """The geometry that `table` wrote."""
        raw = int(table["raw_rows"][0]), int(table["raw_cols"][0])

        def section(name: str, row: int) -> Section | None:
            text = str(table[name][row])
            return parse_section(text) if text else None

        amplifiers = []
        for row, name in enumerate(table["name"]):
            limit = float(table["saturation"][row])
            amplifiers.append(
                AmplifierSections(
                    str(name),
                    parse_section(str(table["data"][row])),
                    parse_section(str(table["place"][row])),
                    section("overscan", row),
                    section("parallel", row),
                    None if np.isnan(limit) else limit,
                )
            )
        return cls(tuple(amplifiers), raw, extent(amplifiers))


def assembled_shape(readouts: Sequence[Readout], raw: Sequence[int]) -> Shape:
    """Rows, columns up to the farthest end of the amplifiers' places; of the image if they have none."""
    ends = [
        [axis.start + 1 if axis.step == -1 else axis.stop for axis in readout.place[:2]]
        for readout in readouts
    ]
    if any(end is None for pair in ends for end in pair):
        rows, cols = raw[-2:]
        return int(rows), int(cols)
    return max(int(rows) for rows, _ in ends), max(int(cols) for _, cols in ends)


def places_table(readouts: Sequence[Readout], raw: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Names and places of the amplifiers in the assembled image as a table; `place_plane` reads it."""
    shape = assembled_shape(readouts, raw)
    return {
        "name": np.array([readout.name for readout in readouts]),
        "place": np.array([format_section(_resolved(readout.place, shape)) for readout in readouts]),
        "rows": np.full(len(readouts), shape[0]),
        "cols": np.full(len(readouts), shape[1]),
    }


def place_plane(
    table: Mapping[str, NDArray[Any]],
    values: Mapping[str, float],
    dtype: type[np.generic] = np.float32,
) -> NDArray[Any]:
    """One value per amplifier as a plane of the assembled image, float32 or as asked.

    Raises
    ------
    ShapeError
        If the places of the amplifiers do not fill the image.
    """
    shape = int(table["rows"][0]), int(table["cols"][0])
    plane = np.empty(shape, dtype)
    places = [parse_section(str(place)) for place in table["place"]]
    for name, place in zip(table["name"], places, strict=True):
        plane[window(place, shape)] = values[str(name)]
    if not tiles(places, shape):
        raise ShapeError(
            "the amplifiers do not fill the image",
            expected=f"{shape[0]} x {shape[1]} (rows x columns)",
            got=", ".join(str(place) for place in table["place"]),
            do="check the places in the instrument file",
        )
    return plane


def tiles(places: Sequence[Section], shape: Shape) -> bool:
    """Whether sections within an image fill it without overlap: by their corners, no pixel is looked at."""
    found = [bounds(place, shape) for place in places]
    area = sum((bottom - top) * (right - left) for top, bottom, left, right in found)
    overlap = any(
        a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3] for a, b in combinations(found, 2)
    )
    return area == shape[0] * shape[1] and not overlap


def extent(amplifiers: Sequence[AmplifierSections]) -> Shape:
    """Shape of the image that the places of the amplifiers span.

    Raises
    ------
    ConfigError
        If there is no amplifier.
    """
    if not amplifiers:
        raise ConfigError("the detector has no amplifier")
    huge = (1 << 31, 1 << 31)
    ends = np.array([bounds(amp.place, huge) for amp in amplifiers])
    return int(ends[:, 1].max()), int(ends[:, 3].max())


def _resolved(section: Section, shape: Shape) -> Section:
    """The section with given ends, flips kept."""
    rows, cols = (_axis(axis, size) for axis, size in zip(section, shape, strict=True))
    return rows, cols


def _axis(axis: slice, size: int) -> slice:
    if axis.step == -1:
        return slice(size - 1 if axis.start is None else axis.start, axis.stop, -1)
    return slice(axis.start or 0, size if axis.stop is None else axis.stop)


def _at_origin(section: Section, shape: Shape) -> Section:
    """A section of `shape` at the origin, flipped as `section` is."""
    rows, cols = (
        slice(size - 1, None, -1) if axis.step == -1 else slice(0, size)
        for axis, size in zip(section, shape, strict=True)
    )
    return rows, cols


def _shifted(section: Section, low: Shape) -> Section:
    rows, cols = (_shifted_axis(axis, by) for axis, by in zip(section, low, strict=True))
    return rows, cols


def _shifted_axis(axis: slice, by: int) -> slice:
    if axis.step == -1:
        stop = -1 if axis.stop is None else axis.stop
        return slice(axis.start - by, None if stop - by < 0 else stop - by, -1)
    return slice(axis.start - by, axis.stop - by)


def window(section: Section, shape: Shape) -> Section:
    """The section with its flips undone: ascending slices with given ends."""
    r0, r1, c0, c1 = bounds(section, shape)
    return slice(r0, r1), slice(c0, c1)


def turns(section: Section) -> Section:
    """Slices that flip an array as the section does."""
    rows, cols = (slice(None, None, -1 if axis.step == -1 else None) for axis in section)
    return rows, cols
