"""Ramps into files: plane after plane as it is made, in the memory of one, with checksums all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import ShapeError
from calibrant.files.atomic import atomic_write
from calibrant.files.cards import BLOCK, CardLike
from calibrant.files.encode import Unit, checksum, image_unit, sealed, write_units
from calibrant.files.reading import Pathish

WORD = 4  # bytes that a sum counts at once


@dataclass(frozen=True, eq=False)
class Stream:
    """An image that is written plane by plane.

    Attributes
    ----------
    name : str
        EXTNAME.
    shape : tuple of int
        Of the whole image; its last two axes are those of a plane.
    dtype : str
        Of its planes: ``u1``, ``u2``, ``i2``, ``f4`` ...
    planes : callable
        Called when the image's turn comes, gives its planes in order.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    planes: Callable[[], Iterable[NDArray[Any]]]
    cards: tuple[CardLike, ...] = field(default=())


def write_ramp(
    path: Pathish,
    cards: Iterable[CardLike],
    units: Iterable[Stream | Callable[[], Unit]],
    overwrite: bool = False,
) -> None:
    """Write a primary header and, one after the other, images plane by plane and units as they are.

    Parameters
    ----------
    cards : iterable of (key, value[, comment])
        Of the primary header.
    units : iterable of Stream or callable
        A callable gives its `Unit` when its turn comes: it may depend on what was streamed before.

    Raises
    ------
    OutputExistsError
        If the file exists and `overwrite` is false.
    ShapeError
        If planes do not fit the shape that was announced.
    WriteError
        If it cannot be written; nothing is left behind.
    """
    with atomic_write(path, overwrite) as out:
        write_units(out, [image_unit(None, cards, primary=True)])
        for unit in units:
            if isinstance(unit, Stream):
                _write_stream(out, unit)
            else:
                write_units(out, [unit()])


def _write_stream(out: BinaryIO, stream: Stream) -> None:
    cards, begin = _cards(stream), out.tell()
    out.write(sealed(cards, 0))
    total, size, rest, count = 0, 0, b"", 0
    for plane in stream.planes():
        if plane.shape != stream.shape[-2:]:
            raise ShapeError(
                f"a plane of {stream.name} has another size", expected=stream.shape, got=plane.shape
            )
        stored = image_unit(plane.astype(stream.dtype, copy=False)).data
        assert stored is not None
        written = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
        out.write(written)
        size, count, words = size + len(written), count + 1, rest + written
        whole = len(words) // WORD * WORD
        total, rest = total + checksum(np.frombuffer(words, np.uint8, whole)), words[whole:]
    if count != int(np.prod(stream.shape[:-2])):
        raise ShapeError(f"{stream.name} has other planes", expected=stream.shape, got=f"{count} planes")
    out.write(bytes(-size % BLOCK))
    end = out.tell()
    out.seek(begin)
    out.write(sealed(cards, _folded(total + checksum(np.frombuffer(rest, np.uint8)))))
    out.seek(end)


def _folded(total: int) -> int:
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _cards(stream: Stream) -> str:
    """The cards of the whole image: those of an empty one of its type and axes, with the real sizes."""
    sample = image_unit(np.zeros((1,) * len(stream.shape), stream.dtype), stream.cards, name=stream.name)
    cards = sample.cards
    for axis, size in enumerate(reversed(stream.shape), 1):
        at = cards.index(f"NAXIS{axis:<3d}=")
        cards = cards[: at + 10] + f"{size:>20d}" + cards[at + 30 :]
    return cards
