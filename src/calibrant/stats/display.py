"""Limits for looking at an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.stats.lines import weighted_line
from calibrant.stats.values import finite_values, some_values


def zscale(
    a: NDArray[Any], *, contrast: float = 0.25, samples: int = 600, per_line: int = 120
) -> tuple[float, float]:
    """Display limits around the median, as DS9 and IRAF choose them.

    Parameters
    ----------
    a : ndarray
        An image in any unit; NaN and infinities are left out.
    contrast : float
        The slope of the sorted values is divided by it; smaller gives wider limits.
    samples, per_line : int
        Values that are looked at, and how many of them in one line.

    Returns
    -------
    tuple of float
        Lower and upper limit, in the unit of `a`.

    Raises
    ------
    OptionError
        If `a` has no finite value, or `contrast` is not positive.

    Notes
    -----
    A line is fitted to the sorted sample over its index, with rejection at 2.5 sigma; its slope, divided by
    the contrast, spans the limits. If more than half of the sample is rejected, they are its extremes.
    """
    if not contrast > 0:
        raise OptionError("the contrast must be positive", where="contrast", got=contrast)
    x = np.sort(some_values(finite_values(_grid(np.asarray(a), samples, per_line), None), "limits")).astype(
        np.float64
    )
    slope = _sorted_slope(x)
    if slope is None:
        return float(x[0]), float(x[-1])
    slope /= contrast
    centre = (x.size - 1) // 2
    middle = float(np.median(x))
    lower = max(float(x[0]), middle - (centre - 1) * slope)
    upper = min(float(x[-1]), middle + (x.size - centre) * slope)
    return lower, upper


def _grid(a: NDArray[Any], samples: int, per_line: int) -> NDArray[Any]:
    """About `samples` values: `per_line` of each of some lines, evenly spread."""
    if a.ndim < 2 or a.size <= samples:
        return a.reshape(-1)[:: max(1, a.size // samples)]
    lines = a.reshape(-1, a.shape[-1])
    columns = _column_step(a.shape[-1], per_line)
    return lines[zscale_lines(*lines.shape, samples, per_line), columns // 2 :: columns].reshape(-1)


def zscale_lines(rows: int, cols: int, samples: int = 600, per_line: int = 120) -> slice:
    """The rows of an image that `zscale` looks at: of these alone it gives the same limits.

    Parameters
    ----------
    rows, cols : int
        Of the image.
    samples, per_line : int
        As of `zscale`.

    Returns
    -------
    slice
        With an open end.
    """
    if rows * cols <= samples:
        return slice(0, None, 1)
    wanted = max(1, samples // len(range(0, cols, _column_step(cols, per_line))))
    step = max(1, rows // wanted)
    return slice(step // 2, None, step)


def apart(low: float, high: float, least: float, most: float) -> tuple[float, float]:
    """Limits that differ by more than the rounding of float32, in which they are drawn.

    Parameters
    ----------
    low, high : float
        Limits that may agree, where most pixels do.
    least, most : float
        Of the values: they take their place, so that a few other pixels (a mask, a saturated frame) are seen;
        about a constant there is a little room.
    """
    if high - low > 1e-6 * max(abs(low), abs(high)):
        return low, high
    if look_alike(least, most):
        room = max(abs(least) * 1e-3, 0.5)
        return least - room, most + room
    return least, most


def look_alike(low: float, high: float) -> bool:
    """Whether two values are the same as far as float32 can tell."""
    return high - low <= 1e-6 * max(abs(low), abs(high))


def _column_step(cols: int, per_line: int) -> int:
    return max(1, -(-cols // per_line))


def _sorted_slope(x: NDArray[np.float64]) -> float | None:
    """Slope of sorted values over their index, without outliers and their neighbours; None if few stay."""
    index = np.arange(x.size, dtype=np.float64)
    fewest = max(5, x.size // 2)
    grow = np.ones(max(1, int(x.size * 0.01)))
    good = np.ones(x.size, np.bool_)
    slope, before = 0.0, x.size + 1
    for _ in range(5):
        if not fewest <= np.count_nonzero(good) < before:
            break
        slope, level = weighted_line(index[good], x[good])
        residual = x - level - slope * index
        bad = ~good | (np.abs(residual) > 2.5 * residual[good].std())
        before = int(np.count_nonzero(good))
        good = np.convolve(bad, grow, "same") == 0
    return slope if np.count_nonzero(good) >= fewest else None
