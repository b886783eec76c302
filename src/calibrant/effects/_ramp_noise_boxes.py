"""Spatial read noise: scatter of differences of reads within boxes of one output, held against the map.

Method of Rest (JWST-STScI-004118): in boxes of 128 x 128 pixels that lie in one output, the clipped standard
deviation of each difference; a box counts where more than 32 pixels are good and few are clipped.
What many pixels share, such as slow drifts, is in the scatter of one pixel from read to read, but not in the
scatter within a box: the ratio of both is 1 for white noise.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._ramp_noise import HEIGHTS, STRIP
from calibrant.stats import MAD_TO_STD, clip_factor, clipped_stats

SAMPLE = 4096  # values that are looked at for limits
FAR = 4.0  # sigmas: noisy pixels beyond are left out of means
LEAST = 32  # good pixels of a box
MOST = 0.1  # of them that may be clipped
Array = NDArray[np.float64]


def edges_of(outputs: NDArray[np.int16], box: int) -> NDArray[np.int64]:
    """First and last column + 1 of the boxes, (boxes, 2): none crosses from one output to another.

    Parameters
    ----------
    outputs : ndarray
        (cols,) the output of each column.
    """
    if not box:
        return np.empty((0, 2), np.int64)
    borders = [0, *(np.flatnonzero(np.diff(outputs)) + 1), len(outputs)]
    found = []
    for first, last in pairwise(borders):
        found += [(at, min(at + box, last)) for at in range(first, last, box)]
    return np.array(found, np.int64).reshape(-1, 2)


def truncation(sigma: float, times: int) -> float:
    """What clips, one after the other, take from the standard deviation of many normal values."""
    factor = 1.0
    for _ in range(times):
        factor = clip_factor(sigma / factor)
    return factor


def spatial(moments: Array, height: int, box: int, sigma: float, times: int) -> tuple[Array, Array]:
    """Noise of one difference within each box, and its standard error, each (boxes down, boxes across).

    Parameters
    ----------
    moments : ndarray
        (strips, differences, boxes, 4) of `calibrant.stack.kernels_read_noise.boxes`, strips of equal height.
    height : int
        Rows of the image.
    """
    strip = next(n for n in HEIGHTS if n <= STRIP and -(-height // n) == len(moments))
    rows = max(1, box // strip)
    found = []
    for first in range(0, len(moments), rows):
        there, kept, mean, squares = np.moveaxis(moments[first : first + rows], 3, 0)
        n = kept.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            middle = (kept * mean).sum(axis=0) / n
            total = (squares + kept * (mean - middle) ** 2).sum(axis=0)
            noise = np.sqrt(total / (n - 1))
            fine = (n > LEAST) & (n > (1 - MOST) * there.sum(axis=0))
        found.append(np.where(fine, noise, np.nan))
    each = np.stack(found).swapaxes(1, 2) * truncation(sigma, times)
    stats = [[_mean(values) for values in line] for line in each]
    return np.array([[s[0] for s in line] for line in stats]), np.array(
        [[s[1] for s in line] for line in stats]
    )


def _mean(values: Array) -> tuple[float, float]:
    """Clipped mean over the differences, and its standard error."""
    found = clipped_stats(values, centre="median")
    if found.n < 2:
        return found.mean, math.nan
    return found.mean, found.std / math.sqrt(found.n - 1)


def limits_of(values: NDArray[Any]) -> tuple[float, float, float]:
    """Median of a sample of values, and the limits 4 robust standard deviations from it; NaN without any."""
    some = values.ravel()[:: max(1, values.size // SAMPLE) | 1]
    some = some[np.isfinite(some)]
    if not some.size:
        return math.nan, math.nan, math.nan
    middle = float(np.median(some))
    width = max(FAR * MAD_TO_STD * float(np.median(np.abs(some - middle))), 1e-6 * abs(middle))
    return middle, middle - width, middle + width


def clipped_mean(values: NDArray[np.float32]) -> tuple[float, float]:
    """Mean of the values within 4 sigma of the median, and its standard error; NaN if there are none."""
    _, low, high = limits_of(values)
    kept = values[(values >= low) & (values <= high)].astype(np.float64)
    if not kept.size:
        return math.nan, math.nan
    return float(kept.mean()), float(kept.std()) / math.sqrt(kept.size)


def temporal(
    noise: NDArray[np.float32],
    variance: NDArray[np.float32],
    good: NDArray[np.bool_],
    edges: NDArray[np.int64],
    box: int,
) -> tuple[Array, Array]:
    """Noise of the pixels of each box from read to read, and its standard error.

    The root of the mean square, noisy pixels clipped, less what the map's own errors add to it.
    """
    rows = range(0, noise.shape[0], box)
    value, sigma = np.full((2, len(rows), len(edges)), np.nan)
    for i, first in enumerate(rows):
        for j, (left, right) in enumerate(edges):
            place = slice(first, first + box), slice(left, right)
            use = good[place] & np.isfinite(noise[place])
            if use.sum() <= LEAST:
                continue
            level = noise[place][use].astype(np.float64)
            _, low, high = limits_of(level)
            near = (level >= low) & (level <= high)
            square = level[near] ** 2 - variance[place][use][near]
            value[i, j] = math.sqrt(max(square.mean(), 0.0))
            sigma[i, j] = square.std() / math.sqrt(near.sum()) / (2 * max(value[i, j], 1e-30))
    return value, sigma
