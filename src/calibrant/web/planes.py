"""One plane of an image to look at, read some rows at a time from a file or an array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.files.layouts import ErrorPlane, FlagPlane
from calibrant.files.source import FitsSource, MosaicSource, decode_exact
from calibrant.sections import Section
from calibrant.web.patchwork import Patchwork

EXACT = frozenset({"u1", "u2", "i1", "i2", "f2", "f4", "b1"})
"""Types whose every value a float32 or uint16 holds."""
UNSIGNED = frozenset({"u1", "u2", "b1"})


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane, its pixels still where they are.

    Attributes
    ----------
    name, unit : str
    pixels : array, or a lazy plane of a file
        (..., rows, cols), real numbers; the leading axes are reads, or integrations and reads.
    """

    name: str
    unit: str
    pixels: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return int(self.pixels.shape[-2]), int(self.pixels.shape[-1])

    @property
    def axes(self) -> tuple[int, ...]:
        """Sizes of the leading axes; empty for an image."""
        return tuple(int(size) for size in self.pixels.shape[:-2])

    @property
    def reads(self) -> int:
        """Number of images in the plane, over all leading axes."""
        return math.prod(self.axes)

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values that `rows` gives, native."""
        if isinstance(self.pixels, np.ndarray):
            native: np.dtype[Any] = self.pixels.dtype.newbyteorder("=")
            return native
        if isinstance(self.pixels, FlagPlane):
            return np.dtype(np.uint32)
        if isinstance(self.pixels, Patchwork | Flagged):
            return self.pixels.dtype
        if isinstance(self.pixels, FitsSource | MosaicSource):
            encoding = self.pixels.encoding
            return decode_exact(np.empty((0, 1), encoding.dtype), encoding).dtype
        return np.dtype(np.float32)

    @property
    def wire(self) -> str:
        """How the values travel to be drawn: ``u2`` for small whole numbers without a sign, else ``f4``."""
        return "u2" if _kind(self.dtype) in UNSIGNED else "f4"

    @property
    def is_exact(self) -> bool:
        """Whether what is drawn are the values themselves, to the last bit."""
        return _kind(self.dtype) in EXACT

    def rows(self, read: int, begin: int, stop: int) -> NDArray[Any]:
        """Rows of one image, as the file means them: (stop - begin, cols), of `dtype`.

        Parameters
        ----------
        read : int
            Number of the image over all leading axes.
        begin, stop : int
            Rows within the image.

        Raises
        ------
        FileError
            If the file was changed, or cannot be read.
        """
        index = np.unravel_index(read, self.axes) if self.axes else ()
        place = tuple(int(i) for i in index)
        return np.ascontiguousarray(self._rows(place, begin, stop), dtype=self.dtype)

    def _rows(self, place: tuple[int, ...], begin: int, stop: int) -> NDArray[Any]:
        pixels = self.pixels
        part: NDArray[Any]
        if isinstance(pixels, Patchwork | Flagged):
            return pixels.rows(0, begin, stop)
        if isinstance(pixels, np.ndarray):
            part = pixels[place][begin:stop]
            return part
        if isinstance(pixels, FlagPlane):
            flags = np.empty((stop - begin, self.shape[1]), np.uint32)
            pixels.read_into(slice(begin, stop), flags)
            return flags
        cut = Section(slice(begin, stop), slice(0, self.shape[1]))
        if isinstance(pixels, FitsSource):
            return pixels.plane(*place).section(cut).load()
        if isinstance(pixels, ErrorPlane):
            return ErrorPlane(pixels.source.plane(*place).section(cut), pixels.form).load()
        if hasattr(pixels, "read_into"):  # any other Source: a mosaic of amplifiers
            raw = np.empty((stop - begin, self.shape[1]), pixels.encoding.dtype)
            pixels.read_into(slice(begin, stop), raw)
            part = decode_exact(raw, pixels.encoding)
            return part
        part = pixels.load()[place][begin:stop]
        return part


@dataclass(frozen=True, eq=False)
class Flagged:
    """1 where a plane of flags has any, else 0: what lies under the colours where there are flags alone."""

    flags: Plane

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.flags.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return np.dtype(np.uint8)

    def rows(self, read: int, begin: int, stop: int) -> NDArray[np.uint8]:
        """Rows of it."""
        return np.asarray(self.flags.rows(0, begin, stop) != 0, np.uint8)


def _kind(dtype: np.dtype[Any]) -> str:
    return f"{dtype.kind}{dtype.itemsize}"


def is_drawable(pixels: Any) -> bool:
    """Whether a plane has rows and columns of real numbers."""
    shape = tuple(pixels.shape)
    if len(shape) < 2 or 0 in shape:
        return False
    return not isinstance(pixels, np.ndarray) or (pixels.dtype.kind in "buif" and pixels.dtype.itemsize <= 8)


def exact_text(value: Any) -> str:
    """Shortest text that is read back as the same value of its own type."""
    if isinstance(value, np.floating):
        return np.format_float_positional(value, trim="0") if _is_plain(value) else str(value)
    return str(int(value)) if isinstance(value, np.integer | int | np.bool_) else str(value)


def _is_plain(value: np.floating[Any]) -> bool:
    size = abs(float(value))
    return math.isfinite(size) and (size == 0 or 1e-4 <= size < 1e7)


def number(value: Any) -> int | float | None:
    """A value for JSON; None for what is no finite number."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int):
        return int(value)
    return float(value) if math.isfinite(value) else None
