"""What effects of slices share: the good pixels of a frame, with wavelength along the rows, and some rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import ShapeError
from calibrant.frame import DQ, Frame
from calibrant.instrument.slices import SliceMap

F8 = NDArray[np.float64]


def upright(frame: Frame, slices: SliceMap, effect: str) -> tuple[F8, F8 | None]:
    """Values, NaN where they are bad, and their variance, wavelength along the rows.

    Parameters
    ----------
    frame : Frame
        (rows, cols).
    slices : SliceMap
        Of the same size.
    effect : str
        For messages.

    Returns
    -------
    values : ndarray
        float64.
    variance : ndarray or None
        float64; None if the frame has none.

    Raises
    ------
    ShapeError
        If sizes differ, or the frame has more than two axes.
    """
    loaded = frame.load()
    if len(loaded.shape) != 2:
        raise ShapeError(f"{effect} needs an image of two axes", where=frame.name, got=frame.shape)
    slices.check_fits(loaded.shape, frame.name)
    values = np.array(loaded.data, np.float64)
    if loaded.dq is not None:
        values[(np.asarray(loaded.dq) & np.uint32(DQ.DO_NOT_USE)) != 0] = np.nan
    if loaded.variance is None:
        return slices.upright(values), None
    variance = np.array(loaded.variance, np.float64)
    values[~(np.isfinite(variance) & (variance > 0))] = np.nan
    return slices.upright(values), slices.upright(variance)


def quarters(count: int) -> list[int]:
    """Rows at a quarter, half and three quarters."""
    return [round(count * part) - 1 for part in (0.25, 0.5, 0.75)]


def cuts(
    rows: Sequence[int], slices: SliceMap, planes: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Table of some rows of planes, for pictures: row, col, slice (0 between slices), and a column of each.

    `planes` with wavelength along the rows.
    """
    ids = slices.upright(slices.ids)
    width = ids.shape[1]
    chosen = np.asarray(rows, np.int64)
    return {
        "row": np.repeat(chosen, width).astype(np.int32),
        "col": np.tile(np.arange(width, dtype=np.int32), len(chosen)),
        "slice": ids[chosen].ravel().astype(np.int32),
        **{name: np.asarray(plane)[chosen].ravel() for name, plane in planes.items()},
    }
