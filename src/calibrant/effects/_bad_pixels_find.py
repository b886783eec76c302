"""Bad pixels in the slopes of darks, and in the response to flats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from calibrant.effects._bad_pixels_kinds import Limits
from calibrant.effects._ramp_slopes import Band, Facts
from calibrant.effects._surroundings import surroundings
from calibrant.stats import clipped_stats, std_bias

Mask = NDArray[np.bool_]
F4 = NDArray[np.float32]
MANY = 5  # ramps, of which one without a jump must be left for a scatter
HALF = 0.5
NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(eq=False)
class Darks:
    """What is kept of each pixel while darks are walked; planes (rows, cols).

    Attributes
    ----------
    slope, scatter, without : ndarray
        float32: mean of all ramps; standard deviation of those without jumps, NaN of fewer than two; the same
        without the ramp that is farthest from the mean, adu/s.
    clean : ndarray
        uint16 ramps without jumps.
    high : ndarray
        The slope that `hot_fraction` of the ramps reach, adu/s.
    saturated, early, many, pedestal, rc, levels : ndarray
        Fractions of the ramps: saturated throughout; many jumps, most of them early; many jumps otherwise;
        first group high and no change; a signal that settles; two levels.
    """

    shape: tuple[int, int]
    ramps: int = 0
    planes: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, band: Band, limits: Limits, level: float, facts: Facts) -> None:
        """One band; `level` is that of the array in the first groups, adu."""
        self.ramps = len(band.slope)
        for name, plane in _seen(band, limits, level, facts).items():
            if name not in self.planes:
                self.planes[name] = np.zeros(self.shape, plane.dtype)
            self.planes[name][band.rows] = plane


def _seen(band: Band, limits: Limits, level: float, facts: Facts) -> dict[str, NDArray[Any]]:
    known = np.isfinite(band.slope)
    clean = known & (band.jumps == 0)
    many = band.jumps >= limits.jumps
    ratio = band.early >= limits.jump_ratio * np.maximum(band.late, 1e-6)
    first = band.first > level + limits.pedestal
    moved = np.abs(band.change)
    # of four reads, two of them scaled by at most 1, and of the photons between them
    noise = np.sqrt(4.0 * facts.read_noise**2 + moved / facts.gain)
    bent = np.abs(band.bend) > limits.bend * noise
    # what fills fast but evenly is hot
    rc = bent & ((first & (moved > limits.change)) | ((moved > HALF * limits.change) & ~band.levels))
    rc |= band.change < limits.fall
    planes = {
        "slope": _mean(band.slope, known),
        "scatter": _scatter(band.slope, clean),
        "without": _scatter(band.slope, clean & ~_farthest(band.slope, clean)),
        "clean": clean.sum(axis=0).astype(np.uint16),
        "high": _reached(band.slope, limits.hot_fraction),
    }
    masks = {
        "saturated": band.saturated, "early": many & ratio, "many": many & ~ratio,
        "pedestal": first & (band.change <= limits.change), "rc": rc, "levels": band.levels,
    }  # fmt: skip
    return planes | {name: mask.mean(axis=0).astype(np.float32) for name, mask in masks.items()}


def _mean(slope: F4, use: Mask) -> F4:
    n = use.sum(axis=0)
    total = np.where(use, slope, 0.0).sum(axis=0)
    mean: F4 = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0).astype(np.float32)
    return mean


def _scatter(slope: F4, use: Mask) -> F4:
    n = use.sum(axis=0)
    square = np.where(use, (slope - _mean(slope, use)) ** 2, 0.0).sum(axis=0)
    found = np.divide(square, n - 1.0, out=np.full(n.shape, np.nan), where=n > 1)
    root: F4 = np.sqrt(found).astype(np.float32)
    return root


def _farthest(slope: F4, use: Mask) -> Mask:
    """The ramp farthest from the mean of each pixel: a cosmic ray too small to be a jump may be in it."""
    far = np.where(use, np.abs(slope - _mean(slope, use)), -1.0)
    index = np.arange(len(slope))[:, None, None]
    farthest: Mask = index == far.argmax(axis=0)
    return farthest


def _reached(slope: F4, fraction: float) -> F4:
    """The highest limit that this fraction of the finite slopes reaches."""
    order = np.sort(np.where(np.isfinite(slope), -slope, np.inf), axis=0)
    n = np.isfinite(order).sum(axis=0)
    last = np.maximum(np.ceil(fraction * n).astype(np.intp), 1) - 1
    found = -np.take_along_axis(order, last[None], axis=0)[0]
    return np.where(n > 0, found, np.nan).astype(np.float32)


def from_darks(
    darks: Darks, slopes: NDArray[Any], light: Mask, limits: Limits
) -> tuple[dict[str, Mask], dict[str, float]]:
    """Kinds of bad pixels, and the limits in adu/s that were used.

    Parameters
    ----------
    slopes : ndarray
        Sample of the slopes of single ramps, adu/s.
    light : ndarray of bool
        Pixels that see light.
    """
    planes = darks.planes
    centre = clipped_stats(slopes[np.isfinite(slopes)], sigma=5.0)
    hot_limit = centre.median + limits.hot * centre.std
    noisy, noisy_limit = _noisy(planes["scatter"], planes["clean"], darks.ramps, light, limits)
    if darks.ramps >= MANY:  # one ramp alone makes no pixel noisy
        rest = np.maximum(planes["clean"], 1) - 1
        noisy &= _noisy(planes["without"], rest, darks.ramps - 1, light, limits)[0]
    rc = (planes["rc"] > limits.rc_fraction) | (planes["early"] > limits.rc_fraction)
    with np.errstate(invalid="ignore"):
        hot = planes["high"] >= hot_limit
    hot |= planes["saturated"] > limits.saturated_fraction
    hot |= (planes["pedestal"] > limits.many_fraction) & ~rc
    telegraph = (planes["many"] > limits.many_fraction) & ~rc
    # two levels in a ramp or two may be chance; in one ramp of few there is nothing else to go by
    telegraph |= (planes["levels"] >= limits.levels) & ~rc & ~hot
    found = {"hot": hot, "noisy": noisy, "rc": rc, "telegraph": telegraph}
    return {name: mask & light for name, mask in found.items()}, {"hot": hot_limit, "noisy": noisy_limit}


def _noisy(scatter: F4, clean: NDArray[Any], ramps: int, light: Mask, limits: Limits) -> tuple[Mask, float]:
    """Scatter above its clipped mean by so many clipped sigmas, and above what chance gives."""
    values = scatter[light & np.isfinite(scatter)]
    if values.size < 2 or ramps < 2:
        return np.zeros(scatter.shape, bool), math.nan
    centre = clipped_stats(values, sigma=5.0)
    published = centre.mean + limits.noisy * centre.std
    freedom = np.maximum(clean.astype(np.float64) - 1.0, 1.0)
    typical = int(np.median(clean[light & np.isfinite(scatter)]))
    true = centre.mean / std_bias(max(typical, 2))
    table = {n: math.sqrt(float(chi2.isf(limits.chance, n)) / n) for n in np.unique(freedom)}
    guard = true * np.vectorize(table.get, otypes=[np.float64])(freedom)
    with np.errstate(invalid="ignore"):
        found = scatter > np.maximum(published, guard)
    if ramps >= MANY - 1:
        found |= 2 * clean.astype(np.int64) < ramps  # jumps in most ramps
    return found, float(max(published, true * table[max(typical - 1.0, 1.0)]))


def from_flats(
    flat: NDArray[Any], light: Mask, saturated: Mask, limits: Limits
) -> tuple[dict[str, Mask], F4]:
    """Kinds of bad pixels, and the response relative to the surroundings (rows, cols).

    Parameters
    ----------
    flat : ndarray
        Mean slope, adu/s; NaN is no response.
    saturated : ndarray of bool
        Pixels that are never dead: they fill before the first group.
    """
    rows, cols = np.flatnonzero(light.any(axis=1)), np.flatnonzero(light.any(axis=0))
    inside = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    response = np.full(flat.shape, np.nan, np.float32)
    # a pixel without a slope takes the level around it, so that it does not darken its neighbours
    around = surroundings(np.asarray(flat[inside], np.float32))
    values = np.nan_to_num(np.asarray(flat[inside], np.float32), nan=0.0)
    lit = around > 0.1 * np.float32(np.median(around))
    response[inside] = np.divide(values, around, out=np.full(values.shape, np.nan, np.float32), where=lit)
    with np.errstate(invalid="ignore"):
        if limits.dead_search == "sigma":
            centre = clipped_stats(response[np.isfinite(response)], sigma=3.0)
            dead = response < centre.mean - limits.dead_sigma * centre.std
        else:
            dead = response < limits.dead
        weak = (response >= limits.dead) & (response < limits.low_qe)
        bright = response > limits.open
    full = np.ones(flat.shape, bool)
    for step in NEIGHBOURS:
        full &= _shifted(bright, step)
    is_open = weak & full
    beside = np.zeros(flat.shape, bool)
    for row in (-1, 0, 1):
        for col in (-1, 0, 1):
            beside |= _shifted(is_open, (row, col))
    found = {
        "dead": dead & ~saturated,
        "low_qe": weak & ~full,
        "open": is_open,
        "adjacent_open": beside & ~is_open,
    }
    return {name: mask & light for name, mask in found.items()}, response


def _shifted(mask: Mask, step: tuple[int, int]) -> Mask:
    """What lies `step` rows and columns from each pixel; False beyond the edge."""
    rows, cols = step
    padded = np.pad(mask, 1)
    return padded[1 + rows : 1 + rows + mask.shape[0], 1 + cols : 1 + cols + mask.shape[1]]


def counts(masks: Mapping[str, Mask]) -> Iterator[tuple[str, int]]:
    """Pixels of each kind."""
    for name, mask in masks.items():
        yield name, int(mask.sum())
