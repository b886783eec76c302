"""Ramps in files: the groups of all integrations of an exposure, read some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import FileError, ShapeError
from calibrant.files.frames import read_other
from calibrant.files.header import HDU, Contents, inspect
from calibrant.files.layouts import FlagPlane, flag_plane
from calibrant.files.source import FitsSource
from calibrant.files.tables import read_table
from calibrant.frame import Frame
from calibrant.stack.source import Encoding

AXES = 4
READ_DQ, DQ_UNITS, FIRST = ("GROUPDQ", "READDQ"), ("PIXELDQ", "DQ"), "ZEROFRAME"
MILLISECONDS_OF_DAY = 86_400_000.0
PLAIN = {Encoding(">f4"): "f4", Encoding(">i2", 1.0, 32768.0): "u2", Encoding("|u1"): "u1"}
"""Encodings whose values take the room of the stored numbers; all others become float32."""


@dataclass(frozen=True, eq=False)
class RampFile:
    """The planes of one exposure in a file; no pixel is read yet. Picklable.

    Attributes
    ----------
    data : FitsSource
        (integrations, groups, rows, cols).
    read_dq : FitsSource or None
        Flags of single groups, uint8, of the same shape.
    dq : FlagPlane or None
        Flags of pixels, (rows, cols).
    first : FitsSource or None
        ZEROFRAME: the first read of each integration, (integrations, rows, cols), where groups are averages.
    """

    data: FitsSource
    read_dq: FitsSource | None = None
    dq: FlagPlane | None = None
    first: FitsSource | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Integrations, groups, rows, columns."""
        ints, groups, rows, cols = self.data.shape
        return ints, groups, rows, cols

    @property
    def is_unsigned(self) -> bool:
        """Whether values are whole numbers of 16 bits without a sign."""
        return self.data.encoding == Encoding(">i2", 1.0, 32768.0)

    @property
    def is_signed(self) -> bool:
        """Whether values are stored as 16 bits with a sign: too few for the counts of most converters."""
        return self.data.encoding.dtype == ">i2" and self.data.encoding.zero == 0.0

    @classmethod
    def of(cls, contents: Contents, hdu: int | str | None = None) -> RampFile:
        """The planes of a file that was inspected to its end.

        Raises
        ------
        FileError
            If the file has no ramp, or flags of another size than its ramp.
        """
        unit = ramp_unit(contents, hdu)
        shape = four_axes(unit.shape)
        source = replace(FitsSource.of(contents, unit), shape=shape)
        flags, pixels = _first_of(contents, READ_DQ), _first_of(contents, DQ_UNITS)
        first = contents.find(FIRST)
        for other, wanted in ((flags, shape), (pixels, shape[-2:]), (first, (shape[0], *shape[-2:]))):
            # A file of one integration may leave that axis out.
            if other is not None and other.shape not in (wanted, wanted[1:] if wanted[0] == 1 else wanted):
                raise FileError(
                    f"{other.name} does not fit the ramp",
                    where=contents.path,
                    expected=wanted,
                    got=other.shape,
                )
        return cls(
            source,
            None if flags is None else replace(FitsSource.of(contents, flags), shape=shape),
            None if pixels is None else flag_plane(contents, pixels),
            None if first is None else replace(FitsSource.of(contents, first), shape=(shape[0], *shape[-2:])),
        )

    @classmethod
    def open(cls, path: str, hdu: int | str | None = None) -> RampFile:
        """The planes of the file at `path`.

        Raises
        ------
        FileError
            As `of`, or if the file ends early or is no FITS file.
        """
        return cls.of(inspect(path), hdu)


def is_ramp(unit: HDU) -> bool:
    """Whether an image has groups."""
    return len(unit.shape) in (AXES - 1, AXES) and 0 not in unit.shape


def find_ramp(contents: Contents, hdu: int | str | None = None) -> HDU | None:
    """The image of a ramp: of that name or, where it is not there, the first with groups; or None."""
    named = contents.find(hdu) if isinstance(hdu, str) else contents.find("SCI")
    if isinstance(hdu, int):
        named = contents.image(hdu)
    if named is not None:
        return named if is_ramp(named) else None
    aside = (*READ_DQ, *DQ_UNITS, FIRST)
    return next((unit for unit in contents.hdus if is_ramp(unit) and unit.name not in aside), None)


