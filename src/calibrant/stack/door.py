"""The door: stored numbers of any type become bands of uint16 (one affine map for all) or float32."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.stack.source import Encoding, Source

ALLOWED = ("u1", "i1", "u2", "i2", "u4", "i4", "i8", "u8", "f2", "f4", "f8")


@dataclass(frozen=True)
class Word:
    """How a stored 16-bit number becomes a value: bytes swapped, bits flipped, times scale plus zero."""

    swap: bool
    flip: int
    scale: float
    zero: float
    blank: int

    @classmethod
    def of(cls, encoding: Encoding) -> Word | None:
        """The word of an encoding, or None if it is not of 16-bit integers."""
        dtype = np.dtype(encoding.dtype)
        if dtype.kind not in "iu" or dtype.itemsize != 2:
            return None
        swap = dtype.newbyteorder("=") != dtype if sys.byteorder == "little" else dtype.str[0] == "<"
        signed = dtype.kind == "i"
        blank = -1 if encoding.blank is None else encoding.blank & 0xFFFF
        zero = encoding.zero - (32768 * encoding.scale if signed else 0)
        return cls(bool(swap), 0x8000 if signed else 0, encoding.scale, zero, blank)


@dataclass(frozen=True, eq=False)
class Door:
    """What becomes of the stored numbers of all frames.

    Attributes
    ----------
    words : tuple
        A Word per frame, None where it is no 16-bit number.
    common : bool
        Whether uint16 can stay uint16: all are 16-bit numbers with one affine map and no blank.
    """

    words: tuple[Word | None, ...]
    common: bool
    swap: NDArray[np.uint8]
    flip: NDArray[np.uint16]

    @classmethod
    def of(cls, sources: Sequence[Source]) -> Door:
        """The door for some sources."""
        words = tuple(Word.of(source.encoding) for source in sources)
        maps = {(word.scale, word.zero, word.blank) if word else None for word in words}
        common = len(maps) == 1 and None not in maps and all(word and word.blank < 0 for word in words)
        swap = np.array([bool(word and word.swap) for word in words], np.uint8)
        flip = np.array([word.flip if word else 0 for word in words], np.uint16)
        return cls(words, common, swap, flip)


def store(source: Source, rows: slice, raw: NDArray[Any], dq: NDArray[np.uint32] | None = None) -> None:
    """Read rows as stored into `raw` (rows, cols), whose two-byte type need not be the source's own."""
    source.read_into(rows, raw.view(source.encoding.dtype), dq)


def values_of(raw: NDArray[Any], encoding: Encoding, values: NDArray[np.float32]) -> None:
    """Decode stored numbers of any type but 16-bit ones into float32 `values` of the same shape.

    32-bit integers and doubles are rounded to float32: 24 bits of a value are kept.
    """
    if encoding.scale == 1.0 and encoding.zero == 0.0 and encoding.blank is None:
        with np.errstate(over="ignore", invalid="ignore"):  # a double beyond float32 becomes infinite: absent
            values[...] = raw
        return
    with np.errstate(over="ignore", invalid="ignore"):
        values[...] = raw.astype(np.float64) * encoding.scale + encoding.zero
    if encoding.blank is not None and raw.dtype.kind in "iu":
        values[raw == encoding.blank] = np.nan
