"""Bench: what a laboratory shows to a detector: spots of light in one amplifier, and stars that are alike."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from calibrant.simulate.structure import F4, Shape

F8 = NDArray[np.float64]
Window = tuple[slice, slice]

SOFT = 0.7  # pixels, of the edge of a spot
SPACING = 32  # pixels between stars, at least
SIGMA = 1.3  # pixels, of a star


def spots(shape: Shape, window: Window, rng: np.random.Generator) -> F4:
    """Discs of light inside the pixels of one amplifier, nowhere near its borders.

    Their places are drawn, so that an image that is turned over is another one.

    Parameters
    ----------
    shape : tuple of int
        Rows, columns of the detector.
    window : tuple of slice
        Pixels of the amplifier.

    Returns
    -------
    array
        (rows, cols), float32: 1 inside the discs, 0 far from them.
    """
    plane = np.zeros(shape, np.float32)
    (bottom, top, _), (left, right, _) = (
        part.indices(size) for part, size in zip(window, shape, strict=True)
    )
    step = (right - left) / 2.0
    radius = step / 4.0
    for row in np.arange(bottom + step / 2.0, top - step / 2.0 + 1e-6, step):
        for col in (left + step / 2.0, right - step / 2.0):
            y0, x0 = row + rng.uniform(-0.15, 0.15) * step, col + rng.uniform(-0.15, 0.15) * step
            y, x = np.ogrid[bottom:top, left:right]
            inside = (radius - np.hypot(y - y0, x - x0)) / SOFT
            np.maximum(plane[window], 0.5 * (1.0 + erf(inside)), out=plane[window])
    return plane


def places(shape: Shape, windows: Iterable[Window], rng: np.random.Generator) -> tuple[F8, F8]:
    """Rows and columns of stars, pixels from 0: a grid in each amplifier, each moved by up to a pixel."""
    found = []
    for window in windows:
        ends = (part.indices(size) for part, size in zip(window, shape, strict=True))
        axes = (_even(first, stop) for first, stop, _ in ends)
        found.append(np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]))
    row, col = np.concatenate(found, axis=1)
    return row + rng.uniform(-1.0, 1.0, row.size), col + rng.uniform(-1.0, 1.0, col.size)


def _even(first: int, stop: int) -> F8:
    """Places `SPACING` or more apart, the outer ones half as far from the ends."""
    count = max(1, (stop - first) // SPACING)
    return np.asarray(first - 0.5 + (stop - first) / count * (np.arange(count) + 0.5))


def stars(shape: Shape, at: tuple[F8, F8]) -> F4:
    """Gaussian stars of one shape, integrated over pixels.

    Returns
    -------
    array
        (rows, cols), float32: 1 in the middle of a pixel that is in the middle of a star.
    """
    plane, reach = np.zeros(shape, np.float32), SPACING // 2
    peak = erf(0.5 / (math.sqrt(2.0) * SIGMA)) ** 2
    for centre in zip(*at, strict=True):
        parts = tuple(_profile(middle, size, reach) for middle, size in zip(centre, shape, strict=True))
        (rows, along), (cols, across) = parts
        plane[rows, cols] += np.outer(along, across) / peak
    return plane


def _profile(middle: float, size: int, reach: int) -> tuple[slice, F8]:
    """Pixels about a star on one axis, and the part of its light in each."""
    first, stop = max(0, round(middle) - reach), min(size, round(middle) + reach + 1)
    edges = (np.arange(first, stop + 1) - 0.5 - middle) / (math.sqrt(2.0) * SIGMA)
    return slice(first, stop), 0.5 * np.diff(erf(edges))
