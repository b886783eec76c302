"""Tiles: the bytes of 512 x 512 pixels of a level, as the page draws them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.web.planes import Plane
from calibrant.web.pyramid import BAND, first_kept, level_shape, levels_of, reduced
from calibrant.web.shelf import Shelf, Unknown

SIDE = BAND
"""Rows and columns of a tile."""
Of = Literal["mean", "peak"]


@dataclass(frozen=True)
class Place:
    """Which tile: image, plane, read, level, and the place of the tile in it, from row and column 0."""

    image: str
    plane: str
    read: int
    level: int
    ty: int
    tx: int
    of: Of = "mean"


@dataclass(frozen=True, eq=False)
class Tile:
    """The pixels of a tile as they travel.

    Attributes
    ----------
    body : bytes
        Little-endian, row 0 first.
    encoding : str
        ``f4``, ``u2`` or ``u4``.
    etag : str
        Hash of the content.
    """

    body: bytes
    shape: tuple[int, int]
    encoding: str
    etag: str


def tile(shelf: Shelf, place: Place) -> Tile:
    """One tile.

    Raises
    ------
    Unknown
        If there is no such image, plane, read, level or tile.
    """
    plane = shelf.view(place.image).plane(place.plane)
    if plane is None:
        raise Unknown("the image has no such plane")
    _check(plane, place)
    pixels = _pixels(shelf, plane, place)
    shelf.view(place.image)  # the file is still what it was: what was read is right
    dtype = _wire(plane, place.level)
    body = np.ascontiguousarray(pixels, dtype=dtype).tobytes()
    etag = hashlib.blake2b(body, digest_size=12).hexdigest()
    return Tile(body, (int(pixels.shape[0]), int(pixels.shape[1])), dtype.str[1:], etag)


def _check(plane: Plane, place: Place) -> None:
    if not 0 <= place.read < plane.reads:
        raise Unknown("the plane has no such read", expected=f"0 to {plane.reads - 1}", got=place.read)
    if not 0 <= place.level < levels_of(plane.shape):
        raise Unknown(
            "there is no such level", expected=f"0 to {levels_of(plane.shape) - 1}", got=place.level
        )
    rows, cols = level_shape(plane.shape, place.level)
    if not (0 <= place.ty * SIDE < rows and 0 <= place.tx * SIDE < cols):
        raise Unknown("the level has no such tile", got=f"{place.ty}, {place.tx}")
    if place.of not in ("mean", "peak"):
        raise OptionError("a level shows mean or peak", where="of", got=place.of)


def _wire(plane: Plane, level: int) -> np.dtype[Any]:
    if plane.name == "dq":
        return np.dtype("<u4")
    return np.dtype("<u2" if level == 0 and plane.wire == "u2" else "<f4")


def _pixels(shelf: Shelf, plane: Plane, place: Place) -> NDArray[Any]:
    cols = slice(place.tx * SIDE, (place.tx + 1) * SIDE)
    if place.level == 0:
        return shelf.band(place.image, plane, place.read, place.ty)[:, cols]
    which = 0 if place.of == "mean" else 1
    if place.level >= first_kept(plane.shape):
        pyramid = shelf.pyramid(place.image, plane, place.read)
        return pyramid.levels[place.level][which][place.ty * SIDE : (place.ty + 1) * SIDE, cols]
    block = 1 << place.level
    wide = slice(cols.start * block, cols.stop * block)
    last = -(-plane.shape[0] // BAND)
    bands = range(place.ty * block, min((place.ty + 1) * block, last))
    region = np.concatenate([shelf.band(place.image, plane, place.read, n)[:, wide] for n in bands])
    return reduced(region, place.level, flags=plane.name == "dq")[which]
