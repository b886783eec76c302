"""Planes put together from others, side by side: nothing is read before it is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Rows(Protocol):
    """What a patch shows: a `Plane`, or one value."""

    def rows(self, read: int, begin: int, stop: int) -> NDArray[Any]:
        """Rows of one image."""
        ...


@dataclass(frozen=True)
class Uniform:
    """A rectangle of one value."""

    value: float
    cols: int

    def rows(self, read: int, begin: int, stop: int) -> NDArray[np.float32]:
        """Rows of it, whatever the read."""
        return np.full((stop - begin, self.cols), self.value, np.float32)


@dataclass(frozen=True)
class Window:
    """An amplifier's part of a raw image, and where it goes: rows and columns, half open; what is turned."""

    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]
    turned: tuple[bool, bool] = (False, False)


@dataclass(frozen=True, eq=False)
class Assembled:
    """A raw image without its overscan, each amplifier where it lies on the detector; NaN between them."""

    plane: Rows
    windows: Sequence[Window]
    cols: int

    def rows(self, read: int, begin: int, stop: int) -> NDArray[np.float32]:
        """Rows of the detector; rows of the raw image that several amplifiers share are read once."""
        found = np.full((stop - begin, self.cols), np.nan, np.float32)
        held: dict[tuple[int, int], NDArray[Any]] = {}
        for window in self.windows:
            top, bottom, left, right = window.target
            first, last = max(begin, top), min(stop, bottom)
            if first >= last:
                continue
            low, high = (bottom - last, bottom - first) if window.turned[0] else (first - top, last - top)
            span = window.source[0] + low, window.source[0] + high
            if span not in held:
                held[span] = self.plane.rows(read, *span)
            part = held[span][:, window.source[2] : window.source[3]]
            part = part[::-1] if window.turned[0] else part
            found[first - begin : last - begin, left:right] = part[:, ::-1] if window.turned[1] else part
        return found


@dataclass(frozen=True, eq=False)
class Patch:
    """Something with its place in the whole: first row and column, and size."""

    plane: Rows
    row: int
    col: int
    shape: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Patchwork:
    """Rows of a plane from the patches that lie in them; where none lies it is NaN, or `blank` in flags.

    Attributes
    ----------
    shape : (int, int)
        Of the whole.
    dtype : dtype
        float32, or uint32 of flags.
    """

    shape: tuple[int, int]
    patches: Sequence[Patch]
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    blank: int = 0

    def rows(self, read: int, begin: int, stop: int) -> NDArray[Any]:
        """Rows from ... to ...: (stop - begin, cols), of `dtype`."""
        empty = self.blank if self.dtype.kind == "u" else np.nan
        found = np.full((stop - begin, self.shape[1]), empty, self.dtype)
        for patch in self.patches:
            first, last = max(begin, patch.row), min(stop, patch.row + patch.shape[0])
            if first < last:
                part = patch.plane.rows(read, first - patch.row, last - patch.row)
                found[first - begin : last - begin, patch.col : patch.col + patch.shape[1]] = part
        return found
