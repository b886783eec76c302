"""Distortion files of slicers: slices, alpha and wavelength as polynomials of rows and columns.

``value = sum_ij K_ij y^i (x - xs)^j`` with i, j <= 4, a table for each channel with a row for each slice
(MIRI-TN-00001-ETH): ``VAR1`` is xs, ``VAR2_i_j`` is K_ij. ``FoV`` tables hold the limits of alpha,
cards ``B_ZERO`` and ``B_DEL`` beta of the first slice and from slice to slice.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import FileError
from calibrant.files.header import Contents, inspect
from calibrant.files.source import FitsSource
from calibrant.files.tables import read_table
from calibrant.instrument.slices import SliceMap

F8 = NDArray[np.float64]
CHANNEL = re.compile(r"^ALPHA_CH(\d+)$")
OF_CHANNEL = 100  # ids are 100 x channel + slice
TERMS = 5


def read_distortion(
    path: str | Path, *, channel: int | None = None, field: bool = False, blind: int = 4, origin: float = 1.0
) -> SliceMap:
    """The slices of a distortion file, and what they see.

    Parameters
    ----------
    channel : int, optional
        Only this channel counts; the other's slices are negative: they shine, and belong to no slice.
    field : bool
        Whether slices end where the limits of alpha say it; what is lit beyond becomes negative. By default
        they are those of the plane ``Slice_Number``, which is wider.
    blind : int
        Reference pixels at both ends of each row.
    origin : float
        Number of the first row and column in the polynomials: with 1 the limits of alpha lie amid the slices.

    Returns
    -------
    SliceMap
        Wavelength along the rows; alpha and beta in arcsec, wavelength in micrometres.

    Raises
    ------
    FileError
        If it is no such file, or lacks the channel.
    """
    contents = inspect(path)
    plane = contents.find("SLICE_NUMBER")
    channels = _channels(contents)
    if plane is None or not channels:
        raise FileError(
            "this is no distortion file",
            where=str(path),
            expected="units Slice_Number, Alpha_CH and Lambda_CH",
            got=", ".join(unit.name for unit in contents.hdus),
        )
    if channel is not None and channel not in channels:
        raise FileError(
            "the distortion file lacks this channel",
            where=str(path),
            expected=", ".join(map(str, channels)),
            got=channel,
        )
    own = FitsSource.of(contents, plane).load().astype(np.int32)
    planes = {what: np.full(own.shape, np.nan) for what in ("alpha", "beta", "wavelength")}
    ids = np.where(own > 0, -own, own)
    for number in channels if channel is None else (channel,):
        _fill(contents, number, own, ids, planes, field, origin)
    reference = np.zeros(own.shape, bool)
    if blind:
        reference[:, :blind] = reference[:, -blind:] = True
    # Some lit pixels of the plane lie on reference pixels, which see nothing.
    ids[reference] = 0
    for one in planes.values():
        one[reference] = np.nan
    return SliceMap(
        ids.astype(np.int32),
        planes["alpha"],
        planes["beta"],
        planes["wavelength"],
        reference=reference,
        name=Path(path).name,
    )


def channels_of(path: str | Path) -> tuple[int, ...]:
    """Channels of a distortion file, in order; none if it is no such file.

    Raises
    ------
    FileError
        If it is no FITS file.
    """
    contents = inspect(path)
    return _channels(contents) if contents.find("SLICE_NUMBER") is not None else ()


def _channels(contents: Contents) -> tuple[int, ...]:
    return tuple(sorted(int(m[1]) for unit in contents.hdus if (m := CHANNEL.match(unit.name))))


def _fill(
    contents: Contents,
    channel: int,
    own: NDArray[np.int32],
    ids: NDArray[np.int32],
    planes: dict[str, F8],
    field: bool,
    origin: float,
) -> None:
    """The slices of one channel."""
    alphas, waves = (_table(contents, f"{what}_CH{channel}") for what in ("ALPHA", "LAMBDA"))
    limits = _table(contents, f"FOV_CH{channel}")
    header = contents.hdus[0].header
    zero, step = (
        _number(contents, header.get(f"{key}{channel}"), f"{key}{channel}") for key in ("B_ZERO", "B_DEL")
    )
    for row in range(len(alphas["VAR1"])):
        number = OF_CHANNEL * channel + row + 1
        inside = own == number
        y, x = np.nonzero(inside)
        places = np.float64(origin) + y, np.float64(origin) + x
        alpha = _polynomial(alphas, row, *places)
        wavelength = _polynomial(waves, row, *places)
        lowest, highest = limits["alpha_min"][row], limits["alpha_max"][row]
        seen = (alpha >= lowest) & (alpha <= highest) if field else np.ones(alpha.shape, bool)
        at = y[seen], x[seen]
        ids[at] = number
        planes["alpha"][at], planes["wavelength"][at] = alpha[seen], wavelength[seen]
        planes["beta"][at] = zero + row * step


def _polynomial(table: dict[str, NDArray[Any]], row: int, y: NDArray[Any], x: NDArray[Any]) -> F8:
    terms = [[float(table[f"VAR2_{i}_{j}"][row]) for j in range(TERMS)] for i in range(TERMS)]
    away = x - float(table["VAR1"][row])
    return np.asarray(np.polynomial.polynomial.polyval2d(y, away, np.array(terms)))


def _table(contents: Contents, name: str) -> dict[str, NDArray[Any]]:
    unit = contents.find(name)
    if unit is None:
        raise FileError("the distortion file lacks a table", where=contents.path, expected=name)
    return read_table(contents, unit)


def _number(contents: Contents, value: Any, key: str) -> float:
    if not isinstance(value, (int, float)):
        raise FileError("the distortion file does not say beta", where=contents.path, expected=key)
    return float(value)


def agreement(slices: SliceMap, own: NDArray[Any]) -> tuple[int, int]:
    """Pixels that two slice planes give to the same slice, and those that they give to different ones."""
    both = (slices.ids > 0) & (own > 0)
    same = slices.ids == own
    return int(np.count_nonzero(both & same)), int(np.count_nonzero(both & ~same))
