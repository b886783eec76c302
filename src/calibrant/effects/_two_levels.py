"""Values that jump between two levels, as those of telegraph pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
ROUNDS = 30  # of expectation and maximisation
APART = 2.5  # sigmas within a level that two levels of a telegraph pixel are apart
EVIDENCE = 12.0  # fall of the Bayesian information criterion
LEFT = 0.4  # autocorrelation that a drift leaves about two levels, and jumps do not


def two_levels(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Evidence that values jump between two levels: a mixture of two normals of one width against one normal.

    Parameters
    ----------
    x : ndarray
        (groups, pixels) about their mean.

    Returns
    -------
    evidence, distance, falls : ndarray
        (pixels,) fall of the Bayesian information criterion, -inf where the levels overlap or the values
        wander (what two levels leave is then still correlated from read to read); distance of the levels;
        jumps from the upper level to the lower, which no charge makes.
    """
    n = len(x)
    one = np.maximum((x**2).mean(axis=0), 1e-12)
    low, high = np.percentile(x, 15.0, axis=0), np.percentile(x, 85.0, axis=0)
    variance, share = one * 0.25, np.full(x.shape[1], 0.5)
    for _ in range(ROUNDS):
        upper = _membership(x, low, high, variance, share)
        count = np.clip(upper.sum(axis=0), 1e-9, n - 1e-9)
        high = (upper * x).sum(axis=0) / count
        low = ((1.0 - upper) * x).sum(axis=0) / (n - count)
        spread = upper * (x - high) ** 2 + (1.0 - upper) * (x - low) ** 2
        variance = np.maximum(spread.mean(axis=0), 0.01 * one)
        share = count / n
    above: Bools = _membership(x, low, high, variance, share) > 0.5
    left = x - np.where(above, high, low)
    memory = (left[1:] * left[:-1]).sum(axis=0) / np.maximum((left**2).sum(axis=0), 1e-12)
    both = share * np.exp(-((x - high) ** 2) / 2.0 / variance)
    both = both + (1.0 - share) * np.exp(-((x - low) ** 2) / 2.0 / variance)
    gain = 2.0 * (np.log(both + 1e-300) - 0.5 * np.log(variance)).sum(axis=0)
    gain += n * (np.log(one) + 1.0) - 2.0 * math.log(n)
    apart = np.abs(high - low)
    fine = (apart > APART * np.sqrt(variance)) & (memory < LEFT)
    # one read alone on a level is an outlier, no jump and back
    several = (above.sum(axis=0) > 1) & ((~above).sum(axis=0) > 1)
    falls = (above[:-1] & ~above[1:]).sum(axis=0).astype(np.float64)
    return np.where(fine & several, gain, -np.inf), apart, falls


def _membership(x: Floats, low: Floats, high: Floats, variance: Floats, share: Floats) -> Floats:
    """Probability of the upper level."""
    odds = ((x - low) ** 2 - (x - high) ** 2) / (2.0 * variance) + np.log(share / (1.0 - share))
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(odds, -500.0, 500.0))))
