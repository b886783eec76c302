"""Compressed images (``.fz``), read and written by astropy."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import FileError
from calibrant.files.encode import Unit
from calibrant.files.header import HDU, unpacked_hdus

_ROWS = 256  # unpacked at once


@contextmanager
def _opened(path: str, hdu: int) -> Iterator[Any]:
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cards that astropy dislikes are none of the pixels' business
        try:
            with fits.open(path, memmap=False, do_not_scale_image_data=True) as hdus:
                yield hdus[hdu]
        except (OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
            raise FileError(
                f"the compressed image cannot be unpacked ({error})",
                where=path,
                do="copy it again or leave it out",
            ) from None


def read_tiles(path: str, hdu: int, buffer: memoryview) -> None:
    """Unpack a whole image into `buffer`, as big-endian stored numbers."""
    with _opened(path, hdu) as image:
        raw = np.asarray(image.data)
        flat = np.frombuffer(buffer, raw.dtype.newbyteorder(">")).reshape(raw.shape)
        flat[...] = raw


def tile_rows(path: str, hdu: int) -> Iterator[bytes]:
    """Unpack an image some rows at a time, as big-endian stored numbers."""
    with _opened(path, hdu) as image:
        for place in np.ndindex(image.shape[:-2]):  # of a cube never more than some rows of one image
            for begin in range(0, image.shape[-2], _ROWS):
                raw = np.asarray(image.section[(*place, slice(begin, begin + _ROWS))])
                yield raw.astype(raw.dtype.newbyteorder(">")).tobytes()


def tiled(units: Iterable[Unit]) -> Iterator[Unit]:
    """Units with their images compressed without loss: Rice for integers, GZIP_2 for floats and 64 bits.

    Rice would turn floats into integers first, and rounds them.
    """
    for unit in units:
        if unit.data is None or unit.data.dtype.names or unit.data.ndim < 1 or not unit.data.size:
            yield unit
        else:
            yield _tiled(unit)


def _tiled(unit: Unit) -> Unit:
    from astropy.io import fits

    rice = unit.data is not None and unit.data.dtype.str[1:] in ("u1", "i2", "i4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = fits.Header.fromstring(unit.cards)
        scaling = "".join(header.cards[key].image for key in ("BSCALE", "BZERO") if key in header)
        image = fits.CompImageHDU(
            unit.data, header, compression_type="RICE_1" if rice else "GZIP_2", quantize_level=0.0
        )
        buffer = io.BytesIO()
        image.writeto(buffer)
        stored = buffer.getvalue()
    hdu = unpacked_hdus(stored)[1]
    data = np.frombuffer(stored, np.uint8, hdu.size, hdu.offset).copy()
    if not rice:
        _remove_times(data, hdu)
    # astropy takes BZERO for its own affair and drops it, although the numbers are stored without it.
    return Unit(hdu.header.cards + scaling, data)


def _remove_times(data: NDArray[np.uint8], hdu: HDU) -> None:
    """Set the time in the header of each gzipped tile to zero: equal content has to give equal bytes."""
    rows, width = hdu.header.integer("NAXIS2"), hdu.header.integer("NAXIS1")
    wide = str(hdu.header.get("TFORM1", "")).lstrip("1").startswith("Q")
    table = data[: rows * width].reshape(rows, width)
    pointers = table[:, : 16 if wide else 8].copy().view(">i8" if wide else ">i4")
    starts = rows * width + pointers[:, 1].astype(np.int64)
    for byte in range(4, 8):
        data[starts + byte] = 0