def ramp_unit(contents: Contents, hdu: int | str | None = None) -> HDU:
    """The image of a ramp.

    Raises
    ------
    FileError
        If the file has none.
    """
    found = find_ramp(contents, hdu)
    if found is not None:
        return found
    sizes = ", ".join(" x ".join(map(str, unit.shape)) for unit in contents.hdus if unit.shape)
    raise FileError(
        "the file holds no ramp",
        where=contents.path,
        expected="an image with the axes integration, group, row, column, or the last three",
        got=sizes or "no image at all",
        do="leave it out",
    )


def ramp_frame(path: str, hdu: int | str | None = None) -> Frame | None:
    """A ramp as a Frame whose planes stay in the file; None if the file holds none.

    Raises
    ------
    FileError
        As `RampFile.open`.
    """
    contents = inspect(path)
    unit = find_ramp(contents, hdu)
    if unit is None:
        return None
    planes = RampFile.of(contents, hdu)
    frame = read_other(contents, None, unit.index)
    same = frame.variance is None or frame.variance.shape == planes.shape
    return replace(
        frame,
        data=planes.data,
        read_dq=planes.read_dq,
        variance=frame.variance if same else None,
        exposure=replace(frame.exposure, shape=planes.shape),
    )


def four_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with an axis for the integrations."""
    return (1,) * (AXES - len(shape)) + shape


def read_rows(
    source: FitsSource, rows: slice, leading: tuple[Sequence[int], ...], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Rows of some planes of a cube: uint16 where the file stores them so, else float32; uint8 stays.

    Parameters
    ----------
    leading : tuple of sequences of int
        Indices wanted along each axis before rows and columns.
    out : array, optional
        C-contiguous, of the result's shape and type: filled and returned.

    Returns
    -------
    array (*wanted, rows, cols)
        Native byte order.

    Raises
    ------
    ShapeError
        If `out` is of another shape or type.
    """
    begin, stop, _ = rows.indices(source.shape[-2])
    counts = tuple(len(indices) for indices in leading)
    shape = (*counts, max(stop - begin, 0), source.shape[-1])
    dtype = PLAIN.get(source.encoding)
    kind = np.dtype(np.float32 if dtype is None else dtype)
    if out is None:
        out = np.empty(shape, kind)
    elif out.shape != shape or out.dtype != kind or not out.flags.c_contiguous:
        raise ShapeError(
            "the buffer does not fit the ramp",
            where=source.name,
            expected=(shape, str(kind)),
            got=(out.shape, str(out.dtype)),
        )
    raw = np.empty(shape[-2:], source.encoding.dtype) if dtype is None else None
    # Stored numbers go where their values belong, and are turned there: no second copy, whatever the size.
    stored = out if dtype is None else out.view(source.encoding.dtype)
    tall, height = source.stacked(), source.shape[-2]
    for place in np.ndindex(counts):
        wanted = tuple(indices[i] for indices, i in zip(leading, place, strict=True))
        first = int(np.ravel_multi_index(wanted, source.shape[:-2])) * height
        here = slice(first + begin, first + stop)
        if raw is not None:
            tall.read_into(here, raw)
            out[place] = tall.decoded(raw)
            continue
        tall.read_into(here, stored[place])
        if out.itemsize > 1:
            # One axis: of two that share memory NumPy makes a copy first.
            np.copyto(out[place].reshape(-1), stored[place].reshape(-1), casting="unsafe")
        if dtype == "u2":
            out[place] ^= np.uint16(1 << 15)
    return out


def group_times(contents: Contents, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    """Ends of all groups as the table GROUP says them, seconds since 2000-01-01, (integrations, groups).

    Raises
    ------
    ShapeError
        If the table has another number of groups.
    """
    unit = contents.find("GROUP")
    if unit is None or not unit.is_table:
        return None
    columns = {name.lower(): values for name, values in read_table(contents, unit).items()}
    if not {"end_day", "end_milliseconds"} <= columns.keys():
        return None
    parts = [np.asarray(columns[name], np.float64) for name in ("end_day", "end_milliseconds")]
    fine = np.asarray(columns.get("end_submilliseconds", 0.0), np.float64)
    seconds = (parts[0] * MILLISECONDS_OF_DAY + parts[1]) * 1e-3 + fine * 1e-6
    if seconds.size != math.prod(shape):
        raise ShapeError(
            "the table GROUP does not fit the ramp",
            where=contents.path,
            expected=f"{shape[0]} x {shape[1]} rows",
            got=seconds.size,
        )
    return seconds.reshape(shape)


def _first_of(contents: Contents, names: tuple[str, ...]) -> HDU | None:
    return next((unit for name in names if (unit := contents.find(name)) is not None and unit.is_image), None)
