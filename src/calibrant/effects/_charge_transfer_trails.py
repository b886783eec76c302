"""Trails behind the last pixels that saw light: what extended pixel edge response (EPER) is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._assembly import Shape, window
from calibrant.instrument import Readout
from calibrant.instrument.sections import Section
from calibrant.stats import clipped_stats

SERIAL, PARALLEL = "serial", "parallel"
GAP = 3  # pixels between those that are summed and those whose level is taken off
FAR = 4  # pixels that the level needs
CLIP = 5.0  # sigmas of the lines; a cosmic ray in one must not count
FEWEST = 10  # lines
SHOWN = 8  # pixels of a trail that are kept


@dataclass(frozen=True)
class Strip:
    """The last line of data of an amplifier and the overscan behind it, in one direction.

    Attributes
    ----------
    amplifier, direction : str
    last, over : Section
        Of the raw image, ascending.
    backwards : bool
        Whether the overscan is read towards lower rows or columns of the raw image.
    transfers : int
        By which the last line reaches the amplifier.
    """

    amplifier: str
    direction: str
    last: Section
    over: Section
    backwards: bool
    transfers: int

    @property
    def length(self) -> int:
        """Pixels of the overscan behind each line."""
        axis = self.over[1 if self.direction == SERIAL else 0]
        return int(axis.stop - axis.start)

    def of(self, image: NDArray[np.float32]) -> NDArray[np.float64]:
        """(lines, 1 + length): the last pixel that saw light, and those that are read after it."""
        last, over = image[self.last], image[self.over]
        if self.direction == PARALLEL:
            last, over = last.T, over.T
        order = slice(None, None, -1 if self.backwards else None)
        return np.concatenate([last, over[:, order]], axis=1).astype(np.float64)


def strips(readout: Readout, raw: Shape) -> tuple[list[Strip], list[str]]:
    """Strips of an amplifier, and what is in the way of those that are missing.

    Parameters
    ----------
    readout : Readout
    raw : tuple of int
        Rows, columns of the raw image.
    """
    found, notes = [], []
    data = window(readout.data, raw)
    for direction, section in ((SERIAL, readout.overscan), (PARALLEL, readout.parallel_overscan)):
        if section is None:
            continue
        axis = 1 if direction == SERIAL else 0
        over, along = window(section, raw), 1 - axis
        after = over[axis].start >= data[axis].stop
        away = over[axis].start - data[axis].stop if after else data[axis].start - over[axis].stop
        if away:
            notes.append(
                f"amplifier {readout.name}: no {direction} transfer, the overscan begins {away} pixels"
                " from the data"
            )
            continue
        both = slice(max(data[along].start, over[along].start), min(data[along].stop, over[along].stop))
        edge = data[axis].stop - 1 if after else data[axis].start
        last = slice(edge, edge + 1)
        before = _before(readout, raw) if direction == SERIAL else 0
        found.append(
            Strip(
                readout.name,
                direction,
                (both, last) if axis else (last, both),
                (both, over[axis]) if axis else (over[axis], both),
                not after,
                data[axis].stop - data[axis].start + before,
            )
        )
    return found, notes


def _before(readout: Readout, raw: Shape) -> int:
    """Columns of the prescan, which are read before the data."""
    if readout.prescan is None:
        return 0
    cols = window(readout.prescan, raw)[1]
    return int(cols.stop - cols.start)


@dataclass(frozen=True)
class Trail:
    """What one strip says in one exposure, adu above the far overscan; NaN where it says nothing.

    Attributes
    ----------
    signal : float
        Of the last line.
    deferred, sigma : float
        Mean sum of the first pixels behind it, and its standard error.
    pixels, pixel_sigma : (SHOWN,) float64
        Mean of each of the first pixels, and its standard error; NaN from where the level begins.
    """

    signal: float
    deferred: float
    sigma: float
    pixels: NDArray[np.float64]
    pixel_sigma: NDArray[np.float64]


def trail(lines: NDArray[np.float64], pixels: int) -> Trail:
    """Mean trail of the lines of a strip, each above the level of its own far overscan.

    Parameters
    ----------
    lines : (lines, 1 + length) float64
        adu; NaN where not good. See `Strip.of`.
    pixels : int
        Of the overscan that are summed.
    """
    far = lines[:, 1 + pixels + GAP :]
    good = (np.isfinite(far).sum(axis=1) >= FAR) & np.isfinite(lines[:, 0])
    shown = np.full((2, SHOWN), math.nan)
    if good.sum() < FEWEST:
        return Trail(math.nan, math.nan, math.nan, *shown)
    lines = lines[good]
    lines = lines - np.nanmean(lines[:, 1 + pixels + GAP :], axis=1, keepdims=True)
    signal, _ = _mean(lines[:, 0])
    deferred, sigma = _mean(lines[:, 1 : 1 + pixels].sum(axis=1))
    for pixel in range(min(SHOWN, pixels + GAP)):
        shown[:, pixel] = _mean(lines[:, 1 + pixel])
    return Trail(signal, deferred, sigma, *shown)


def _mean(values: NDArray[Any]) -> tuple[float, float]:
    """Clipped mean and its standard error; NaN for too few values."""
    found = clipped_stats(values, sigma=CLIP, correct=True)
    if found.n < FEWEST:
        return math.nan, math.nan
    return found.mean, found.std / math.sqrt(found.n)


def inefficiency(trails: list[Trail], transfers: int) -> tuple[float, float, float]:
    """Deferred charge per transfer and signal: slope through zero, standard error, reduced chi-square.

    ``cti = sum(w d S) / (n sum(w S^2))``, with d the deferred charge, S the signal, w = 1/sigma^2 and n the
    transfers (Janesick 2001, Scientific Charge-Coupled Devices, section 5.2.3, for a single exposure).
    """
    rows = np.array([(one.signal, one.deferred, one.sigma) for one in trails])
    rows = rows[np.isfinite(rows).all(axis=1) & (rows[:, 0] > 0) & (rows[:, 2] > 0)]
    if not len(rows):
        return math.nan, math.nan, math.nan
    signal, deferred, sigma = rows.T
    strength = float(np.square(signal / sigma).sum())
    slope = float((deferred * signal / sigma**2).sum()) / strength
    freedom = len(rows) - 1
    chi2 = float(np.square((deferred - slope * signal) / sigma).sum()) / freedom if freedom else math.nan
    return slope / transfers, 1.0 / (transfers * math.sqrt(strength)), chi2
