"""Light frames and the darks around them: the calm window of a frame, and a dark in between two others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from calibrant.errors import OptionError, ShapeError

Window = tuple[slice, slice]
Where = NDArray[np.bool_] | Window | str | None
PIXELS = 60_000  # of the image that is filtered; larger ones are thinned
BORDER = 100.0  # times the largest value, outside the image: no window hangs over its edge


def calm_window(image: NDArray[Any]) -> Window:
    """The window of an image with the lowest median: where the least light falls.

    Parameters
    ----------
    image : ndarray
        (rows, cols), any unit; NaN counts as bright.

    Returns
    -------
    tuple of slice
        Rows and columns; a fifth of the rows and a tenth of the columns, less at an edge.
    """
    rows, cols = image.shape
    size = max(rows // 5, 2), max(cols // 10, 1)
    steps = _thinning(rows, cols)
    thin = np.asarray(image[:: steps[0], :: steps[1]], np.float64)
    if not np.isfinite(thin).any():
        raise ShapeError("no pixel of the light frame has a value", got=image.shape)
    border = BORDER * max(float(np.nanmax(np.abs(thin))), 1.0)
    window = tuple(max(n // step, 1) for n, step in zip(size, steps, strict=True))
    filtered = median_filter(
        np.where(np.isfinite(thin), thin, border), size=window, mode="constant", cval=border
    )
    at = np.unravel_index(int(np.argmin(filtered)), thin.shape)
    found = []
    for place, step, n, whole in zip(at, steps, size, image.shape, strict=True):
        start = max(int(place) * step - n // 2, 0)
        found.append(slice(start, min(int(place) * step - n // 2 + n, whole)))
    return found[0], found[1]


def _thinning(rows: int, cols: int) -> tuple[int, int]:
    """Every how many rows and columns are enough."""
    step = max(int(np.ceil(np.sqrt(rows * cols / PIXELS))), 1)
    return min(step, max(rows // 10, 1)), min(step, max(cols // 10, 1))


def window_mask(where: Where, shape: tuple[int, int], image: NDArray[Any]) -> NDArray[np.bool_]:
    """The pixels to fit, (rows, cols): a mask, a window of rows and columns, or ``calm`` of the image.

    Raises
    ------
    OptionError
        If it is none of these, or does not fit, or is empty.
    """
    if where is None:
        return np.ones(shape, np.bool_)
    mask = np.zeros(shape, np.bool_)
    if isinstance(where, np.ndarray):
        if where.shape != shape or where.dtype != np.bool_:
            raise OptionError(
                "a mask of pixels does not fit", where="where", expected=f"bool {shape}",
                got=f"{where.dtype} {where.shape}",
            )  # fmt: skip
        mask = where
    elif where == "calm":
        mask[calm_window(image)] = True
    elif isinstance(where, tuple) and len(where) == 2 and all(isinstance(part, slice) for part in where):
        mask[where] = True
    else:
        raise OptionError(
            "the pixels to fit are a mask, a window or 'calm'", where="where",
            expected="bool (rows, cols), (slice, slice) or 'calm'", got=where,
        )  # fmt: skip
    if not mask.any():
        raise OptionError("no pixel lies in the window", where="where", expected=f"within {shape}", got=where)
    return mask
