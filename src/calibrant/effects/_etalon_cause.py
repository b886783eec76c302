"""Two sources beside each other: ratio of their contrasts, and what makes it.

A source whose light is weaker modulated may meet faces of another reflectivity, fill a wider cone (angles mix
fringes), or have broader lines. Only the cone moves the fringes as well: its mean path is shorter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from calibrant.effects._etalon_model import FWHM, UM
from calibrant.effects._etalon_tables import mean

F8 = NDArray[np.float64]
CAUSES = ("reflectivity", "cone", "line_spread")
SURE = 6.0  # difference of BIC from which one cause is preferred
WRONG = 1e-4  # chance of the best cause's chi squared below which none is
LARGEST = {"cone": 0.3, "line_spread": 2.0}  # half-angle, rad; sigma of lines over the period


@dataclass(frozen=True, eq=False)
class Pair:
    """Second over first at some wavelengths: ratio of reflectivities, and phase difference in cycles."""

    wavenumber: F8
    ratio: F8
    ratio_sigma: F8
    phase: F8
    phase_sigma: F8
    depth: F8
    depth_sigma: F8


@dataclass(frozen=True, eq=False)
class Cause:
    """One cause: its parameter, sigma, chi squared, and Bayesian information criterion; and its curves."""

    name: str
    value: float
    sigma: float
    chi2: float
    bic: float
    ratio: F8
    phase: F8


def pair(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> Pair | None:
    """The same columns and rows of two tables of points; means at each row. None if they share nothing."""
    places = [[tuple(p) for p in zip(t["slice"], t["col"], t["row"], strict=True)] for t in (first, second)]
    where = {place: n for n, place in enumerate(places[1])}
    both = np.array([(n, where[p]) for n, p in enumerate(places[0]) if p in where], np.int64).reshape(-1, 2)
    if not len(both):
        return None
    one, other = ({name: t[name][both[:, k]] for name in t} for k, t in enumerate((first, second)))
    rows, group = np.unique(one["row"], return_inverse=True)
    made = []
    name = "R" if all(np.isfinite(t["R"]).any() for t in (one, other)) else "depth"
    for what in (name, "depth"):
        means = [mean(t[what], t[f"{what}_sigma"], group, len(rows)) for t in (one, other)]
        (a, a_sigma), (b, b_sigma) = means
        made.append((b / a, np.abs(b / a) * np.hypot(a_sigma / a, b_sigma / b)))
    away = other["phase"] - one["phase"]
    begin = np.angle(
        np.bincount(group, np.cos(2 * np.pi * away)) + 1j * np.bincount(group, np.sin(2 * np.pi * away))
    )
    begin /= 2 * np.pi
    away -= begin[group]
    away -= np.round(away)
    shift, shift_sigma = mean(away, np.hypot(one["phase_sigma"], other["phase_sigma"]), group, len(rows))
    wave = np.bincount(group, one["wavelength"]) / np.bincount(group)
    phase = begin + shift
    return Pair(UM / wave, *made[0], phase - np.round(phase), shift_sigma, *made[1])


def causes(both: Pair, thickness: float) -> list[Cause]:
    """Each cause fitted to ratio and phase together, best first.

    `thickness` in um. The value of ``reflectivity`` is the ratio of reflectivities at the middle (a slope is
    fitted, too); of ``cone`` the half-angle in the plate, rad; of ``line_spread`` the sigma, over the period,
    of the additional width. A negative value: the first source has it.
    """
    x = both.wavenumber / both.wavenumber.mean() - 1
    orders = 2 * thickness / UM * both.wavenumber

    def model(name: str, given: F8) -> tuple[F8, F8]:
        nothing = np.zeros(x.shape)
        if name == "reflectivity":
            return given[0] + given[1] * x, nothing
        size, power = abs(float(given[0])), 1 if given[0] >= 0 else -1
        if name == "cone":
            # sinc(D wavenumber angle^2), to its first zero: beyond, phases come back by whole cycles.
            part = np.minimum(orders * size**2 / 2, 1.0)
            return np.sinc(part) ** power, -power * part / 2
        return np.exp(-2 * (np.pi * size * (1 + x)) ** 2) ** power, nothing

    def chi2(given: F8, name: str) -> float:
        ratio, phase = model(name, given)
        away = both.phase - phase
        pulls = (both.ratio - ratio) / both.ratio_sigma, (away - np.round(away)) / both.phase_sigma
        return float(sum((pull**2).sum() for pull in pulls))

    found = []
    for name in CAUSES:
        best, given, sigma = _least(chi2, name, both)
        bic = best + len(given) * math.log(2 * len(x))
        found.append(Cause(name, float(given[0]), sigma, best, bic, *model(name, given)))
    return sorted(found, key=lambda one: one.bic)


def _least(chi2: Any, name: str, both: Pair) -> tuple[float, F8, float]:
    """Lowest chi squared, the parameters there, and the sigma of the first from the curvature."""
    if name == "reflectivity":
        x = both.wavenumber / both.wavenumber.mean() - 1
        design = np.stack([np.ones(x.shape), x], axis=1) / both.ratio_sigma[:, None]
        covariance = np.linalg.pinv(design.T @ design)
        given = covariance @ design.T @ (both.ratio / both.ratio_sigma)
        return chi2(given, name), given, float(np.sqrt(covariance[0, 0]))
    grid = np.linspace(-1, 1, 801) * LARGEST[name]
    start = grid[int(np.argmin([chi2(np.array([value]), name) for value in grid]))]
    step = grid[1] - grid[0]
    corners = [[start], [start + step / 3]]
    options = {"initial_simplex": corners, "xatol": 1e-9, "fatol": 1e-6}
    best = minimize(lambda given: chi2(given, name), [start], method="Nelder-Mead", options=options)
    value, low = float(best.x[0]), float(best.fun)
    tiny = max(abs(value) * 1e-3, 1e-7)
    bend = (chi2(np.array([value + tiny]), name) + chi2(np.array([value - tiny]), name) - 2 * low) / tiny**2
    return low, np.array([value]), math.sqrt(2 / bend) if bend > 0 else math.nan


def line_spread_of(share: float, thickness: float, wavenumber: float) -> float:
    """Resolution (wavelength / FWHM) of a width that is `share` of the period; thickness in um."""
    return wavenumber / (abs(share) * FWHM / (2 * thickness / UM)) if share else math.inf
