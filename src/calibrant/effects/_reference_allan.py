"""Allan deviation of levels: how far averages over a time differ from those over the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._reference_levels import Series

Floats = NDArray[np.float64]


def spans(groups: int) -> list[int]:
    """Groups that are averaged: 1, 2, 4 ... up to a third of a ramp."""
    return [2**k for k in range(groups.bit_length()) if 3 * 2**k <= groups or 2**k == 1 < groups]


def allan(series: Series) -> tuple[Floats, Floats, Floats]:
    """Overlapping Allan deviation, averages never crossing a reset.

    Parameters
    ----------
    series : Series
        Levels, adu; lost groups are NaN, and averages over them are left out.

    Returns
    -------
    span, deviation, sigma : ndarray
        Groups averaged; adu; adu. ``deviation^2 = <(mean of the next m groups - mean of these m)^2> / 2``;
        sigma is that of white levels (edf of Riley 2008, NIST Special Publication 1065, table 5).
    """
    groups = series.level.shape[1]
    found = []
    for m in spans(groups):
        means = np.lib.stride_tricks.sliding_window_view(series.level, m, axis=1).mean(axis=-1)
        step = means[:, m:] - means[:, :-m]
        n = int(np.isfinite(step).sum())
        if n == 0:
            continue
        variance = float(np.nanmean(step**2)) / 2.0
        freedom = len(series.level) * _freedom(groups, m) * n / step.size
        found.append((float(m), np.sqrt(variance), np.sqrt(variance / (2.0 * max(freedom, 0.5)))))
    span, deviation, sigma = np.array(found, np.float64).reshape(-1, 3).T
    return span, deviation, sigma


def _freedom(groups: int, m: int) -> float:
    """Degrees of freedom of one ramp of white levels."""
    n = groups + 1
    return (1.5 * (n - 1) / m - 2.0 * (n - 2) / n) * 4.0 * m * m / (4.0 * m * m + 5.0)
