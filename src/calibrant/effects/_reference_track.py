"""How well reference pixels follow active ones: slopes, lags, and what amplifiers share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._reference_levels import SEVERAL, Series, Value, changes

Floats = NDArray[np.float64]
LAGS = 3  # groups


def deviations(series: Series) -> Floats:
    """Levels about the mean of their ramp, (ramps, groups)."""
    counts = np.isfinite(series.level).sum(axis=1, keepdims=True)
    means = np.nansum(series.level, axis=1, keepdims=True) / np.where(counts > 1, counts, np.nan)
    return np.asarray(series.level - means)


def tracking(active: Series, reference: Series) -> tuple[Value, float]:
    """How much active pixels change per change of the reference, and their correlation, within ramps.

    The noise of the reference pixels themselves, which would flatten the slope, is taken out of its
    denominator. The sigma of the slope is that of leaving out each ramp in turn; of fewer than three, that of
    a line through independent reads.

    Returns
    -------
    slope : Value
        NaN if the reference does not move beyond its noise.
    correlation : float
    """
    x, y = deviations(reference), deviations(active)
    both = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(both, x, 0.0), np.where(both, y, 0.0)
    fit = both.sum(axis=1) > 1
    if not fit.any():
        return Value(), math.nan
    x, y, n = x[fit], y[fit], both[fit].sum(axis=1)
    noise = reference.error[fit] ** 2 * (n - 1)
    plain, power, product = (x * x).sum(axis=1), (y * y).sum(axis=1), (x * y).sum(axis=1)
    width = math.sqrt(float(plain.sum() * power.sum()))
    correlation = float(product.sum() / width) if width > 0 else math.nan
    rest = float((plain - noise).sum())
    # of noise alone the rest is 0 within sqrt(2 / n) of the noise
    if not rest > 3.0 * math.sqrt(2.0 / float((n - 1).sum())) * float(noise.sum()):
        return Value(), correlation
    slope = float(product.sum()) / rest
    if len(n) >= SEVERAL:
        left = (product.sum() - product) / (plain.sum() - plain - noise.sum() + noise)
        sigma = math.sqrt((len(n) - 1) / len(n) * float(((left - left.mean()) ** 2).sum()))
    else:
        about = float(power.sum() - 2 * slope * product.sum() + slope**2 * plain.sum())
        sigma = math.sqrt(max(about, 0.0) / float((n - 1).sum()) * float(plain.sum())) / rest
    return Value(slope, sigma), correlation


def lagged(active: Series, reference: Series) -> dict[int, float]:
    """Correlation of changes of active pixels with those of the reference some groups before, by lag."""
    x, y = changes(reference), changes(active)
    found = {}
    for lag in range(-LAGS, LAGS + 1):
        a = y[:, max(lag, 0) : y.shape[1] + min(lag, 0)]
        b = x[:, max(-lag, 0) : x.shape[1] + min(-lag, 0)]
        both = np.isfinite(a) & np.isfinite(b)
        width = math.sqrt(float((a[both] ** 2).sum() * (b[both] ** 2).sum()))
        found[lag] = float((a[both] * b[both]).sum()) / width if both.sum() > 2 and width > 0 else math.nan
    return found


def covariance(one: Series, other: Series, *, same: bool) -> Value:
    """Covariance of two levels within ramps, adu2; of one with itself the noise of pixels is taken out.

    The sigma is that of the scatter between ramps, NaN with fewer than three.
    """
    x, y = deviations(one), deviations(other)
    both = np.isfinite(x) & np.isfinite(y)
    n = both.sum(axis=1)
    fit = n > 1
    if not fit.any():
        return Value()
    found = np.where(both, x * y, 0.0).sum(axis=1)[fit] / (n[fit] - 1)
    if same:
        found -= one.error[fit] ** 2
    mean = float(found.mean())
    if len(found) < SEVERAL:
        return Value(mean)
    return Value(mean, float(found.std(ddof=1)) / math.sqrt(len(found)))


def instability(difference: Series) -> Value:
    """Rms change of active less reference from read to read, over the square root of 2, adu.

    The figure that Leisenring's pynrc calls the instability of reference pixels.
    """
    step = changes(difference)
    n = np.isfinite(step).sum(axis=1)
    fit = n > 1
    if not fit.any():
        return Value()
    freedom = float((n[fit] - 1.0 / n[fit]).sum())
    value = math.sqrt(float(np.nansum(step[fit] ** 2)) / freedom / 2.0)
    return Value(value, value * math.sqrt(3.0 / freedom) / 2.0)


def matrix(series: Sequence[Series | None]) -> list[tuple[int, int, Value]]:
    """Covariances of all pairs of outputs, (from 1, from 1, covariance)."""
    known = [(number, one) for number, one in enumerate(series, 1) if one is not None]
    return [(i, j, covariance(one, other, same=i == j)) for i, one in known for j, other in known if j >= i]
