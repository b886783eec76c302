"""What effects of slices share: the good pixels of a frame, with wavelength along the rows."""

from __future__ import annotations

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
