"""Light that scatters along the rows of a detector: a kernel for each row, its strength fitted in the gaps.

``K(dx) = A g^2 / (g^2 + dx^2) + B1 [N(dx - d, s) + N(dx + d, s)] + B2 [N(dx - 2 d, 2 s) + N(dx + 2 d, 2 s)]``
with N of height 1: a Lorentzian halo, and two orders of ghosts to either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from calibrant.errors import OptionError, ShapeError

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Number = float | F8
ROUNDS = 5
CHUNK = 128  # rows at a time: their transforms stay in the cache


@dataclass(frozen=True)
class RowKernel:
    """The kernel of light that comes from some columns; each number holds for all rows, or is (rows,).

    Attributes
    ----------
    fwhm : float or ndarray
        Of the Lorentzian, pixels.
    halo : float or ndarray
        A: its height, as a part of the light of one pixel.
    ghost_distance, ghost_fwhm : float or ndarray
        d, and the full width of the first pair of Gaussians; pixels.
    ghost, second_ghost : float or ndarray
        B1, B2.
    columns : tuple of int or None
        First and behind the last column whose light it spreads; None: all.
    """

    fwhm: Number = 100.0
    halo: Number = 1.0
    ghost_distance: Number = 20.0
    ghost_fwhm: Number = 5.0
    ghost: Number = 0.0
    second_ghost: Number = 0.0
    columns: tuple[int, int] | None = None

    def parts(self, rows: slice, offsets: F8) -> list[F8]:
        """The parts that there are, at these distances, for these rows: (1 or rows, offsets) each."""
        half = 0.5 * _column(self.fwhm, rows)
        if not np.all(half > 0) or not np.all(_column(self.ghost_fwhm, rows) > 0):
            raise OptionError("widths of a kernel are positive", where="stray_light", do="check fwhm")
        made = [_column(self.halo, rows) * half**2 / (half**2 + offsets**2)]
        sigma = _column(self.ghost_fwhm, rows) / np.sqrt(8 * np.log(2))
        for order, height in ((1, self.ghost), (2, self.second_ghost)):
            if np.any(height):
                at, width = order * _column(self.ghost_distance, rows), order * sigma
                pair = [np.exp(-0.5 * ((offsets + sign * at) / width) ** 2) for sign in (-1, 1)]
                made.append(_column(height, rows) * (pair[0] + pair[1]))
        return made

    def check(self, rows: int) -> None:
        """Refuse numbers of another number of rows.

        Raises
        ------
        ShapeError
        """
        for name in ("fwhm", "halo", "ghost_distance", "ghost_fwhm", "ghost", "second_ghost"):
            size = np.size(getattr(self, name))
            if size not in (1, rows):
                raise ShapeError(
                    "a row kernel has one number, or one for each row", where=name, expected=rows, got=size
                )


def _column(number: Number, rows: slice) -> F8:
    array = np.asarray(number, np.float64).reshape(-1, 1)
    return array if len(array) == 1 else array[rows]


def spread(light: F8, kernels: Sequence[RowKernel]) -> list[F8]:
    """What each part of each kernel makes of the light, row by row: (rows, cols) each, by FFT.

    Parameters
    ----------
    light : ndarray
        float64, (rows, cols): the light that scatters, 0 elsewhere.
    kernels : sequence of RowKernel

    Returns
    -------
    list of ndarray
        Halo, ghost, second ghost of the first kernel, then of the next; absent ones are left out.
    """
    rows, cols = light.shape
    size = fft.next_fast_len(2 * cols - 1, real=True)
    offsets = np.arange(size, dtype=np.float64)
    offsets = np.where(offsets < cols, offsets, offsets - size)
    made: list[F8] = []
    for kernel in kernels:
        kernel.check(rows)
        begin, stop = kernel.columns or (0, cols)
        source = np.zeros_like(light)
        source[:, begin:stop] = light[:, begin:stop]
        planes: list[F8] = []
        for first in range(0, rows, CHUNK):
            band = slice(first, min(first + CHUNK, rows))
            spectrum = fft.rfft(source[band], size, axis=1)
            for number, part in enumerate(kernel.parts(band, offsets)):
                if first == 0:
                    planes.append(np.empty_like(light))
                even = fft.rfft(part, axis=1).real  # the kernel is even
                planes[number][band] = fft.irfft(spectrum * even, size, axis=1)[:, :cols]
        made += planes
    return made


def fitted(
    values: F8, parts: Sequence[F8], mask: Bools, gaps: NDArray[np.int32], clip: float = 4.0
) -> tuple[F8, F8, Bools]:
    """Strengths of the parts and a pedestal that explain the pixels between slices best.

    Parameters
    ----------
    values : ndarray
        float64, (rows, cols).
    parts : sequence of ndarray
        Of `spread`.
    mask : ndarray
        bool: pixels between slices.
    gaps : ndarray
        int32: number of the gap of each pixel.

    Returns
    -------
    tuple
        Strengths, the pedestal last; their covariance; pixels that were used. A gap as a whole may be off, by
        what slices spill into it: errors come from the scatter of gaps, not of pixels (Liang & Zeger
        1986, Biometrika 73).
    """
    used = mask.copy()
    for _ in range(ROUNDS):
        columns = np.stack([*(part[used] for part in parts), np.ones(int(used.sum()))], axis=1)
        normal = columns.T @ columns
        found = np.linalg.lstsq(normal, columns.T @ values[used], rcond=None)[0]
        rest = values[used] - columns @ found
        middle = np.median(rest)  # not 0: hot pixels pull the fit away from all others
        sigma = 1.4826 * float(np.median(np.abs(rest - middle)))
        keep = np.abs(rest - middle) <= clip * sigma
        if keep.all() or sigma == 0:
            break
        last, used = used, used.copy()
        used[last] = keep
    else:
        used = last
    score = columns * rest[:, None]
    place = np.unique(gaps[used], return_inverse=True)[1].ravel()
    sums = np.stack([np.bincount(place, column) for column in score.T], axis=1)
    free = max(len(sums) - len(found), 1)
    inverse = np.linalg.pinv(normal)
    covariance: F8 = inverse @ (sums.T @ sums) @ inverse * len(sums) / free
    return np.asarray(found, np.float64), covariance, used
