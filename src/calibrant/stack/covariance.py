"""Covariances of neighbouring pixels of one image, with masks: arrays in, arrays out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError, ShapeError
from calibrant.stack import kernels_covariance as kernels
from calibrant.stats import MAD_TO_STD, clip_factor

SAMPLE = 20_000  # values whose median and width start a clip
ROUNDS = 20
BAND = 256  # rows worked on together: views of a large image are never copied whole
LARGEST = 3e38  # float32


@dataclass(frozen=True)
class Limits:
    """Values between `low` and `high` are kept: `count` of them, with `mean` and `variance` (ddof = 1)."""

    low: float
    high: float
    count: int
    mean: float
    variance: float


def clipped(values: NDArray[np.float32], sigma: float) -> Limits:
    """Clip at `sigma` standard deviations about the mean until nothing changes.

    Parameters
    ----------
    values : ndarray
        float32, (rows, cols), any unit; NaN is left out.
    sigma : float
        The first limits are of the median and median deviation of a sample: an outlier cannot widen them.

    Returns
    -------
    Limits
        NaN and a count of 0 where there is no value. The variance is as it comes: multiply it by
        ``clip_factor(sigma)**2``.

    Raises
    ------
    OptionError
        If `sigma` is not positive.
    """
    clip_factor(sigma)  # refuses limits that are not positive
    step = max(1, math.isqrt(values.size // SAMPLE))
    sample = values[::step, :: step | 1]
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:  # the few values there are, if any
        sample = values[np.isfinite(values)]
    if sample.size == 0:
        return Limits(np.nan, np.nan, 0, np.nan, np.nan)
    middle = np.float32(np.median(sample))
    width = 2 * sigma * MAD_TO_STD * float(np.median(np.abs(sample - middle)))
    low, high = (float(middle) - width, float(middle) + width) if width > 0 else (-LARGEST, LARGEST)
    found = Limits(low, high, 0, np.nan, np.nan)
    for _ in range(ROUNDS):
        count, total, squares = _moments(values, middle, low, high)
        if count < 2:
            break
        mean, variance = total / count, max(squares - total * total / count, 0.0) / (count - 1)
        done = count == found.count
        found = Limits(low, high, count, float(middle) + mean, variance)
        if done:
            break
        low, high = (found.mean + way * sigma * math.sqrt(variance) for way in (-1, 1))
    return found


def _moments(
    values: NDArray[np.float32], origin: np.float32, low: float, high: float
) -> tuple[int, float, float]:
    limits = origin, np.float32(low), np.float32(high)
    pieces = (
        kernels.moments(np.ascontiguousarray(values[top : top + BAND]), *limits)
        for top in range(0, len(values), BAND)
    )
    count, total, squares = (sum(column) for column in zip(*pieces, strict=True))
    return int(count), float(total), float(squares)


def covariances(
    difference: NDArray[np.floating], mask: NDArray[np.bool_], lags: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Covariances of pixels that are i rows and j columns apart, off the axes averaged with those of (i, -j).

    Parameters
    ----------
    difference : ndarray
        float32, (rows, cols), any unit; what is masked may be NaN.
    mask : ndarray of bool
        (rows, cols), True: good.
    lags : int
        0 .. lags - 1 in each direction.

    Returns
    -------
    cov : ndarray
        float64, (lags, lags), [i, j], in the square of the unit; [0, 0] is the variance. NaN without pairs.
    count : ndarray
        int64, (lags, lags): pairs of good pixels, of both directions off the axes.

    Raises
    ------
    OptionError
        If `lags` is not positive.
    ShapeError
        If the mask does not fit.

    Notes
    -----
    ``C = P / n - S T / n**2 + C00 / N``, with P the sum of products of the n pairs, S and T the sums of their
    first and second pixels (Astier et al. 2019, A&A 629, A36, appendix A): no mean of the whole is assumed in
    the part that takes part. The last term, with N good pixels, is what the means take from white noise; it
    makes [0, 0] the variance with ddof = 1.
    """
    if lags < 1:
        raise OptionError("there must be at least one lag", where="lags", expected=">= 1", got=lags)
    if difference.ndim != 2 or mask.shape != difference.shape:
        raise ShapeError("the mask does not fit the image", expected=difference.shape, got=mask.shape)
    good = int(np.count_nonzero(mask))
    if good == 0:
        return np.full((lags, lags), np.nan), np.zeros((lags, lags), np.int64)
    # Products of values far from zero would lose the small covariances in float32.
    mean = np.asarray(np.mean(difference, where=mask, dtype=np.float64), difference.dtype)
    even = lags + lags % 2
    forward, backward = np.zeros((2, even, even, 4))
    for top in range(0, len(mask), BAND):
        here = slice(top, top + BAND + lags - 1)
        values, weights = np.zeros((2, len(mask[here]), mask.shape[1] + even + 1), np.float32)
        cols = slice(0, mask.shape[1])
        np.subtract(difference[here], mean, out=values[:, cols], where=mask[here], casting="same_kind")
        weights[:, cols] = mask[here]
        kernels.correlate(values, weights, BAND, forward, backward)
    backward[:, 0] = 0  # no other direction
    forward, backward = forward[:lags, :lags], backward[:lags, :lags]
    return _average(forward, backward, good)


def _average(
    forward: NDArray[np.float64], backward: NDArray[np.float64], good: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Both directions, each less the product of its own means, weighted by their pairs."""
    count = forward[..., kernels.COUNT] + backward[..., kernels.COUNT]
    total = np.zeros(count.shape)
    for sums in (forward, backward):
        product, n, first, second = np.moveaxis(sums, -1, 0)
        total += product - np.divide(first * second, n, out=np.zeros(n.shape), where=n > 0)
    cov = np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
    whole: NDArray[np.float64] = cov + cov[0, 0] / good
    return whole, count.astype(np.int64)
