"""The levels of each amplifier: means and variances of all pairs, and those that are no part of the curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._amplifiers import Region
from calibrant.effects._pairs import Light, Pair
from calibrant.exposures import Exposures
from calibrant.product import Product

F8 = NDArray[np.float64]
LOST = 0.01  # of the pixels: more than this are saturated, and those that are left are the dark ones
UNEVEN = 1.0045  # noise factor of two fluxes that differ by 10 %
QUIET = 0.9  # of the read noise squared: known to a few per cent
FALL = 0.02  # relative: less is the lamp's drift
STEP = 1.1  # ratio of means from which on two pairs are two levels
COLUMNS = ("mean", "variance", "pixels", "covariance", "counts", "noise_factor")  # of a Light
SEVERAL = 3  # amplifiers: the middle one of them says what light there was
WILD = 0.25  # of the pairs: if more are out of order, the order is wrong
SWAPPED = 0.2  # of the logarithm of a ratio


@dataclass(eq=False)
class Amplifier:
    """One amplifier over the pairs.

    Attributes
    ----------
    mean, variance : ndarray
        float64, (pairs,), adu and adu^2; NaN where not measured.
    pixels : ndarray
        int64, (pairs,).
    covariance, counts : ndarray
        (pairs, lags, lags), adu^2 and pairs of pixels.
    noise_factor : ndarray
        float64, (pairs,): of the read noise squared in `variance`.
    noise : float
        Read noise from elsewhere, adu; NaN if unknown.
    nominal : float
        Nominal gain, e-/adu; NaN if unknown.
    good : ndarray of bool
        (pairs,): part of the curve.
    full : bool
        Whether pairs are left out because pixels are saturated.
    notes : list of str
    """

    name: str
    mean: F8
    variance: F8
    pixels: NDArray[np.int64]
    covariance: F8
    counts: NDArray[np.int64]
    noise_factor: F8
    noise: float
    nominal: float
    good: NDArray[np.bool_] = field(init=False)
    full: bool = field(init=False, default=False)
    notes: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.good = np.isfinite(self.mean) & np.isfinite(self.variance)

    @property
    def square(self) -> F8:
        """Read noise squared as it is in `variance`, (pairs,), adu^2; 0 if unknown."""
        known: F8 = np.nan_to_num(self.noise) ** 2 * self.noise_factor
        return known

    @property
    def dead(self) -> bool:
        """Whether no pair shows light with its noise."""
        return not (self.variance[self.good] > 0).any()

    @property
    def levels(self) -> int:
        """Levels that are clearly apart."""
        count, start = 0, -math.inf
        for mean in np.sort(self.mean[self.good]):
            if mean > max(start * STEP, start + 1.0):
                count, start = count + 1, mean
        return count

    def select(self, minimum: int, light: F8) -> None:
        """Leave out what is no part of the curve, with a note for each reason.

        Parameters
        ----------
        minimum : int
            Good pixels.
        light : ndarray
            (pairs,): what orders the pairs by their light, NaN where nothing does; see `light_of`.
        """
        if not self.good.any():
            self.notes.append(f"dead: no pair has {minimum} good pixels")
            return
        if self.dead:
            self.notes.append("dead: its values do not vary")
            self.good[:] = False
            return
        few = ~self.good
        self._leave_out(few, f"with fewer than {minimum} pixels that are neither saturated nor flagged")
        full = self.good & (self.pixels < (1 - LOST) * self.pixels.max())
        self._leave_out(full, "saturated in part")
        self.full = bool((few & (self.pixels < self.pixels.max())).any() or full.any())
        self._leave_out(
            self.good & (self.noise_factor > UNEVEN), "of two fluxes that differ by more than 10 %"
        )
        if math.isfinite(self.noise):
            error = 5.0 * np.sqrt(2.0 / np.maximum(self.pixels, 1))
            limit = self.noise**2 * (QUIET - error)
            self._leave_out(self.good & (self.variance < limit), "with a variance below the read noise")
        self._see_that_it_rises(light)

    def _see_that_it_rises(self, light: F8) -> None:
        known = self.good & np.isfinite(light)
        places = np.flatnonzero(known)
        places = places[np.lexsort((self.mean[places], light[places]))]
        wild = known.copy()
        wild[places[_rising(self.mean[places])]] = False
        if wild.sum() <= WILD * known.sum():
            self._leave_out(wild, "whose mean does not rise with the light")
        else:
            self.notes.append("its mean does not rise with the light; no pair is left out for that")

    def _leave_out(self, which: NDArray[np.bool_], why: str) -> None:
        if which.any():
            self.good &= ~which
            n = int(which.sum())
            self.notes.append(f"{n} pair{'s' if n > 1 else ''} left out, {why}")

    def swapped(self, gain: float, sigma: float) -> bool:
        """Whether the nominal gain fits the measured one, and that is known well enough, only as adu/e-."""
        if not (gain > 0 and self.nominal > 0 and sigma < SWAPPED * gain):
            return False
        apart, swapped = abs(math.log(gain / self.nominal)), abs(math.log(gain * self.nominal))
        return swapped < SWAPPED < apart and apart > 2 * swapped


def _rising(values: F8) -> NDArray[np.intp]:
    """The longest series of values none of which falls below an earlier one: one wild value goes alone."""
    length = np.ones(len(values), int)
    before = np.full(len(values), -1)
    for k, value in enumerate(values):
        reach = np.flatnonzero(value >= values[:k] - FALL * np.abs(values[:k]))
        if reach.size:
            before[k] = reach[np.argmax(length[reach])]
            length[k] = length[before[k]] + 1
    kept = []
    k = int(np.argmax(length)) if len(length) else -1
    while k >= 0:
        kept.append(k)
        k = int(before[k])
    return np.array(kept[::-1], np.intp)


def light_of(parts: Sequence[Amplifier], pairs: Sequence[Pair], series: Exposures) -> F8:
    """What orders the pairs by their light, (pairs,): the middle amplifier, or what the pairs share.

    Exposure times of several filters order nothing, nor does the sequence: NaN.
    """
    if len(parts) >= SEVERAL:
        means = np.array([part.mean for part in parts])
        known = np.isfinite(means).any(axis=0)
        light = np.full(len(pairs), np.nan)
        light[known] = np.nanmedian(means[:, known], axis=0)
        return light
    if len({exposure.filter for exposure in series}) > 1:
        return np.full(len(pairs), np.nan)
    return np.array([pair.value for pair in pairs])


def amplifiers(
    series: Exposures,
    regions: Sequence[Region],
    lights: Sequence[Sequence[Light]],
    products: Mapping[str, Product],
    read_noise: float | None,
) -> list[Amplifier]:
    """What `extract` found, turned to one object for each amplifier."""
    nominal = series.instrument.nominal(series[0])
    found = []
    for k, region in enumerate(regions):
        gain = region.readout.gain if region.readout.gain is not None else nominal.gain
        if series[0].gain is not None and len(regions) == 1:  # the header's word counts more
            gain = series[0].gain
        noise = _noise(products, region.name) if read_noise is None else read_noise
        own = [pair[k] for pair in lights]
        planes = {name: np.array([getattr(light, name) for light in own]) for name in COLUMNS}
        found.append(
            Amplifier(region.name, noise=noise, nominal=math.nan if gain is None else float(gain), **planes)
        )
    return found


def _noise(products: Mapping[str, Product], name: str) -> float:
    """Read noise of an amplifier, adu; NaN if unknown.

    Biases first: like flats, they hold the error of the overscan level, which is added to that of an
    overscan. But one number for all amplifiers is no match for one of their own.
    """
    for place in dict.fromkeys((name, "")):
        for kind in ("bias", "read_noise", "overscan"):
            own = [q for q in products[kind] if q.place == place] if kind in products else []
            values = {q.name: q.value for q in own if math.isfinite(q.value)}
            if "read_noise" in values:
                return math.hypot(values["read_noise"], values.get("level_sigma", 0.0))
    return math.nan


def told(parts: Sequence[Amplifier]) -> list[str]:
    """Their notes, each once, with the amplifiers it holds for."""
    by_note: dict[str, list[str]] = {}
    for part in parts:
        for note in part.notes:
            by_note.setdefault(note, []).append(part.name)
    notes = []
    for note, names in by_note.items():
        whole = len(names) == len(parts)
        where = "" if names == [""] else "all amplifiers: " if whole else f"{', '.join(names)}: "
        notes.append(where + note)
    return notes


def of_pairs(pairs: Sequence[Pair], names: Sequence[str], times: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Columns of the pairs: number, files, exposure time [s]."""
    return {
        "pair": np.arange(len(pairs)),
        "first": np.array([names[pair.first] for pair in pairs]),
        "second": np.array([names[pair.second] for pair in pairs]),
        "exptime": np.array([math.nan if times[p.first] is None else times[p.first] for p in pairs], float),
    }
