"""The light of a window about a fractional column: sums of pixels, interpolated, with their errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]
POINTS = 6  # edges of pixels through which the curve of sums runs


def spectrum(
    values: F8, variance: F8 | None, inside: Bools, rows: NDArray[np.int32], cols: F8, width: float
) -> tuple[F8, F8]:
    """Light within `width` columns about each trace column, and its sigma; NaN where it is not known.

    The sum of pixels from the slice's edge to any column is a smooth curve through its values at the edges of
    pixels (degree 5, exact there), and the light between two columns their difference: linear in the pixels,
    so that errors follow, and a window that moves along has no steps.
    """
    weights = _weights(inside[rows], cols, width)
    value, sigma = np.full((2, len(rows)), np.nan)
    known = np.isfinite(weights).any(axis=1)
    taken, used = values[rows], weights != 0
    with np.errstate(invalid="ignore"):
        known &= ~(used & ~np.isfinite(taken)).any(axis=1)
        value[known] = np.where(used, weights * taken, 0.0)[known].sum(axis=1)
        if variance is not None:
            sigma[known] = np.sqrt(np.where(used, weights**2 * variance[rows], 0.0)[known].sum(axis=1))
    return value, sigma


def _weights(inside: Bools, cols: F8, width: float) -> F8:
    """What each pixel of a row counts; NaN in rows whose window leaves the slice."""
    count, size = inside.shape
    first, number = inside.argmax(axis=1), inside.sum(axis=1)
    low, high = cols + 0.5 - 0.5 * width, cols + 0.5 + 0.5 * width  # on the scale of edges
    with np.errstate(invalid="ignore"):
        fits = (low >= first) & (high <= first + number) & (number >= POINTS - 1)
    weights: F8 = np.full((count, size), np.nan)
    if fits.any():
        at = [_cumulative(edge[fits], first[fits], number[fits], size) for edge in (low, high)]
        weights[fits] = at[1] - at[0]
        weights[fits] *= np.abs(weights[fits]) > 1e-12
    return weights


def _cumulative(edge: F8, first: NDArray[np.int64], number: NDArray[np.int64], size: int) -> F8:
    """How much of each pixel the sum up to a place between edges holds."""
    begin = np.clip(np.floor(edge).astype(int) - POINTS // 2 + 1, first, first + number - POINTS + 1)
    nodes = begin[:, None] + np.arange(POINTS)
    part = np.ones((len(edge), POINTS))
    for k in range(POINTS):  # Lagrange
        for other in range(POINTS):
            if other != k:
                part[:, k] *= (edge - nodes[:, other]) / (k - other)
    pixel = np.arange(size)
    made: F8 = np.zeros((len(edge), size))
    for k in range(POINTS):  # the sum at node n holds all pixels before n
        made += part[:, k, None] * (pixel < nodes[:, k, None])
    return made
