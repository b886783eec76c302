"""The fixed point of the brighter-fatter correction, in bands of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

Image = NDArray[np.float32]
BAND = 512  # rows of a transform, halo included: its numbers stay near the processor

LATE = np.float32(1.0 / 3.0)  # of the charge that was read
EARLY = np.float32(1.0 / 6.0)  # of the light; see docs/effects/brighter_fatter.md


class Maps(Protocol):
    """The part of a runner of threads that is needed here."""

    def map(self, task: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results of `task` for each of `items`, in any order."""
        ...


@dataclass(frozen=True, eq=False)
class Corrected:
    """What the fixed point gave.

    Attributes
    ----------
    light : (rows, cols) float32
        Electrons where they would have been collected without the effect.
    iterations : int
    change : float
        Of the last iteration: sum of absolute changes over that of the correction.
    converged : bool
    """

    light: Image
    iterations: int
    change: float
    converged: bool


class Convolution:
    """Convolution with a small kernel by FFT in bands of rows; beyond its border an image goes on level."""

    def __init__(self, kernel: NDArray[Any], shape: tuple[int, int]) -> None:
        self.half = kernel.shape[0] // 2
        rows, cols = shape
        high = min(BAND, rows + 2 * self.half)
        self.size = next_fast_len(high, real=True), next_fast_len(cols + 2 * self.half, real=True)
        self.step = self.size[0] - 2 * self.half
        self.kernel = rfft2(np.asarray(kernel, np.float32), self.size)

    def bands(self, rows: int) -> list[slice]:
        """Rows that one transform gives."""
        return [slice(top, min(top + self.step, rows)) for top in range(0, rows, self.step)]

    def band(self, light: Image, charge: Image, at: slice, level: np.float32) -> Image:
        """Rows `at` of the kernel's potential in the mean charge during the exposure, less `level`."""
        half, (rows, cols) = self.half, light.shape
        below, above = max(at.start - half, 0), min(at.stop + half, rows)
        mean = (light[below:above] - level) * EARLY + (charge[below:above] - level) * LATE
        margin = (half - (at.start - below), half - (above - at.stop)), (half, half)
        part = np.pad(mean, margin, mode="edge")
        full = irfft2(rfft2(part, self.size) * self.kernel, self.size)
        found: Image = full[2 * half : 2 * half + at.stop - at.start, 2 * half : 2 * half + cols]
        return found


def correct(
    charge: Image,
    kernel: NDArray[Any],
    *,
    form: str = "flux",
    tolerance: float = 1e-3,
    max_iterations: int = 10,
    runner: Maps | None = None,
) -> Corrected:
    """Find the light whose charge, moved by the kernel, is `charge`.

    ``light = charge + div(light * grad(K * (light / 6 + charge / 3)))`` is iterated from ``light = charge``.

    Parameters
    ----------
    charge : (rows, cols) float32
        Electrons; finite.
    kernel : (2n+1, 2n+1) float
        K [1/electron].
    form : str
        ``flux`` or ``coulton``.
    tolerance : float
        The iteration ends when it changes less than this fraction of the correction.
    max_iterations : int
    runner : Runner, optional
        Of threads: maps bands of rows.

    Returns
    -------
    Corrected
    """
    from calibrant.stack.kernels_fixed_point import conserving, differential  # brings numba

    flow = conserving if form == "flux" else differential
    folded = Convolution(kernel, charge.shape)
    bands = folded.bands(charge.shape[0])
    level = np.float32(np.median(charge[:: max(1, len(charge) // 64)]))  # float32 keeps small numbers better
    light, spare, potential = charge, np.empty_like(charge), np.empty_like(charge)

    def field(at: slice) -> None:
        potential[at] = folded.band(light, charge, at, level)

    def move(at: slice) -> tuple[float, float]:
        sums: tuple[float, float] = flow(light, potential, charge, spare, at.start, at.stop)
        return sums

    change, done = math.inf, 0
    while change > tolerance and done < max_iterations:
        done += 1
        mapped(runner, field, bands)
        changed, moved = np.sum(mapped(runner, move, bands), axis=0)
        light, spare = spare, np.empty_like(charge) if light is charge else light
        change = float(changed / moved) if moved > 0 else 0.0
    return Corrected(light, done, change, change <= tolerance)


def mapped(runner: Maps | None, task: Callable[[slice], Any], bands: list[slice]) -> list[Any]:
    """Results of a task on all bands, in threads if there is a runner."""
    return list(map(task, bands) if runner is None else runner.map(task, bands))


def filled(charge: Image, bad: NDArray[np.bool_]) -> Image:
    """A copy with its bad pixels interpolated between the nearest good ones of their row and of their column.

    The shorter of the two gaps counts more. Where neither holds a good pixel, the median of the image.
    """
    clean = np.where(bad, np.float32(0), charge)
    if not bad.any() or bad.all():
        return clean
    rows, cols = np.nonzero(bad)
    total, weight = _interpolated(charge, bad, rows, cols)
    order = np.argsort(cols, kind="stable")
    across = _interpolated(charge.T, bad.T, cols[order], rows[order])
    total[order] += across[0]
    weight[order] += across[1]
    if (lost := weight == 0).any():
        total[lost], weight[lost] = np.median(charge[~bad]), 1.0
    clean[rows, cols] = total / weight
    return clean


def _interpolated(
    image: Image, bad: NDArray[np.bool_], lines: NDArray[np.intp], places: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bad pixels (line, place) from the good ones of their line, times their weights, and the weights."""
    total, weight = np.zeros((2, lines.size))
    numbers, starts = np.unique(lines, return_index=True)
    for line, start, stop in zip(numbers, starts, [*starts[1:], lines.size], strict=True):
        hole, good = places[start:stop], np.flatnonzero(~bad[line])
        if good.size:
            near = np.searchsorted(good, hole)
            gap = good[np.minimum(near, good.size - 1)] - good[np.maximum(near - 1, 0)]
            ends = (near == 0) | (near == good.size)  # beyond the last good pixel nothing is between
            weight[start:stop] = np.where(ends, 0.5 / image.size, 1.0 / np.maximum(gap, 1))
            total[start:stop] = weight[start:stop] * np.interp(hole, good, image[line, good])
    return total, weight


def grown(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """A mask and the pixels at most `by` rows and columns away."""
    for axis in (0, 1):
        wide = mask.copy()
        for step in range(1, by + 1):
            ahead = tuple(slice(step, None) if n == axis else slice(None) for n in (0, 1))
            back = tuple(slice(None, -step) if n == axis else slice(None) for n in (0, 1))
            wide[ahead] |= mask[back]
            wide[back] |= mask[ahead]
        mask = wide
    return mask
