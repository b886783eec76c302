"""Patterns that differ from band to band: blotches of a coating, and fringes of thin silicon.

Maps of two bands differ by what is chromatic alone: gains, pixels, dust and vignetting cancel. One band, that
with the least structure, is the reference. Products of maps with their smoothed selves give amplitudes that
noise from pixel to pixel does not add to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from calibrant.effects._structure_surface import blocks
from calibrant.instrument.sections import Section
from calibrant.stats import half_sample_mode

F8 = NDArray[np.float64]
WIDTH = 1.0  # cells: sigma of the smoothing
CONFUSION = 0.05  # relative, of an amplitude
LEFT = 0.12  # of structure that was taken away that may be left
HIGHEST = 0.12  # waves per cell: what is looked at of a spectrum
BANDED = 5.5  # waves over the detector that a banded pattern has at least, on the average of its power
ORIENTED = 0.5  # mean of the doubled angle, weighted by power, from which on a pattern has a direction


@dataclass(frozen=True)
class Shape:
    """What the power spectrum of a map tells.

    Attributes
    ----------
    waves : float
        Over the longer side: mean frequency, weighted by power; NaN if noise is all there is.
    direction : float
        0 for no preferred direction, 1 for parallel waves.
    """

    waves: float
    direction: float

    @property
    def banded(self) -> bool:
        """Whether it looks like fringes: waves of a direction, where blotches have all the long ones."""
        return self.waves >= BANDED and self.direction > ORIENTED


@dataclass(frozen=True, eq=False)
class Pattern:
    """A pattern that the bands have in different strength.

    Attributes
    ----------
    banded : bool
        Fringes rather than blotches.
    template : str
        Band in which it was found.
    shape : Shape
    significance : float
        In that band.
    plane : array
        (R, C), ln, smoothed, in that band against the reference.
    amplitude, sigma : mapping of band to float
        rms, relative; against what most bands have. May be negative: the pattern upside down.
    """

    banded: bool
    template: str
    shape: Shape
    significance: float
    plane: F8
    amplitude: Mapping[str, float]
    sigma: Mapping[str, float]


def white(one: F8, other: F8) -> float:
    """Covariance of cells of two maps: second differences on both axes, which smooth structure lacks."""
    waves = []
    for plane in (one, other):
        wave = plane[:-2] - 2.0 * plane[1:-1] + plane[2:]
        waves.append(wave[:, :-2] - 2.0 * wave[:, 1:-1] + wave[:, 2:])
    product = waves[0] * waves[1]
    good = np.isfinite(product)
    if not good.any():
        return 0.0
    limit = 25.0 * float(np.median(np.abs(product[good])))  # an outlier makes a tail of its own
    return float(np.clip(product[good], -limit, limit).mean()) / 36.0


def products(one: F8, other: F8, windows: tuple[Section, ...]) -> F8:
    """Sum of `one` times smoothed `other` without their common noise, and number of cells, of each block.

    Returns
    -------
    array
        (2, blocks).
    """
    good = np.isfinite(one) & np.isfinite(other)
    share = gaussian_filter(good.astype(np.float64), WIDTH, mode="constant")
    smooth = gaussian_filter(np.where(good, other, 0.0), WIDTH, mode="constant") / np.maximum(share, 1e-6)
    peak = 1.0 / (4.0 * math.pi * WIDTH**2) / np.maximum(share, 1e-6)
    peak *= _discrete(WIDTH)
    value = np.where(good, one, 0.0) * smooth - white(one, other) * peak * good
    sums = [(float(value[at][good[at]].sum()), int(good[at].sum())) for _, at in blocks(windows)]
    return np.array(sums, np.float64).T


def _discrete(width: float) -> float:
    """The middle of the smoothing as it is done in cells, over that of the Gaussian."""
    probe = np.zeros((33, 33))
    probe[16, 16] = 1.0
    return float(gaussian_filter(probe, width, mode="constant")[16, 16] * 4.0 * math.pi * width**2)


def mean_and_sigma(sums: F8) -> tuple[float, float]:
    """Mean product per cell, and its standard error from the scatter of the blocks."""
    use = sums[1] > 0
    total, cells = float(sums[0].sum()), float(sums[1].sum())
    if use.sum() < 4 or cells == 0:
        return math.nan, math.nan
    mean = total / cells
    parts = sums[0][use] - mean * sums[1][use]
    return mean, math.sqrt(float(np.sum(parts**2)) * use.sum() / (use.sum() - 1)) / cells


def shape_of(plane: F8) -> Shape:
    """The power spectrum of a map, in waves over its longer side."""
    good = np.isfinite(plane)
    rows, cols = plane.shape
    window = np.hanning(rows)[:, np.newaxis] * np.hanning(cols)[np.newaxis, :]
    values = np.where(good, plane - np.nanmean(plane), 0.0) * window
    power = np.abs(np.fft.fft2(values)) ** 2
    side = max(rows, cols)
    fy, fx = np.fft.fftfreq(rows)[:, np.newaxis] * side, np.fft.fftfreq(cols)[np.newaxis, :] * side
    frequency = np.hypot(fy, fx)
    power = power - float(power[frequency > 0.35 * side].mean())  # of the noise from cell to cell
    use = (frequency > 0) & (frequency < HIGHEST * side)
    total = float(power[use].sum())
    waves = float((power[use] * frequency[use]).sum()) / total if total > 0 else 0.0
    if waves <= 0:
        return Shape(math.nan, 0.0)
    near = use & (frequency > 0.5 * waves)
    turned = complex(np.sum(power[near] * np.exp(2j * np.arctan2(fy, fx))[near]))
    return Shape(waves, min(1.0, abs(turned) / max(float(power[near].sum()), 1e-300)))


def patterns(
    maps: Mapping[str, F8], windows: tuple[Section, ...], removed: Mapping[str, float], threshold: float
) -> tuple[tuple[Pattern, ...], str]:
    """Chromatic patterns of a detector, and the band that served as reference.

    Parameters
    ----------
    maps : mapping of band to array
        (R, C), ln of the response without edges and rings; with light and levels of the amplifiers, which are
        the same in all bands. NaN where shadows lie.
    removed : mapping of band to float
        rms of what was taken away and may be left in part.
    threshold : float
        Sigmas.
    """
    if len(maps) < 2:
        return (), ""
    reference = _quietest(maps, windows)
    found = _against(reference, maps, windows, removed, threshold)
    if found and len(maps) > 2:
        # A reference that has a pattern itself puts it, upside down, into the template of the other.
        size = {b: sum((p.amplitude[b] / max(p.amplitude.values())) ** 2 for p in found) for b in maps}
        quiet = min((b for b in maps if all(b != p.template for p in found)), key=lambda b: size[b])
        if quiet != reference:
            reference, found = quiet, _against(quiet, maps, windows, removed, threshold)
    return found, reference


def _against(
    reference: str,
    maps: Mapping[str, F8],
    windows: tuple[Section, ...],
    removed: Mapping[str, float],
    threshold: float,
) -> tuple[Pattern, ...]:
    differences = {band: _centred(maps[band] - maps[reference]) for band in maps if band != reference}
    strength = {}
    for band, plane in differences.items():
        power, sigma = mean_and_sigma(products(plane, plane, windows))
        left = LEFT * math.hypot(removed.get(band, 0.0), removed.get(reference, 0.0))
        # Left-overs of removed structure are a power themselves: a detection is against noise and them.
        strength[band] = (power, math.hypot(sigma, left**2), shape_of(plane))
    templates = {}
    for banded in (False, True):
        fit = [
            b
            for b, (power, sigma, form) in strength.items()
            if form.banded == banded and power > threshold * sigma
        ]
        if fit:
            templates[banded] = max(fit, key=lambda b: strength[b][0])
    coefficients, sigmas = _regress(differences, list(templates.values()), windows, reference)
    found = []
    for index, (banded, band) in enumerate(templates.items()):
        power, sigma, form = strength[band]
        scale = math.sqrt(power)
        values = {b: float(c[index]) for b, c in coefficients.items()}
        zero, doubt = _zero([v for b, v in values.items() if b == band or b not in templates.values()])
        own = max(0.5 * sigma / power, CONFUSION)
        amplitude = {b: scale * (v - zero) for b, v in values.items()}
        error = {
            b: math.hypot(scale * math.hypot(float(sigmas[b][index]), doubt), own * amplitude[b])
            for b in values
        }
        found.append(
            Pattern(banded, band, form, power / sigma, _smoothed(differences[band]), amplitude, error)
        )
    return tuple(found)


def _zero(values: list[float]) -> tuple[float, float]:
    """The value that most bands have, taken as no pattern, and how far those that agree are apart."""
    if len(values) < 3:
        return 0.0, 0.0
    zero = float(half_sample_mode(np.array(values)))
    away = np.sort(np.abs(np.array(values) - zero))
    return zero, float(away[1])


def _centred(plane: F8) -> F8:
    """Without its mean and slow change, a cubic: the lamp may have another shape in each band."""
    y, x = (np.linspace(-1.0, 1.0, n) for n in plane.shape)
    good = np.isfinite(plane)
    powers = [(i, n - i) for n in range(4) for i in range(n + 1)]
    terms = np.array([(y**i)[:, np.newaxis] * (x**j)[np.newaxis, :] for i, j in powers])
    inside = terms[:, good]
    fit = np.linalg.solve(inside @ inside.T, inside @ plane[good])
    return np.asarray(plane - np.tensordot(fit, terms, axes=(0, 0)), np.float64)


def _smoothed(plane: F8) -> F8:
    good = np.isfinite(plane)
    share = gaussian_filter(good.astype(np.float64), WIDTH)
    return np.where(
        good, gaussian_filter(np.where(good, plane, 0.0), WIDTH) / np.maximum(share, 1e-6), math.nan
    )


def _quietest(maps: Mapping[str, F8], windows: tuple[Section, ...]) -> str:
    """The band that differs least from all others: what is common cancels, and most bands are alike."""
    bands = list(maps)
    if len(bands) == 2:
        power = {b: mean_and_sigma(products(p := _centred(maps[b]), p, windows))[0] for b in bands}
        return min(bands, key=lambda b: power[b])
    apart = {
        b: np.median(
            [
                mean_and_sigma(products(d := _centred(maps[b] - maps[o]), d, windows))[0]
                for o in bands
                if o != b
            ]
        )
        for b in bands
    }
    return min(bands, key=lambda b: float(apart[b]))


def _regress(
    differences: Mapping[str, F8], templates: list[str], windows: tuple[Section, ...], reference: str
) -> tuple[dict[str, F8], dict[str, F8]]:
    """Coefficients of the templates in each band (the reference has zero), and their sigmas from blocks."""
    n = len(templates)
    coefficients, sigmas = {reference: np.zeros(n)}, {reference: np.zeros(n)}
    if not n:
        return coefficients, sigmas
    inner = np.array(
        [[products(differences[i], differences[j], windows) for j in templates] for i in templates]
    )
    for band, plane in differences.items():
        cross = np.array([products(differences[i], plane, windows) for i in templates])
        whole = np.linalg.solve(inner[:, :, 0].sum(axis=-1), cross[:, 0].sum(axis=-1))
        count = inner.shape[-1]
        trials = [
            np.linalg.solve(
                inner[:, :, 0].sum(axis=-1) - inner[:, :, 0, k], cross[:, 0].sum(axis=-1) - cross[:, 0, k]
            )
            for k in range(count)
            if cross[0, 1, k] > 0
        ]
        coefficients[band] = whole
        sigmas[band] = np.sqrt(
            (len(trials) - 1) / len(trials) * np.sum((np.array(trials) - whole) ** 2, axis=0)
        )
    return coefficients, sigmas
