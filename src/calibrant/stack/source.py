"""Source: rows of pixels from a file or an array, with one face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import ShapeError


@dataclass(frozen=True)
class Encoding:
    """How stored numbers become values: ``value = stored * scale + zero``.

    Attributes
    ----------
    dtype : str
        NumPy dtype of the stored numbers with byte order, e.g. ``">i2"`` for FITS, ``"=f4"`` for arrays.
    scale, zero : float
        BSCALE and BZERO.
    blank : int or None
        The stored integer that means "no value".
    """

    dtype: str
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None

    @property
    def itemsize(self) -> int:
        """Bytes per stored number."""
        return np.dtype(self.dtype).itemsize


@runtime_checkable
class Source(Protocol):
    """Rows of one image, read on demand. Picklable: it describes what to read, it holds no open file."""

    @property
    def name(self) -> str:
        """For messages: the path, or "array"."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns."""
        ...

    @property
    def encoding(self) -> Encoding:
        """Of the numbers that `read_into` writes."""
        ...

    @property
    def has_dq(self) -> bool:
        """Whether `read_into` can fill a dq buffer."""
        ...

    def read_into(self, rows: slice, data: NDArray[Any], dq: NDArray[np.uint32] | None = None) -> None:
        """Fill `data` (encoding.dtype, (rows, cols), C-contiguous), and `dq` if given, with these rows."""
        ...


@runtime_checkable
class Grouped(Protocol):
    """A Source of float32 values whose rows depend on rows elsewhere: some bands are best read at once."""

    def together(self, rows: int) -> list[tuple[slice, ...]]:
        """All rows, each in one band, in groups that are read at once; bands of about `rows`, if it can."""
        ...

    def read_together(
        self, bands: tuple[slice, ...], data: NDArray[np.float32], dq: NDArray[np.uint32] | None = None
    ) -> None:
        """Fill the bands of a group in planes of the whole image."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An array in memory as a Source.

    Parameters
    ----------
    array : ndarray
        (rows, cols).
    dq : ndarray, optional
        uint32 flags, (rows, cols).
    """

    array: NDArray[Any]
    dq: NDArray[np.uint32] | None = None
    name: str = "array"

    def __post_init__(self) -> None:
        if self.array.ndim != 2:
            raise ShapeError(
                "an image has two axes", where=self.name, expected="(rows, cols)", got=self.array.shape
            )
        if self.dq is not None and self.dq.shape != self.array.shape:
            raise ShapeError(
                "the dq plane does not fit the data",
                where=self.name,
                expected=self.array.shape,
                got=self.dq.shape,
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns."""
        return self.array.shape

    @property
    def encoding(self) -> Encoding:
        """The array's own dtype, unscaled."""
        return Encoding(self.array.dtype.str)

    @property
    def has_dq(self) -> bool:
        """Whether flags came with the array."""
        return self.dq is not None

    def read_into(self, rows: slice, data: NDArray[Any], dq: NDArray[np.uint32] | None = None) -> None:
        """Copy the rows asked for."""
        data[...] = self.array[rows]
        if dq is not None:
            dq[...] = 0 if self.dq is None else self.dq[rows]

    def load(self) -> NDArray[Any]:
        """The array itself."""
        return self.array


def load(source: Source) -> NDArray[Any]:
    """Read and decode a whole source."""
    encoding = source.encoding
    raw = np.empty(source.shape, np.dtype(encoding.dtype))
    source.read_into(slice(0, source.shape[0]), raw)
    return decode(raw, encoding)


def decode(raw: NDArray[Any], encoding: Encoding) -> NDArray[Any]:
    """Stored numbers to values in native byte order.

    Integers stay as they are without scaling and become uint16 where BZERO = 32768 alone says so;
    all else is float32.

    BLANK becomes NaN, and with it integers become float32 (float64 for 32-bit ones).
    """
    native: NDArray[Any] = np.ascontiguousarray(raw, dtype=np.dtype(encoding.dtype).newbyteorder("="))
    unscaled = encoding.scale == 1.0 and encoding.zero == 0.0
    has_blank = encoding.blank is not None and native.dtype.kind in "iu"
    if unscaled and not has_blank:
        return native
    if native.dtype == np.int16 and encoding.scale == 1.0 and encoding.zero == 32768.0 and not has_blank:
        return native.view(np.uint16) ^ np.uint16(0x8000)
    # 32-bit integers do not fit into float32.
    wide = np.dtype(np.float64 if native.dtype.itemsize > 2 else np.float32)
    values: NDArray[Any] = native.astype(wide)
    if not unscaled:
        values = (values * encoding.scale + encoding.zero).astype(wide, copy=False)
    if has_blank:
        values[native == encoding.blank] = np.nan
    return values
