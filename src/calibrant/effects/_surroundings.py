"""Planes without their single pixels, columns and rows: what a pixel is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

WINDOW = 15  # pixels of the running medians: blocks of up to 7 bad columns or rows stand out


def surroundings(plane: NDArray[Any], window: int = WINDOW) -> NDArray[np.float32]:
    """Running medians along rows, then along columns: the plane without its single pixels, columns and rows.

    A straight edge along rows or columns stays where it is.
    """
    values = np.asarray(plane, np.float32)
    bad = ~np.isfinite(values)
    if bad.any():
        values = np.where(bad, np.float32(np.nanmedian(values)), values)
    window = min(window, *(2 * ((size - 1) // 2) + 1 for size in values.shape))
    along = _along_rows(values, window)
    return np.ascontiguousarray(_along_rows(np.ascontiguousarray(along.T), window).T)


def _along_rows(values: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Running median of each row, its ends held: as one long line, where the filter is seven times faster."""
    half = window // 2
    padded = np.pad(values, ((0, 0), (half, half)), mode="edge")
    smooth = median_filter(padded.ravel(), size=window).reshape(padded.shape)
    return np.asarray(smooth[:, half : half + values.shape[1]], np.float32)
