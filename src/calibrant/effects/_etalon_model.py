"""Fringes of a plate with two equal faces (Fabry-Perot), as seen through line spread and pixel.

T = 1 / (1 + F sin^2(theta / 2)) = (1 - R) / (1 + R) (1 + 2 sum_m R^m cos(m theta)), F = 4 R / (1 - R)^2,
theta = 4 pi D wavenumber + phase. What blurs a spectrum weakens harmonic m by a known factor, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))  # in sigmas
SMALL = 1e-3  # R^m from which the fit leaves harmonics out: they are orthogonal to the rest
MOST = 12
UM = 1e4  # micrometres in a centimetre


def harmonics(reflectivity: float) -> int:
    """How many are worth their time."""
    strength = min(max(reflectivity, 0.02), 0.9)
    return min(max(2, int(np.ceil(np.log(SMALL) / np.log(strength))) - 1), MOST)


def attenuation(thickness: F8, slope: F8, spread: F8, count: int) -> F8:
    """What line spread and pixel leave of each harmonic, (count, ...).

    Parameters
    ----------
    thickness : ndarray
        Optical, cm; broadcast against the others.
    slope : ndarray
        Wavenumber per pixel, 1/cm.
    spread : ndarray
        Sigma of a Gaussian line, 1/cm; 0 where it is not known.
    count : int
        Of harmonics.
    """
    line = np.exp(-2.0 * (2.0 * np.pi * thickness * spread) ** 2)
    turn = 2.0 * np.pi * np.maximum(thickness * slope, 1e-9)
    kept = np.empty((count, *np.broadcast_shapes(line.shape, turn.shape)))
    sine, cosine = np.sin(turn), np.cos(turn)
    now, before = sine, np.zeros_like(sine)
    for m in range(1, count + 1):  # sin(m turn) from the two before
        kept[m - 1] = line ** (m * m) * (now / (m * turn))
        now, before = 2 * cosine * now - before, now
    return kept


def series(theta: F8, reflectivity: F8, kept: F8) -> tuple[F8, F8, F8]:
    """2 sum_m A_m R^m cos(m theta), and its derivatives by R and theta."""
    turns = theta / (2 * np.pi)
    near = (2 * np.pi * (turns - np.rint(turns))).astype(np.float32)  # 1e-7 will do, at a fifth of the time
    first, sine = np.cos(near).astype(np.float64), np.sin(near).astype(np.float64)
    part = 2.0 * kept[0]
    by_r, by_theta = part * first, -part * sine
    value = by_r * reflectivity
    by_theta *= reflectivity
    real, imaginary, power = first, sine, reflectivity  # of e^(i m theta), and R^(m-1)
    for m in range(2, len(kept) + 1):
        real, imaginary = real * first - imaginary * sine, real * sine + imaginary * first
        part = 2.0 * kept[m - 1] * power
        power = power * reflectivity
        term = part * real
        by_r += m * term
        value += term * reflectivity
        by_theta -= (m * part) * imaginary * reflectivity
    return value, by_r, by_theta


@dataclass(frozen=True, eq=False)
class Contrast:
    """Numbers of the fringes of a reflectivity; arrays of one shape."""

    depth: F8
    visibility: F8


def observed(reflectivity: F8, kept: F8) -> Contrast:
    """Depth 1 - Tmin/Tmax and visibility behind line spread and pixel."""
    powers = [reflectivity**m * kept[m - 1] for m in range(1, len(kept) + 1)]
    high = 1.0 + 2.0 * sum(powers)
    low = 1.0 + 2.0 * sum((-1) ** m * power for m, power in enumerate(powers, 1))
    return Contrast(1.0 - low / high, (high - low) / (high + low))


def intrinsic(reflectivity: F8) -> Contrast:
    """Depth 4 R / (1 + R)^2 and visibility 2 R / (1 + R^2) of the plate itself."""
    return Contrast(4 * reflectivity / (1 + reflectivity) ** 2, 2 * reflectivity / (1 + reflectivity**2))


def finesse(reflectivity: F8) -> F8:
    """Coefficient F = 4 R / (1 - R)^2."""
    made: F8 = 4 * reflectivity / (1 - reflectivity) ** 2
    return made


def spreads(wavelength: F8, resolution: float | tuple[Sequence[float], Sequence[float]] | None) -> F8:
    """Sigma of a line, 1/cm, at wavelengths in um; zeros where the resolution is not known."""
    if resolution is None:
        return np.zeros(wavelength.shape)
    if isinstance(resolution, (int, float)):
        power: F8 | float = float(resolution)
    else:
        at, known = (np.asarray(part, np.float64) for part in resolution)
        power = np.interp(wavelength, at, known)
    with np.errstate(invalid="ignore", divide="ignore"):
        made: F8 = UM / wavelength / power / FWHM
    return made
