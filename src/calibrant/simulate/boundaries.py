"""Boundaries: charge in a pixel moves the borders of the pixels around it (brighter-fatter effect).

An electron that is held in a pixel repels those that still fall. The places at which falling charge is
divided between two pixels, the borders, move towards it: the pixel shrinks, its neighbours grow. Nothing here
knows of variances or covariances: that flats correlate and stars grow follows from the light that moves.

The displacement of a border is that of the field of the charge and of its image in the conducting plane
below, added up along the way down and averaged over the length of the border.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from calibrant.errors import OptionError
from calibrant.simulate.structure import F4, Shape

F8 = NDArray[np.float64]

BORDER, CLOUD = 12, 6  # nodes of the quadrature along a border, and along a side of the cloud of charge
MOST_STEPS = 16
STEPS_PER_AREA = 50.0  # steps for a pixel that would lose all its area


@dataclass(frozen=True, eq=False)
class Boundaries:
    """By how much an electron in a pixel moves borders, pixel/electron; the charge is in pixel (0, 0).

    Attributes
    ----------
    rows : array
        (2 reach + 2, 2 reach + 1): displacement towards higher rows of the border between row ``i`` and
        ``i + 1`` in column ``j``, at index ``[i + reach + 1, j + reach]``.
    cols : array
        (2 reach + 1, 2 reach + 2): towards higher columns of the border between column ``j`` and ``j + 1`` in
        row ``i``, at index ``[i + reach, j + reach + 1]``.
    """

    rows: F8
    cols: F8

    @classmethod
    def dipole(
        cls,
        a00: float = -3e-6,
        *,
        height: float = 0.25,
        thickness: float = 10.0,
        cloud: tuple[float, float] = (0.8, 0.2),
        reach: int = 16,
    ) -> Boundaries:
        """Borders in the field of a charge and its image, as strong as to shrink a pixel by `a00`.

        The sideways field of a charge at `height` above a conducting plane, added up from the plane to the
        `thickness` of the silicon, is (constant factors left out) at a distance r::

            x/r^2 [f(thickness) - f(0)]
            f(z) = (z - h)/sqrt(r^2 + (z - h)^2) - (z + h)/sqrt(r^2 + (z + h)^2)

        It falls as r^-2 inside, and as r^-4 beyond, the thickness: that of a dipole.

        Parameters
        ----------
        a00 : float
            Relative change of the area of the pixel that holds the charge, 1/electron; negative.
        height, thickness : float
            Pixels.
        cloud : tuple of float
            Lengths of the cloud of charge, (rows, cols), pixels: what makes neighbours in a column differ
            from neighbours in a row. All displacements together stay the gradient of a potential.
        reach : int
            Farthest pixel whose borders move.

        Raises
        ------
        OptionError
            For an `a00` that is not negative, a height or thickness that is not positive, or no reach.
        """
        if not a00 < 0:
            raise OptionError("charge repels: a00 is negative", where="a00", got=a00)
        if not (height > 0 and thickness > height and reach >= 1):
            raise OptionError(
                "the charge lies inside the silicon, and moves borders",
                where="boundaries",
                expected="0 < height < thickness, reach of 1 or more",
                got=f"height {height}, thickness {thickness}, reach {reach}",
            )
        far = np.arange(-reach - 0.5, reach + 1.0)[:, np.newaxis]
        near = np.arange(-reach, reach + 1.0)[np.newaxis, :]
        rows = _displacement(far, near, cloud, height, thickness)
        cols = _displacement(far, near, cloud[::-1], height, thickness).T
        plain = cls(-rows, -cols)
        middle = reach + 1
        return plain.scaled(a00 / float(plain.area[middle, middle]))

    def scaled(self, factor: float) -> Boundaries:
        """The same, with all displacements multiplied by a factor."""
        return Boundaries(self.rows * factor, self.cols * factor)

    @property
    def reach(self) -> int:
        """Farthest pixel whose borders move."""
        return int(self.rows.shape[1]) // 2

    @cached_property
    def area(self) -> F8:
        """Relative change of area of the pixels around the charge, (2 reach + 3, 2 reach + 3), 1/electron.

        The charge is in the middle. What one pixel loses another gains: the sum is zero.
        """
        rows, cols = np.pad(self.rows, ((1, 1), (1, 1))), np.pad(self.cols, ((1, 1), (1, 1)))
        return np.asarray(np.diff(rows, axis=0) + np.diff(cols, axis=1))

    def shifts(self, charge: NDArray[np.floating]) -> tuple[F4, F4]:
        """Displacements of the borders inside an image that holds a charge.

        Beyond the edges of the image the charge goes on as in a mirror: a roll-off at the edges of a detector
        belongs to its flat.

        Parameters
        ----------
        charge : array
            (rows, cols), electrons.

        Returns
        -------
        tuple of array
            (rows - 1, cols) and (rows, cols - 1), float32, pixels: of the borders between rows and columns.
        """
        rows, cols = charge.shape
        width = self.reach + 1
        padded = np.pad(np.asarray(charge, np.float32), width, mode="symmetric")
        size = (fft.next_fast_len(padded.shape[0], True), fft.next_fast_len(padded.shape[1], True))
        spectrum = fft.rfft2(padded, size)
        above, right = self._spectra(size)
        window = slice(width, width + rows), slice(width, width + cols)
        upper = fft.irfft2(spectrum * above, size)[window][:-1]
        side = fft.irfft2(spectrum * right, size)[window][:, :-1]
        return upper, side

    def _spectra(self, size: Shape) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
        """Transforms of the two kernels, at the size of an image."""
        if size not in self._kept:
            self._kept.clear()
            self._kept[size] = (
                _spectrum(self.rows, (self.reach + 1, self.reach), size),
                _spectrum(self.cols, (self.reach, self.reach + 1), size),
            )
        return self._kept[size]

    @cached_property
    def _kept(self) -> dict[Shape, tuple[NDArray[np.complex64], NDArray[np.complex64]]]:
        return {}


def implied_a(boundaries: Boundaries, n: int = 10) -> F8:
    """Relative change of the area of the pixel at lag (i, j) by one electron, (n, n), 1/electron.

    ``a[0, 0]`` is negative; ``a[1, 0]`` is that of the neighbour in the same column. To first order the
    covariances of flats are C_ij = delta_ij mu + a_ij mu^2, all in electrons (Astier et al. 2019, A&A 629,
    A36, eq. 20). Beyond the reach it is zero.
    """
    middle = boundaries.reach + 1
    found = np.zeros((n, n))
    own = boundaries.area[middle:, middle:][:n, :n]
    found[: own.shape[0], : own.shape[1]] = own
    return found


def steps_for(expected: NDArray[np.floating], boundaries: Boundaries) -> int:
    """In how many steps light is to be collected: by the area that a well-filled pixel loses.

    A relative error of the effect of second order remains: 0.1 % of the variance of a flat of 9e4 electrons.
    """
    most = float(np.max(expected, initial=0.0))
    lost = most * float(np.abs(boundaries.area).max())
    return min(MOST_STEPS, max(2, math.ceil(STEPS_PER_AREA * lost)))


def collect(
    expected: NDArray[np.floating],
    boundaries: Boundaries,
    rng: np.random.Generator,
    *,
    steps: int | None = None,
) -> F4:
    """Electrons collected while the charge that is already there moves the borders of the pixels.

    The light of a step that falls between the old and the new place of a border goes to the other pixel; its
    density there is the mean of both sides. So none is lost. The charge at the beginning of a step stands for
    that in its middle; in the mean over n steps it is too small by (n - 1)/n: displacements make it up.

    Parameters
    ----------
    expected : array
        (rows, cols), electrons that pixels of equal size would collect in the mean.
    steps : int, optional
        At least 2; see `steps_for`.

    Returns
    -------
    array
        (rows, cols), float32, electrons, whole numbers.
    """
    number = steps_for(expected, boundaries) if steps is None else steps
    if number < 2:
        raise OptionError("light is collected in 2 steps or more", where="steps", got=steps)
    light = np.asarray(expected, np.float32) / np.float32(number)
    between_rows, between_cols = 0.5 * (light[1:] + light[:-1]), 0.5 * (light[:, 1:] + light[:, :-1])
    late = np.float32(number / (number - 1))
    charge: F4 = rng.poisson(light).astype(np.float32)
    for _ in range(number - 1):
        upper, side = boundaries.shifts(charge)
        upper *= between_rows * late
        side *= between_cols * late
        falling = light.copy()
        # A border that moves to higher rows gives the lower of its two pixels what the upper one loses.
        falling[:-1] += upper
        falling[1:] -= upper
        falling[:, :-1] += side
        falling[:, 1:] -= side
        charge += rng.poisson(np.maximum(falling, 0.0))
    return charge


def _displacement(across: Any, along: Any, cloud: tuple[float, float], height: float, thickness: float) -> F8:
    """Mean displacement, away from the charge, of borders at distances `across` and `along` from it.

    `along` is where the middle of a border of length 1 lies; the cloud is (across, along).
    """
    border, cells = np.polynomial.legendre.leggauss(BORDER), np.polynomial.legendre.leggauss(CLOUD)
    found = np.zeros(np.broadcast_shapes(across.shape, along.shape))
    for (x, wx), (y, wy), (z, wz) in product(
        zip(*cells, strict=True), zip(*cells, strict=True), zip(*border, strict=True)
    ):
        place = across - 0.5 * cloud[0] * x, along + 0.5 * z - 0.5 * cloud[1] * y
        found += 0.125 * wx * wy * wz * _field(*place, height, thickness)
    return found


def _field(x: F8, y: F8, height: float, thickness: float) -> F8:
    """Field in the direction of x, added up over the thickness."""
    r2 = x**2 + y**2

    def f(z: float) -> F8:
        down, up = z - height, z + height
        return np.asarray(down / np.sqrt(r2 + down**2) - up / np.sqrt(r2 + up**2))

    return np.asarray(x / r2 * (f(thickness) - f(0.0)))


def _spectrum(kernel: F8, middle: Shape, size: Shape) -> NDArray[np.complex64]:
    whole = np.zeros(size, np.float32)
    whole[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.asarray(fft.rfft2(np.roll(whole, (-middle[0], -middle[1]), (0, 1))), np.complex64)
