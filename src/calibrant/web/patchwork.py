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
