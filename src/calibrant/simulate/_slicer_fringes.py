"""Fringes as a spectrometer records them: a Fabry-Perot cavity behind line spread and pixel.

``1 / (1 + F sin^2(d / 2)) = (1 - R) / (1 + R) [1 + 2 sum_n R^n cos(n d)]`` with F = 4 R / (1 - R)^2 and
d = 4 pi D / wavelength - 2 phi: line spread and pixel lower each term n by
``exp(-2 (pi n s / P)^2) sinc(n / P)``, of a period of P rows and a line spread of sigma s rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
TERMS = 6
TO_CM = 1e-4  # cm in a micrometre


class Cavity(NamedTuple):
    """Optical thickness [cm], phase [cycles of the fringes], and reflectivity where light passes."""

    thickness: float
    phase: float
    reflectivity: F8 | float


def transmission(cavity: Cavity, wavelength: F8, step: F8, sigma: F8) -> F8:
    """Transmission as recorded.

    Parameters
    ----------
    wavelength, step, sigma : ndarray
        Micrometres; micrometres per row; rows: of one shape.
    """
    angle = 2 * np.pi * (2 * cavity.thickness / (wavelength * TO_CM) - cavity.phase)
    period = period_of(cavity.thickness, wavelength, step)
    r = np.asarray(cavity.reflectivity)
    total = np.ones_like(wavelength)
    for n in range(1, TERMS + 1):
        total += 2 * r**n * attenuation(n, period, sigma) * np.cos(n * angle)
    recorded: F8 = total * (1 - r) / (1 + r)
    return recorded


def period_of(thickness: float, wavelength: F8, step: F8) -> F8:
    """Rows from fringe to fringe."""
    spacing: F8 = (wavelength * TO_CM) ** 2 / (2 * thickness) / TO_CM
    return spacing / np.abs(step)


def attenuation(n: int, period: F8, sigma: F8) -> F8:
    """What line spread and pixel leave of the term n."""
    left: F8 = np.exp(-2 * (np.pi * n * sigma / period) ** 2) * np.sinc(n / period)
    return left


def depths(reflectivity: F8, period: F8, sigma: F8) -> tuple[F8, F8]:
    """1 - lowest / highest transmission: intrinsic, and as recorded."""
    factor = 4 * reflectivity / (1 - reflectivity) ** 2
    high, low = np.ones_like(reflectivity), np.ones_like(reflectivity)
    for n in range(1, TERMS + 1):
        term = 2 * reflectivity**n * attenuation(n, period, sigma)
        high, low = high + term, low + (-1) ** n * term
    return factor / (1 + factor), 1 - low / high
