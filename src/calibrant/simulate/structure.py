"""Patterns of a detector: bias structure, dark current, throughput, shutter and defects, as planes.

Every function takes the shape (rows, cols) first and a `numpy.random.Generator` where it draws; lengths are
fractions of the frame, so that a small detector looks like a large one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from calibrant.frame import DQ

Shape = tuple[int, int]
F4 = NDArray[np.float32]

NOTEBOOK_DUST = (1250 / 2048, 1900 / 2048)
"""Place (row, col), as a fraction of the frame, of the dust shadow that every simulated detector has."""


def unit_grid(shape: Shape) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows (n, 1) and columns (1, m) as fractions from -1 to 1 of the half size, 0 in the middle."""
    rows, cols = shape
    return (
        np.linspace(-1.0, 1.0, rows)[:, np.newaxis],
        np.linspace(-1.0, 1.0, cols)[np.newaxis, :],
    )


def row_level(rows: int, amplitude: float) -> F4:
    """Level of each row in adu, shared by the overscan: settles after the first rows, then rises slowly.

    Returns
    -------
    array
        (rows,), adu.
    """
    place = np.linspace(0.0, 1.0, rows)
    return (amplitude * (np.exp(-place / 0.04) + 0.4 * place)).astype(np.float32)


def bias_structure(shape: Shape, amplitude: float, rng: np.random.Generator) -> F4:
    """Structure of the bias that the overscan does not see, in adu, mean zero.

    A gradient along the rows, a glowing corner, a column pattern, and a fixed pattern pixel by pixel.

    Returns
    -------
    array
        (rows, cols), adu.
    """
    y, x = unit_grid(shape)
    columns = rng.normal(0.0, 0.25, shape[1]) + gaussian_filter1d(rng.normal(0.0, 2.0, shape[1]), 8.0)
    corner = np.exp(-((y + 1.0) ** 2 + (x - 1.0) ** 2) / 0.08)
    plane = 0.6 * x + 0.3 * x * y + 1.5 * corner + columns[np.newaxis, :]
    plane = amplitude * (plane + rng.normal(0.0, 0.12, shape))
    return np.asarray(plane - plane.mean(), dtype=np.float32)


def dark_rate(
    shape: Shape, median: float, hot_fraction: float, rng: np.random.Generator
) -> tuple[F4, NDArray[np.uint32]]:
    """Dark current in electron/s and the flags of its hot and warm pixels.

    The ordinary pixels scatter log-normally by 8 %, with a glow at one corner; the hot ones have a log-normal
    tail about 30 times the median. Flags: ``HOT`` above 20 times, ``WARM`` above 5 times the median.

    Returns
    -------
    rate : array
        (rows, cols), electron/s.
    dq : array of uint32
        (rows, cols).
    """
    y, x = unit_grid(shape)
    glow = np.exp(-np.hypot(y - 1.0, x - 1.0) / 0.15)
    rate = median * (np.exp(rng.normal(0.0, 0.08, shape)) + 2.0 * glow)
    hot = rng.random(shape) < hot_fraction
    rate[hot] = 30.0 * median * np.exp(rng.normal(0.0, 1.2, int(hot.sum())))
    dq = np.zeros(shape, np.uint32)
    dq[hot & (rate > 5.0 * median)] = DQ.WARM
    dq[hot & (rate > 20.0 * median)] = DQ.HOT
    return rate.astype(np.float32), dq


def vignetting(shape: Shape, depth: float) -> F4:
    """Throughput of the optics: 1 on the axis, a little off centre, about ``1 - depth`` in the corners."""
    y, x = unit_grid(shape)
    radius2 = ((y - 0.06) ** 2 + (x + 0.04) ** 2) / 2.0
    return (1.0 - depth * (0.55 * radius2 + 0.45 * radius2**2)).astype(np.float32)


