"""Light of the slices themselves that spills over their edges into the gaps, and is no stray light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize_scalar

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]
ROUNDS = 8  # of Van Cittert's iteration: the blur is narrow, and edges are right after a few
WIDEST = 2.5  # pixels, of sigma
REACH = 6.0  # sigmas
EVERY = 8  # rows: the blur is one number for all
NEAR = 4  # pixels from a slice: where gaps are looked at to find the blur


def spill(light: F8, inside: Bools, sigma: float) -> F8:
    """What a blur across the slices brings from them into the gaps.

    Parameters
    ----------
    light : ndarray
        float64, (rows, cols), wavelength along rows: as seen, without what is not from the slices.
    inside : ndarray
        bool: pixels of slices.
    sigma : float
        Of the blur, pixels.

    Returns
    -------
    ndarray
        float64, (rows, cols), 0 inside slices. The light before the blur, which is 0 in the gaps and becomes
        what is seen inside, is found by Van Cittert's iteration (1931, Z. Phys. 69, 298).
    """
    seen = np.where(inside & np.isfinite(light), light, 0.0)
    before = seen.copy()
    for _ in range(ROUNDS):
        before += np.where(inside, seen - _blurred(before, sigma), 0.0)
    return np.where(inside, 0.0, _blurred(before, sigma))


def _blurred(plane: F8, sigma: float) -> F8:
    made: F8 = gaussian_filter1d(plane, sigma, axis=1, mode="constant", truncate=REACH)
    return made


def blur(light: F8, inside: Bools, gaps: Bools) -> float:
    """The sigma, in pixels, that explains best how the gaps brighten towards the slices.

    Parameters
    ----------
    light, inside : ndarray
        As of `spill`; in the gaps what is seen there.
    gaps : ndarray
        bool: good pixels between slices.

    Returns
    -------
    float
        0 if no blur explains more than none does.
    """
    rows = slice(EVERY // 2, None, EVERY)
    light, inside, gaps = light[rows], inside[rows], gaps[rows]
    near = gaps & (gaussian_filter1d(inside.astype(np.float64), NEAR / 2, axis=1, truncate=2.0) > 0)
    stretch = np.cumsum(np.diff(near.astype(np.int8), axis=1, prepend=0) == 1, axis=1)
    lane = (stretch + np.arange(len(near))[:, None] * (int(stretch.max(initial=0)) + 1))[near]
    if not lane.size:
        return 0.0
    count = np.maximum(np.bincount(lane), 1)

    def left(sigma: float) -> float:
        rest = light[near] - (spill(light, inside, sigma)[near] if sigma > 0 else 0.0)
        # Each stretch of a row has a level of its own: only how it changes across the gap counts.
        return float(np.mean(np.abs(rest - (np.bincount(lane, rest) / count)[lane])))

    found = minimize_scalar(left, bounds=(0.2, WIDEST), method="bounded", options={"xatol": 1e-3})
    return float(found.x) if found.fun < left(0.0) else 0.0
