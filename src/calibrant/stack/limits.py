"""From a rejection to the rejected: the stage between admission and combination, on bands of float32
values."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.stack import kernels_rank as kernels
from calibrant.stack.networks import sorting_network
from calibrant.stack.reject import (
    GESD,
    AvSigClip,
    LinearFit,
    MinMax,
    PClip,
    Percentile,
    Rejection,
    SigmaClip,
    Winsorised,
)

UNTIL_STABLE = 1 << 20
WIDTH = 128


def rounds_of(reject: Rejection) -> int:
    """Iterations of a rejection; very many where it goes on until nothing changes."""
    return getattr(reject, "iterations", 1) or UNTIL_STABLE


def reject_ranks(
    values: NDArray[np.float32],
    reject: Rejection,
    n_keep: int,
    cols: int,
    low: NDArray[np.uint16],
    high: NDArray[np.uint16],
) -> None:
    """Make what a rejection by rank leaves out absent, and count it.

    values (N, P) float32 of whole rows of `cols` pixels, absent ones +inf; low, high (P,).
    """
    frames, pixels = values.shape
    ends, ties = np.empty((2, pixels)), np.empty((2, pixels), np.int32)
    net, rounds = sorting_network(frames), rounds_of(reject)
    column = np.empty(frames)
    kind, options = _options(reject)
    if kind == kernels.AVERAGE_SIGMA:
        buffers = (
            np.empty((frames, cols), np.int32),
            np.empty(cols, np.int32),
            column,
            np.empty((2, cols), np.int64),
        )
        kernels.average_sigma_limits(values.view(np.int32), net, options, rounds, n_keep, buffers, ends, ties)
    else:
        table = np.zeros((1, 1))
        if isinstance(reject, GESD):
            table = critical_deviates(frames, reject.alpha, reject.fraction)
        small = (np.empty((frames, WIDTH), np.int32), np.empty(WIDTH, np.int32), column)
        kernels.rank_limits(
            values.view(np.int32), net, kind, options, table, rounds, n_keep, small, ends, ties
        )
    kernels.cut_ranks(values, ends, ties, low, high)


def _options(reject: Rejection) -> tuple[int, NDArray[np.float64]]:
    """The kernel's number of a rejection, and its three options."""
    if isinstance(reject, SigmaClip):
        return kernels.MAD_CLIP, np.array([reject.low, reject.upper, reject.centre == "mean"], float)
    if isinstance(reject, MinMax):
        return kernels.MIN_MAX, np.array([reject.low, reject.high, 0], float)
    if isinstance(reject, Percentile):
        return kernels.PERCENTILE, np.array([reject.low, reject.high, 0], float)
    if isinstance(reject, PClip):
        return kernels.P_CLIP, np.array([reject.rank, reject.low, reject.high], float)
    if isinstance(reject, Winsorised):
        return kernels.WINSORISED, np.array([reject.low, reject.high, 0], float)
    if isinstance(reject, LinearFit):
        return kernels.LINEAR_FIT, np.array([reject.low, reject.high, 0], float)
    if isinstance(reject, GESD):
        return kernels.EXTREME_DEVIATE, np.array([reject.fraction, 0, 0], float)
    if isinstance(reject, AvSigClip):
        return kernels.AVERAGE_SIGMA, np.array([reject.low, reject.high, reject.centre == "mean"], float)
    raise TypeError(f"{reject} is not a rejection by rank")


@lru_cache(maxsize=8)
def critical_deviates(frames: int, alpha: float, fraction: float) -> NDArray[np.float64]:
    """Critical values of the generalised extreme Studentised deviate test, float64 (frames + 1, most).

    Element (n, i) belongs to the i-th most extreme (from 0) of n values: Rosner 1983, equation 2.5.
    """
    from scipy.special import stdtrit  # heavy, and of no other rejection's use

    most = max(1, int(fraction * frames))
    n = np.arange(frames + 1, dtype=float)[:, None]
    i = np.arange(1, most + 1, dtype=float)[None, :]
    freedom = n - i - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        t = stdtrit(np.maximum(freedom, 1), 1 - alpha / (2 * (n - i + 1)))
        table = (n - i) * t / np.sqrt((freedom + t * t) * (n - i + 1))
    return np.where(freedom >= 1, table, np.inf)


def disc(radius: float) -> NDArray[np.int64]:
    """Offsets (row, column) within a radius, without the centre; int64 (offsets, 2)."""
    reach = int(np.ceil(radius))
    rows, cols = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    near = (rows**2 + cols**2 <= radius**2) & ((rows != 0) | (cols != 0))
    return np.stack([rows[near], cols[near]], axis=1).astype(np.int64)


def grow(
    values: NDArray[np.float32],
    before: NDArray[np.uint8],
    radius: float,
    rows: int,
    n_keep: int,
    high: NDArray[Any],
) -> None:
    """Reject the neighbours of what was rejected since `before` (N, P) was noted."""
    kernels.grow_rejected(values, before, disc(radius), rows, n_keep, high)
