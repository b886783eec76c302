"""Shepard's interpolation of what pixels between slices show: weights that fall with distance, by FFT.

``S(x) = sum m w(|x - p|) g(p) / sum m w(|x - p|)`` over the pixels p between slices (m = 1), with
``w(d) = (max(0, R - d) / (R d))^k`` and w(0) = 0 (Shepard 1968; the weight is that of Franke and Little).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import uniform_filter

from calibrant.errors import OptionError

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]
ROUNDING = 1e-12  # of the largest weight: below it, the sum of weights is that of rounding


@dataclass(frozen=True)
class Shepard:
    """Interpolation on images of one size; what depends on the size alone is made once.

    Attributes
    ----------
    shape : tuple of int
        Rows, columns.
    radius : float
        R, pixels: at that distance the weight would be 0. Pixels up to R/2 away are used, as was published.
    power : float
        k.
    disc : bool
        Whether pixels within R/2 are used, or (as published) those of a square of half side R/2.
    """

    shape: tuple[int, int]
    radius: float = 50.0
    power: float = 1.0
    disc: bool = True

    def __post_init__(self) -> None:
        if not (self.radius >= 4 and self.power > 0):
            raise OptionError(
                "Shepard's weights need a radius and a power",
                where="stray_light",
                expected="radius of 4 pixels or more, power above 0",
                got=f"{self.radius:g}, {self.power:g}",
            )

    @cached_property
    def kernel(self) -> F8:
        """Weights by distance, (2 h + 1, 2 h + 1), h = R/2, of sum 1."""
        half = int(self.radius // 2)
        offsets = np.arange(-half, half + 1)
        distance = np.hypot(offsets[:, None], offsets)
        with np.errstate(divide="ignore"):
            weight = (np.maximum(0.0, self.radius - distance) / (self.radius * distance)) ** self.power
        weight[half, half] = 0.0
        if self.disc:
            weight[distance > half] = 0.0
        made: F8 = weight / weight.sum()
        return made

    @cached_property
    def _size(self) -> tuple[int, int]:
        half = len(self.kernel) // 2
        # What wraps around falls on padding only.
        rows, cols = (fft.next_fast_len(n + half, real=True) for n in self.shape)
        return rows, cols

    @cached_property
    def _transform(self) -> F8:
        return self._transform_of(self.kernel)

    @cached_property
    def _transform_squared(self) -> F8:
        return self._transform_of(self.kernel**2)

    def _transform_of(self, kernel: F8) -> F8:
        """Of a kernel that is even in both directions: its transform is real."""
        padded = np.zeros(self._size)
        half = len(kernel) // 2
        padded[: 2 * half + 1, : 2 * half + 1] = kernel
        made: F8 = fft.rfft2(np.roll(padded, (-half, -half), (0, 1))).real
        return made

    def _convolved(self, planes: F8, transform: F8) -> F8:
        rows, cols = self.shape
        spectrum = fft.rfft2(planes, self._size)
        spectrum *= transform
        made: F8 = fft.irfft2(spectrum, self._size)[..., :rows, :cols]
        return made

    def __call__(self, values: F8, mask: Bools, variance: F8 | None = None) -> tuple[F8, F8, F8 | None]:
        """Interpolate.

        Parameters
        ----------
        values : ndarray
            float64, (rows, cols); used where `mask`.
        mask : ndarray
            bool, (rows, cols).
        variance : ndarray, optional
            float64, (rows, cols), of independent errors.

        Returns
        -------
        tuple
            Values, NaN where no pixel is near; support: the part of all weight that lies on used pixels;
            variance: sum w^2 variance / (sum w)^2.
        """
        weight = mask.astype(np.float64)
        sums = self._convolved(np.stack([np.where(mask, values, 0.0), weight]), self._transform)
        support = np.where(sums[1] > ROUNDING * self.kernel.max(), sums[1], 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            made = np.where(support > 0, sums[0] / support, np.nan)
            if variance is None:
                return made, support, None
            noise = self._convolved(np.where(mask, variance, 0.0), self._transform_squared)
            error = np.where(support > 0, np.maximum(noise, 0.0) / support**2, np.nan)
        return made, support, error


def as_published(values: F8, mask: Bools, radius: float = 50.0, power: float = 1.0) -> F8:
    """As the notebook does it: gaps are first smoothed by a box that averages the zeros of the slices, too.

    A constant of 10 between the slices is found as 8.2 or so.

    Parameters
    ----------
    values : ndarray
        float64, (rows, cols).
    mask : ndarray
        bool: pixels between slices.

    Returns
    -------
    ndarray
        float64, (rows, cols).
    """
    smooth = uniform_filter(np.where(mask, values, 0.0), 3, mode="constant")
    return Shepard((mask.shape[0], mask.shape[1]), radius, power, disc=False)(smooth, mask)[0]
