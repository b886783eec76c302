"""Reference pixels that cannot be trusted: by scatter, range, autocorrelation, and two levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from calibrant.effects._reference_read import F4, Floats
from calibrant.effects._two_levels import EVIDENCE, two_levels
from calibrant.stats import MAD_TO_STD

Bools = NDArray[np.bool_]
LOOK = 3.0  # sigmas, of a ramp's scatter, range or autocorrelation, from where two levels are looked for
FEWEST = 4  # groups


@dataclass(eq=False)
class Watch:
    """Statistics of pixels, ramp by ramp; nothing of a ramp is kept.

    Attributes
    ----------
    region : ndarray
        (pixels,) number of each pixel's region.
    """

    region: NDArray[np.int16]
    squares: Floats = field(init=False)
    products: Floats = field(init=False)
    freedom: Floats = field(init=False)
    pairs: Floats = field(init=False)
    span: Floats = field(init=False)
    looks: Floats = field(init=False)
    evidence: Floats = field(init=False)
    amplitude: Floats = field(init=False)
    lost: Floats = field(init=False)
    ramps: int = 0

    def __post_init__(self) -> None:
        many = len(self.region)
        for name in ("squares", "products", "freedom", "pairs", "looks", "amplitude", "lost"):
            setattr(self, name, np.zeros(many))
        self.span, self.evidence = np.full(many, -np.inf), np.full(many, -np.inf)

    def add(self, own: F4) -> None:
        """One ramp: each pixel less its region and its mean, (groups, pixels) adu, NaN where unknown."""
        usable = np.isfinite(own).any(axis=1)
        if usable.sum() < 2:
            return
        x = own[usable].astype(np.float64)
        fine: Bools = np.asarray(np.isfinite(x).all(axis=0))
        self.lost += ~fine
        self.ramps += 1
        x = np.where(fine, x - x.mean(axis=0), 0.0)
        n = len(x)
        squares, products = (x**2).sum(axis=0), (x[1:] * x[:-1]).sum(axis=0)
        self.squares += squares
        self.products += products
        self.freedom += fine * (n - 1.0)
        self.pairs += fine * float(n)
        typical = _by_region(np.sqrt(squares / (n - 1)), self.region, fine)
        with np.errstate(invalid="ignore", divide="ignore"):
            width = np.ptp(x, axis=0) / typical
            span = _range_z(width, n)
        self.span = np.fmax(self.span, np.where(fine, span, -np.inf))
        self.looks += fine
        if n >= FEWEST:
            self._two_levels(x, fine, squares, products, typical, span)

    def _two_levels(
        self, x: Floats, fine: Bools, squares: Floats, products: Floats, typical: Floats, span: Floats
    ) -> None:
        n = len(x)
        scatter = _scatter_z(squares / (n - 1) / typical**2, n - 1.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            memory = products / squares * math.sqrt(n)
        odd = fine & ((scatter > LOOK) | (span > LOOK) | (memory > LOOK))
        if not odd.any():
            return
        evidence, apart, _ = two_levels(x[:, odd])
        better = evidence > self.evidence[odd]
        self.amplitude[odd] = np.where(better, apart, self.amplitude[odd])
        self.evidence[odd] = np.maximum(self.evidence[odd], evidence)

    def result(self) -> Unstable:
        """What all ramps say."""
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = self.squares / self.freedom
            memory = self.products / self.squares
            known = self.freedom > 0
            scatter = np.sqrt(variance)
            ratio = (scatter / _by_region(scatter, self.region, known)) ** 2
            scatter_z = _standard(_scatter_z(ratio, self.freedom), known)
            memory_z = _standard(memory * np.sqrt(self.pairs), known)
            # the largest of several ramps
            chance = -np.expm1(np.maximum(self.looks, 1.0) * np.log1p(-norm.sf(self.span)))
        span_z = np.where(known, norm.isf(np.clip(chance, 1e-300, 1.0 - 1e-16)), np.nan)
        apart = np.where(self.evidence > EVIDENCE + 2.0 * math.log(max(self.ramps, 1)), self.amplitude, 0.0)
        lost = self.lost > 0.5 * max(self.ramps, 1)
        return Unstable(scatter, memory, scatter_z, span_z, memory_z, apart, self.evidence, lost)


@dataclass(frozen=True, eq=False)
class Unstable:
    """Of each reference pixel, (pixels,).

    Attributes
    ----------
    scatter : ndarray
        Standard deviation within ramps about the region, adu.
    memory : ndarray
        Correlation of a read with the next.
    scatter_z, span_z, memory_z : ndarray
        Scatter, range and correlation in sigmas from those of the pixels of the region.
    telegraph : ndarray
        Distance of two levels, adu; 0 without evidence for two.
    evidence : ndarray
        Fall of the Bayesian information criterion in the ramp where it is largest; -inf if not looked for.
    lost : ndarray of bool
        Not a number, or saturated, in most ramps.
    """

    scatter: Floats
    memory: Floats
    scatter_z: Floats
    span_z: Floats
    memory_z: Floats
    telegraph: Floats
    evidence: Floats
    lost: Bools

    def bad(self, threshold: float) -> Bools:
        """Pixels that are beyond so many sigmas in one of the ways, or jump between levels."""
        return np.asarray((self.farthest() > threshold) | (self.telegraph > 0) | self.lost)

    def farthest(self) -> Floats:
        """The largest of the three distances, sigmas; a low scatter is as far as a high one."""
        others = (np.nan_to_num(z) for z in (self.span_z, self.memory_z))
        return np.asarray(np.maximum.reduce([np.abs(np.nan_to_num(self.scatter_z)), *others]))


def _by_region(values: Floats, region: NDArray[np.int16], known: Bools) -> Floats:
    """The median of the region of each pixel."""
    found = np.full(values.shape, np.nan)
    for one in np.unique(region):
        here = region == one
        if (here & known).any():
            found[here] = np.median(values[here & known])
    return found


def _scatter_z(ratio: Floats, freedom: Floats | float) -> Floats:
    """Variances over the square of the median deviation, in sigmas (Wilson and Hilferty 1931)."""
    freedom = np.maximum(freedom, 1.0)
    centre = 1.0 - 2.0 / (9.0 * freedom)
    return np.asarray((np.cbrt(ratio) - 1.0) * centre / np.sqrt(2.0 / (9.0 * freedom)))


def _standard(z: Floats, known: Bools) -> Floats:
    """About their median, in robust sigmas."""
    if not known.any():
        return np.full(z.shape, np.nan)
    centre = np.median(z[known])
    width = MAD_TO_STD * np.median(np.abs(z[known] - centre))
    return np.where(known, (z - centre) / width if width > 0 else z - centre, np.nan)


def _range_z(width: Floats, groups: int) -> Floats:
    """The range of normal values in sigmas of a normal variable of the same probability."""
    grid = np.linspace(0.5, 16.0, 300)
    x = np.linspace(-9.0, 9.0, 721)
    # probability that all others lie within w above the lowest, summed from above: exact for the far tail
    inside = norm.cdf(x + grid[:, None]) - norm.cdf(x)
    beyond = -np.expm1((groups - 1) * np.log(np.clip(inside / norm.sf(x), 1e-300, 1.0)))
    lowest = groups * norm.pdf(x) * norm.sf(x) ** (groups - 1)
    chance = np.clip((lowest * beyond).sum(axis=1) * (x[1] - x[0]), 1e-300, 1.0 - 1e-12)
    return np.asarray(np.interp(width, grid, norm.isf(chance)))