def dust(shape: Shape, places: Sequence[tuple[float, float, float, float]]) -> F4:
    """Throughput through specks of dust, each the out-of-focus image of an obstructed pupil: a dark ring.

    Parameters
    ----------
    places : sequence of (row, col, radius, depth)
        Row and column as fractions of the frame, outer radius as one of the longer side, depth of the ring.

    Returns
    -------
    array
        (rows, cols), 1 where there is no dust.
    """
    plane = np.ones(shape, np.float32)
    side = max(shape)
    for row, col, radius, depth in places:
        r0, c0, reach = row * shape[0], col * shape[1], radius * side
        rows = slice(max(0, int(r0 - 1.5 * reach)), max(0, int(r0 + 1.5 * reach) + 1))
        cols = slice(max(0, int(c0 - 1.5 * reach)), max(0, int(c0 + 1.5 * reach) + 1))
        y, x = np.ogrid[rows, cols]
        distance = np.hypot(y - r0, x - c0) / reach
        ring = _edge(1.0 - distance) - 0.85 * _edge(0.42 - distance)
        patch = plane[rows, cols]
        patch *= (1.0 - depth * ring[: patch.shape[0], : patch.shape[1]]).astype(np.float32)
    return plane


def _edge(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A soft step, 0 to 1, over about a tenth of the radius."""
    return np.asarray(0.5 * (1.0 + np.tanh(distance / 0.06)))


def draw_dust(
    count: int, radius: tuple[float, float], depth: tuple[float, float], rng: np.random.Generator
) -> list[tuple[float, float, float, float]]:
    """Random specks as `dust` takes them, radius and depth between the two limits."""
    rows, cols = rng.random(count), rng.random(count)
    return [
        (float(row), float(col), float(rng.uniform(*radius)), float(rng.uniform(*depth)))
        for row, col in zip(rows, cols, strict=True)
    ]


def throughput(
    shape: Shape, filters: Sequence[str], vignette: float, prnu: float, rng: np.random.Generator
) -> dict[str, F4]:
    """Throughput of each filter before defects, median 1.

    Vignetting, the dust on the window and most of the pixel response (PRNU) are common; each filter has dust
    of its own, larger and fainter because it lies farther from the detector, and a tenth of the variance.

    Returns
    -------
    dict of str to array
        Filter -> (rows, cols), dimensionless.
    """
    window = [(*NOTEBOOK_DUST, 0.024, 0.09), *draw_dust(7, (0.008, 0.024), (0.03, 0.10), rng)]
    common = vignetting(shape, vignette) * dust(shape, window)
    pixels = rng.normal(0.0, prnu * np.sqrt(0.9), shape)
    planes: dict[str, F4] = {}
    for name in filters:
        own = dust(shape, draw_dust(4, (0.04, 0.07), (0.01, 0.03), rng))
        plane = common * own * (1.0 + pixels + rng.normal(0.0, prnu * np.sqrt(0.1), shape))
        planes[name] = (plane / np.median(plane)).astype(np.float32)
    return planes


def shutter_delay(shape: Shape, travel: float) -> F4:
    """Seconds by which an iris of six blades exposes a pixel longer (centre) or shorter (corners) than asked.

    Parameters
    ----------
    travel : float
        Difference between the centre and a corner, seconds.

    Returns
    -------
    array
        (rows, cols), seconds, mean zero.
    """
    y, x = unit_grid(shape)
    radius = np.hypot(y, x) / np.sqrt(2.0) * (1.0 + 0.12 * np.cos(6.0 * np.arctan2(y, x)))
    return np.asarray(-travel * (radius - radius.mean()), dtype=np.float32)


def scatter_pixels(shape: Shape, count: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], ...]:
    """Rows and columns of `count` different pixels, away from the outermost two rows and columns."""
    inner = (max(shape[0] - 4, 1), max(shape[1] - 4, 1))
    flat = rng.choice(inner[0] * inner[1], size=min(count, inner[0] * inner[1]), replace=False)
    rows, cols = np.unravel_index(np.sort(flat), inner)
    return rows + min(2, shape[0] - 1), cols + min(2, shape[1] - 1)
