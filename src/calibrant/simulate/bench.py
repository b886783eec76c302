"""Bench: what a laboratory shows to a detector: spots of light in one amplifier, and stars that are alike."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from calibrant.simulate.structure import F4, Shape

F8 = NDArray[np.float64]
Window = tuple[slice, slice]

SOFT = 0.7  # pixels, of the edge of a spot
SPACING = 32  # pixels between stars
SIGMA = 1.7  # pixels, of a star


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


def places(shape: Shape, rng: np.random.Generator) -> tuple[F8, F8]:
    """Rows and columns of stars on a grid, each moved by up to a pixel, pixels from 0."""
    rows, cols = (np.arange(SPACING / 2, size - SPACING / 2 + 1, SPACING) for size in shape)
    grid = np.meshgrid(rows, cols, indexing="ij")
    row, col = (axis.ravel() + rng.uniform(-1.0, 1.0, axis.size) for axis in grid)
    return row, col


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
