"""The temperature law of dark current: groups of temperatures, the law of the medians, and its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.stats import weighted_line

BOLTZMANN = 8.617333262e-5  # eV/K (CODATA 2018)
ZERO_CELSIUS = 273.15
ASSUMED = 0.65  # eV, near half the gap of silicon, where no two temperatures show a rate
Array = NDArray[np.float64]


def inverse_kt(celsius: float | Array, reference: float) -> Array:
    """``1/kT - 1/kT_0`` in 1/eV, of temperatures in degrees Celsius."""
    kelvin = np.asarray(celsius, np.float64) + ZERO_CELSIUS
    return np.asarray((1.0 / kelvin - 1.0 / (reference + ZERO_CELSIUS)) / BOLTZMANN)


def doubling(energy: float, reference: float) -> float:
    """Kelvin by which the rate doubles about the reference [C]: ln 2 k T^2 / E."""
    return math.log(2.0) * BOLTZMANN * (reference + ZERO_CELSIUS) ** 2 / energy


def temperature_groups(temperatures: Sequence[float] | Array, width: float) -> list[list[int]]:
    """Frames whose temperatures lie within `width` kelvin of each other, coldest group first.

    Unknown ones, all or none of which are NaN, are one group.
    """
    found: list[list[int]] = []
    first = -math.inf
    for index in np.argsort(temperatures, kind="stable"):
        if not found or temperatures[index] - first > width:
            found.append([])
            first = temperatures[index]
        found[-1].append(int(index))
    return [sorted(group) for group in found]


@dataclass(frozen=True, eq=False)
class Law:
    """What the levels of whole frames say: the dark of the median pixel.

    Attributes
    ----------
    rates : ndarray
        Measured at each temperature, adu/s; NaN where the times do not show one.
    fitted : ndarray
        Of the law, adu/s.
    scale, energy : float
        Rate at the reference, adu/s; activation energy, eV. NaN for a single temperature.
    sigma : float or None
        Of the energy, from the scatter about the law; None for fewer than three temperatures.
    shifts : ndarray
        Of each frame: its level less that of the line of its temperature, adu.
    assumed : bool
        Whether the energy was assumed.
    """

    rates: Array
    fitted: Array
    scale: float
    energy: float
    sigma: float | None
    shifts: Array
    assumed: bool = False


def law_of(levels: Array, times: Array, groups: Sequence[Sequence[int]], x: Array, *, known: bool) -> Law:
    """The law of the median levels: a line in time at each temperature, then ln rate against 1/kT.

    Parameters
    ----------
    levels, times : ndarray
        Median of each frame, adu (less the bias if `known`), and its dark time, s.
    groups : sequence
        Frames of each temperature.
    x : ndarray
        1/kT of the groups less that of the reference, 1/eV.
    known : bool
        Whether the zero level is known, and 0.
    """
    rates, lines, free = _lines(levels, times, groups, known)
    zero = 0.0 if known or not free else float(np.mean([lines[g] for g in free]))
    shifts = np.zeros(levels.size)
    for g, members in enumerate(groups):
        if g not in free:
            continue
        shifts[members] = levels[members] - zero - rates[g] * times[members]
    weight = np.array([_spread(times[list(members)], known) for members in groups])
    good = np.isfinite(rates) & (rates > 0) & (weight > 0)
    if len(groups) == 1:
        return Law(rates, np.maximum(rates, 1e-12), float(rates[0]), math.nan, None, shifts)
    if good.sum() < 2:
        scale = float(rates[good][0] * math.exp(ASSUMED * x[good][0])) if good.any() else 1e-6
        return Law(rates, scale * np.exp(-ASSUMED * x), scale, ASSUMED, None, shifts, True)
    w = weight[good] * rates[good] ** 2
    slope, level = weighted_line(x[good], np.log(rates[good]), w)
    sigma = None
    if good.sum() > 2:
        left = np.log(rates[good]) - level - slope * x[good]
        dx = x[good] - np.average(x[good], weights=w)
        sigma = math.sqrt(float((w * left**2).sum() / (good.sum() - 2) / (w * dx**2).sum()))
    return Law(rates, np.exp(level + slope * x), math.exp(level), -slope, sigma, shifts)


def _lines(
    levels: Array, times: Array, groups: Sequence[Sequence[int]], known: bool
) -> tuple[Array, Array, list[int]]:
    """Rate and zero level at each temperature, and the groups that can tell both."""
    rates, zero = np.full((2, len(groups)), np.nan)
    free = []
    for g, members in enumerate(groups):
        t, y = times[list(members)], levels[list(members)]
        if len(t) > 2 and np.ptp(t) > 0:
            rates[g], zero[g] = weighted_line(t, y)
            free.append(g)
    level = 0.0 if known else float(np.nanmean(zero)) if free else math.nan
    if not known and not free:
        # No temperature has three frames: the line of the one with the widest times sets the level.
        widest = max(range(len(groups)), key=lambda g: float(np.ptp(times[list(groups[g])])))
        members = list(groups[widest])
        if np.ptp(times[members]) > 0:
            level = weighted_line(times[members], levels[members])[1]
    for g, members in enumerate(groups):
        t, y = times[list(members)], levels[list(members)]
        if g not in free and (t > 0).any():
            rates[g] = float(t @ (y - level) / (t @ t))
    return rates, zero, free


def _spread(times: Array, known: bool) -> float:
    """How well times determine a rate: sum of squares, about their mean where the level is free."""
    centre = 0.0 if known or times.size < 3 else times.mean()
    return float(((times - centre) ** 2).sum())
