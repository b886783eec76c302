"""Fringes by their peaks, as published: the highest samples, and a spline through them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import InterpolatedUnivariateSpline

from calibrant.errors import OptionError, ShapeError

F8 = NDArray[np.float64]


def find_peaks(values: NDArray[Any], thres: float = 0.3, min_dist: int = 1) -> NDArray[np.int64]:
    """Samples that are higher than both neighbours, as published (the `indexes` of PeakUtils).

    Parameters
    ----------
    values : ndarray
        (n,); NaN counts as 0. Whole numbers without a sign, whose differences would wrap, become floats.
    thres : float
        Part of the range above the lowest value that a peak must exceed.
    min_dist : int
        Of two peaks up to so many samples apart the higher one stays, highest first.

    Returns
    -------
    ndarray
        int64, ascending. A level top is one peak, at its middle; constant values have none.

    Raises
    ------
    ShapeError, OptionError
        If values have several axes, or options no meaning.
    """
    y = np.nan_to_num(np.asarray(values, np.float64))
    if y.ndim != 1:
        raise ShapeError("peaks are looked for in one spectrum", got=y.shape)
    if not (0 <= thres <= 1 and min_dist >= 1):
        raise OptionError(
            "an option of peaks has no meaning",
            where="find_peaks",
            expected="thres 0 to 1, min_dist >= 1",
            got=f"thres {thres}, min_dist {min_dist}",
        )
    if y.size < 3 or y.min() == y.max():
        return np.zeros(0, np.int64)
    limit = thres * (y.max() - y.min()) + y.min()
    step = _without_plateaus(np.diff(y))
    high = (np.append(step, 0.0) < 0) & (np.insert(step, 0, 0.0) > 0) & (y > limit)
    return _apart(np.flatnonzero(high), y, min_dist)


def _without_plateaus(step: F8) -> F8:
    """Steps of 0 take the sign of what comes before in their first half, of what comes after in the rest."""
    moving = np.flatnonzero(step)
    if moving.size == step.size:
        return step
    place = np.arange(step.size)
    after = np.searchsorted(moving, place)
    left = moving[np.clip(after - 1, 0, moving.size - 1)]
    right = moving[np.clip(after, 0, moving.size - 1)]
    nearest = np.where((place - left <= right - place) & (after > 0), left, right)
    nearest = np.where(after == moving.size, left, nearest)
    made: F8 = np.where(step == 0, step[nearest], step)
    return made


def _apart(peaks: NDArray[np.int64], y: F8, min_dist: int) -> NDArray[np.int64]:
    """The highest peak, without all others within `min_dist` of it, and so on."""
    if peaks.size < 2 or min_dist <= 1:
        return peaks
    gone = np.ones(y.size, bool)
    gone[peaks] = False
    for peak in peaks[np.argsort(y[peaks])][::-1]:
        if not gone[peak]:
            gone[max(0, peak - min_dist) : peak + min_dist + 1] = True
            gone[peak] = False
    return np.flatnonzero(~gone)


def norm_fringe(
    values: NDArray[Any], thres: float = 0.0, min_dist: int = 2, k: int = 3, ext: int = 3
) -> tuple[F8, NDArray[np.int64], F8]:
    """A spectrum, its peaks, and the spline through them that is its continuum, as published.

    Parameters
    ----------
    values : ndarray
        (n,).
    thres, min_dist : float, int
        Of `find_peaks`.
    k, ext : int
        Degree of the spline in samples (not wavelength), 1 to 5, and what it does outside of the peaks, as of
        scipy: 3 holds the last value.

    Returns
    -------
    values : ndarray
        float64, NaN replaced by 0.
    peaks : ndarray
        int64.
    continuum : ndarray
        float64. What the published function failed on: with 2 to k peaks the degree is one less than their
        number; with one peak the continuum is its height; with none it is NaN (was 0, and then divided by).

    Raises
    ------
    ShapeError, OptionError
        As of `find_peaks`; if k or ext have no meaning.
    """
    if k not in range(1, 6) or ext not in range(4):
        raise OptionError(
            "no such spline", where="norm_fringe", expected="k 1 to 5, ext 0 to 3", got=(k, ext)
        )
    clean = np.nan_to_num(np.asarray(values, np.float64))
    peaks = find_peaks(clean, thres, min_dist)
    dark = np.flatnonzero(clean)
    if peaks.size and dark.size and peaks[0] == dark[0]:
        peaks = peaks[1:]  # the first sample with light rises from nothing
    if peaks.size == 0:
        return clean, peaks, np.full(clean.size, np.nan)
    if peaks.size == 1:
        return clean, peaks, np.full(clean.size, clean[peaks[0]])
    spline = InterpolatedUnivariateSpline(peaks, clean[peaks], k=min(k, peaks.size - 1), ext=ext)
    return clean, peaks, np.asarray(spline(np.arange(clean.size)), np.float64)
