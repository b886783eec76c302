"""Waves in spectra that are not even: generalised Lomb-Scargle, and the chance that noise makes them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._etalon_model import UM
from calibrant.errors import OptionError, SelectionError, ShapeError

F8 = NDArray[np.float64]
OVER = 5  # steps within the width of a peak
ATONCE = 256


@dataclass(frozen=True, eq=False)
class Waves:
    """Power of waves of a plate against its optical thickness.

    Attributes
    ----------
    thickness : ndarray
        float64, um; waves of period 1 / (2 thickness) in wavenumber.
    power : ndarray
        float64, 0 to 1: part of the scatter (chi squared) about the mean that the wave takes away.
    best : float
        Thickness at the highest power, um, between steps.
    chance : float
        That noise alone has so high a power anywhere in the range.
    """

    thickness: F8
    power: F8
    best: float
    chance: float


def lomb_scargle(
    wavelength: F8, value: F8, sigma: F8 | None = None, *, between: tuple[float, float] | None = None
) -> Waves:
    """Power of waves in a spectrum, in wavenumber, with a mean that is fitted along.

    Generalised Lomb-Scargle periodogram (Zechmeister and Kuerster 2009); chance by Baluev (2008).

    Parameters
    ----------
    wavelength, value : ndarray
        float64, (n,); um, and a transmission, or a spectrum over its continuum. NaN is left out.
    sigma : ndarray, optional
        float64, (n,).
    between : (low, high), optional
        um; by default from one and a half waves over the range up to one wave in two samples.

    Returns
    -------
    Waves

    Raises
    ------
    ShapeError
        If lengths differ.
    SelectionError
        If fewer than 8 values are there, or they do not vary.
    OptionError
        If the range is empty.
    """
    x, y, w = _good(wavelength, value, sigma)
    span = float(np.ptp(x))
    step = float(np.median(np.abs(np.diff(np.sort(x)))))
    low, high = between or (0.75 / span * UM, 0.25 / step * UM)
    if not 0 < low < high:
        raise OptionError("no such range", where="between", expected="um, low < high", got=(low, high))
    thickness = np.arange(low, high, 0.5 / span / OVER * UM)
    power = np.concatenate(
        [_power(thickness[n : n + ATONCE] / UM, x, y, w) for n in range(0, len(thickness), ATONCE)]
    )
    top = int(power.argmax())
    best = float(thickness[top])
    if 0 < top < len(power) - 1:
        left, middle, right = power[top - 1 : top + 2]
        best += 0.5 * (left - right) / (left - 2 * middle + right) * float(thickness[1] - thickness[0])
    return Waves(thickness, power, best, _chance(float(power[top]), x, w, high / UM))


def _good(wavelength: F8, value: F8, sigma: F8 | None) -> tuple[F8, F8, F8]:
    """Wavenumbers, values about their mean, and weights of sum 1."""
    wave, y = np.asarray(wavelength, np.float64), np.asarray(value, np.float64)
    error = np.ones(y.shape) if sigma is None else np.asarray(sigma, np.float64)
    if not (wave.ndim == 1 and wave.shape == y.shape == error.shape):
        raise ShapeError("a spectrum has one axis", expected=wave.shape, got=(y.shape, error.shape))
    with np.errstate(invalid="ignore"):
        good = np.isfinite(y) & (wave > 0) & (error > 0) & np.isfinite(error)
    if good.sum() < 8 or np.ptp(y[good]) == 0:
        raise SelectionError(
            "there is no spectrum to look for waves in", got=f"{int(good.sum())} good values"
        )
    x, w = UM / wave[good], error[good] ** -2.0
    w /= w.sum()
    return x - x.mean(), y[good] - w @ y[good], w


def _power(thickness: F8, x: F8, y: F8, w: F8) -> F8:
    phase = 4 * np.pi * thickness[:, None] * x
    c, s = np.cos(phase), np.sin(phase)
    c, s = c - (c @ w)[:, None], s - (s @ w)[:, None]
    yc, ys = c @ (w * y), s @ (w * y)
    cc, ss, cs = (c * c) @ w, (s * s) @ w, (c * s) @ w
    made: F8 = (ss * yc**2 + cc * ys**2 - 2 * cs * yc * ys) / ((w @ y**2) * (cc * ss - cs**2))
    return made


def _chance(power: float, x: F8, w: F8, thickness: float) -> float:
    """Upper bound of the chance that noise has such a power at any thickness up to the highest."""
    n = len(x)
    spread = float(w @ (x - w @ x) ** 2)
    width = 2 * thickness * math.sqrt(4 * math.pi * spread)
    rest = max(1.0 - power, 1e-300)
    single: float = rest ** (0.5 * (n - 3))
    gamma = math.sqrt(2 / n) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
    tau: float = gamma * width * rest ** (0.5 * (n - 4)) * math.sqrt(0.5 * n * power)
    return 1 - (1 - single) * math.exp(-tau) if single + tau > 1e-12 else single + tau
