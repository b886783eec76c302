"""The kernel of brighter-fatter: Poisson's equation of the a matrix, and what the kernel must look like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dstn, idstn

Matrix = NDArray[np.float64]

HIGHEST = 0.025  # of the depth of the kernel: what an element beside the middle may rise to
EDGE, SMALL = 5.0, 1e-3  # sigmas, and part of a00, that a may have in the mean of the last lag
UNSURE = 0.1  # relative error of the depth from which on the reader is told


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel and its source.

    Attributes
    ----------
    values : (2n+1, 2n+1) float64
        K [1/electron], lag (0, 0) in the middle; beyond it K is 0.
    variance : (2n+1, 2n+1) float64
        [1/electron^2].
    a : (lags, lags) float64
        The matrix that was solved, lags >= 0 [1/electron].
    residual : float
        Largest deviation of the Laplacian of K from -a, relative to the largest |a|.
    """

    values: Matrix
    variance: Matrix
    a: Matrix
    residual: float

    @property
    def half(self) -> int:
        """Pixels from the middle to the edge."""
        return len(self.values) // 2


def solve(a: Matrix, sigma: Matrix, *, pad: int = 1, zero_sum: bool = False) -> Kernel:
    """Solve ``laplacian(K) = -a`` with K = 0 beyond the kernel.

    The equation of Coulton et al. (2018, AJ 155, 258) on the grid of pixels, with the Laplacian of five
    points, directly by sine transforms. The light that the lags do not account for (their sum is below zero
    because pixels farther away gain, too) lands in the ring where K has come to 0.

    Parameters
    ----------
    a, sigma : (lags, lags) float64
        The a matrix at lags (rows, cols) >= 0 and its standard errors [1/electron].
    pad : int
        Pixels that are added around the lags, in which a is 0.
    zero_sum : bool
        Whether what the sum over all lags lacks is taken from a[0, 0].

    Returns
    -------
    Kernel
        Of half width ``lags - 1 + pad``.
    """
    a = np.array(a, float)
    if zero_sum:
        a[0, 0] -= mirrored(a).sum()
    source = np.pad(-mirrored(a), pad)
    values = _poisson(source)
    scale = float(np.abs(source).max()) or 1.0
    residual = float(np.abs(_laplacian(values) - source).max()) / scale
    return Kernel(values, _variance(sigma, pad), a, residual)


def mirrored(quadrant: Matrix) -> Matrix:
    """All lags of a matrix of those >= 0: even in rows and in columns."""
    half = np.concatenate([quadrant[:0:-1], quadrant])
    return np.concatenate([half[:, :0:-1], half], axis=1)


def _poisson(source: Matrix) -> Matrix:
    """K whose Laplacian is `source`, with K = 0 one pixel outside."""
    n = source.shape[0]
    wave = 2.0 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)) - 2.0
    found: Matrix = idstn(dstn(source, type=1) / (wave[:, None] + wave[None, :]), type=1)
    return found


def _laplacian(values: Matrix) -> Matrix:
    padded = np.pad(values, 1)
    found: Matrix = (
        padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2] - 4.0 * padded[1:-1, 1:-1]
    )
    return found


def _variance(sigma: Matrix, pad: int) -> Matrix:
    """Of K, which is linear in a: the lags' errors are independent of each other."""
    lags = sigma.shape[0]
    size = 2 * (lags - 1 + pad) + 1
    total = np.zeros((size, size))
    for i, j in np.ndindex(lags, lags):
        one = np.zeros_like(sigma)
        one[i, j] = sigma[i, j]
        total += np.square(_poisson(np.pad(mirrored(one), pad)))
    return total


def checks(kernel: Kernel, sigma: Matrix) -> tuple[str, ...]:
    """What is wrong with a kernel, each a sentence without a full stop; nothing is for a good one.

    Parameters
    ----------
    kernel : Kernel
    sigma : (lags, lags) float64
        Standard errors of its a matrix.
    """
    notes = []
    n, values = kernel.half, kernel.values
    if not kernel.a[0, 0] < 0:
        notes.append(f"a00 is {kernel.a[0, 0]:.3g} per electron, but charge that repels makes it negative")
    if np.argmin(values) != values.size // 2:
        notes.append("the kernel is not lowest in its middle")
    elif (high := float(values.max())) > HIGHEST * abs(values[n, n]):
        notes.append(f"the kernel rises to {high / abs(values[n, n]):.1%} of its depth beside the middle")
    edge = np.concatenate([kernel.a[-1], kernel.a[:-1, -1]])
    weight = np.concatenate([sigma[-1], sigma[:-1, -1]]) ** -2.0
    mean, error = float((weight * edge).sum() / weight.sum()), float(weight.sum() ** -0.5)
    if abs(mean) > EDGE * error and abs(mean) > SMALL * abs(kernel.a[0, 0]):
        notes.append(
            f"a is not zero at the last lag ({mean:.2g} +- {error:.1g} per electron): more lags are needed"
        )
    if (depth := float(np.sqrt(kernel.variance[n, n]) / abs(values[n, n]))) > UNSURE:
        notes.append(
            f"the depth of the kernel is known to {depth:.0%} only: more flats, or fewer lags, are needed"
        )
    return tuple(notes)
