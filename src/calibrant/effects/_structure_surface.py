"""What changes slowly: the light over the focal plane, and the roll-off at the edges of the detectors.

The light is round, about an axis that may be off the middle, plus a plane: a polynomial over the focal plane
in ln of the response, the same for all detectors of a band, with a free level for each amplifier. Its shape
comes from the slopes within amplifiers, so that gains cannot enter it. Uncertainties come from the scatter
between blocks of a quarter of an amplifier (a sandwich estimator): other structure is correlated within them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from calibrant.effects._structure_digest import Digest
from calibrant.instrument.sections import Section
from calibrant.stats import clipped_stats, mad_std

F8 = NDArray[np.float64]
SAMPLES = 4  # blocks of an amplifier
MARGIN = 0.05  # of the shorter side, left out at the edges of a detector
CLIP = 3.5


@dataclass(frozen=True, eq=False)
class Surface:
    """The light over the detectors of a band.

    Attributes
    ----------
    middle, half : tuple of float
        Of the area that is covered: the polynomial is in (place - middle) / half.
    coefficients, covariance : array
    offsets : mapping
        Detector -> ln level of each amplifier.
    loss, sigma : float
        Between the brightest and the faintest place, relative.
    brightest, faintest : tuple of float
        Row, column on the focal plane.
    significance : float
    """

    middle: tuple[float, float]
    half: float
    coefficients: F8
    covariance: F8
    offsets: Mapping[str, F8]
    loss: float
    sigma: float
    brightest: tuple[float, float]
    faintest: tuple[float, float]
    significance: float

    def at(self, row: F8, col: F8) -> F8:
        """ln of the light at places of the focal plane (lengths), zero in the middle."""
        return np.asarray(np.tensordot(self.coefficients, _terms(self, row, col), axes=(0, 0)), np.float64)


def _terms(surface: Surface | tuple[tuple[float, float], float], row: F8, col: F8) -> F8:
    middle, half = surface if isinstance(surface, tuple) else (surface.middle, surface.half)
    y, x = (row - middle[0]) / half, (col - middle[1]) / half
    r2 = y * y + x * x
    # A round loss about an axis nearby, and a plane: an axis off the middle looks like a plane and coma.
    return np.array([y, x, r2, y * r2, x * r2, r2 * r2])


def places(digest: Digest, alone: bool) -> tuple[F8, F8]:
    """Rows (R, 1) and columns (1, C) of the cells on the focal plane; of the detector if it is alone."""
    origin = (0.0, 0.0) if alone or digest.geometry.origin is None else digest.geometry.origin
    return digest.row[:, np.newaxis] + origin[0], digest.col[np.newaxis, :] + origin[1]


def inner(digest: Digest, margin: float = MARGIN) -> NDArray[np.bool_]:
    """Cells that are not close to the edge of the detector."""
    rows, cols = digest.geometry.extent
    near = margin * min(rows, cols)
    inside_rows = np.minimum(digest.row, rows - digest.row) > near
    inside_cols = np.minimum(digest.col, cols - digest.col) > near
    return inside_rows[:, np.newaxis] & inside_cols[np.newaxis, :]


def blocks(windows: Sequence[Section], parts: int = SAMPLES) -> Iterator[tuple[int, Section]]:
    """Amplifier and cells of each block."""
    for index, (rows, cols) in enumerate(windows):
        for part in np.array_split(np.arange(rows.start, rows.stop), parts):
            if part.size:
                yield index, (slice(int(part[0]), int(part[-1]) + 1), cols)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Every second cell of all detectors of a band: ln response, terms, and what they belong to."""

    value: F8
    terms: F8
    place: F8
    amplifier: NDArray[np.intp]
    block: NDArray[np.intp]

    def kept(self, use: NDArray[np.bool_]) -> _Sample:
        return _Sample(
            self.value[use],
            self.terms[:, use],
            self.place[:, use],
            self.amplifier[use],
            self.block[use],
        )

    def without_means(self) -> tuple[F8, F8]:
        """Values and terms less their means in each amplifier."""
        count = np.maximum(np.bincount(self.amplifier), 1)

        def less(values: F8) -> F8:
            return values - (np.bincount(self.amplifier, values) / count)[self.amplifier]

        return less(self.value), np.array([less(term) for term in self.terms])

    def fit(self) -> tuple[F8, F8]:
        """Coefficients and their covariance, amplifiers' levels eliminated."""
        y, x = self.without_means()
        inverse = np.linalg.pinv(x @ x.T, hermitian=True, rcond=1e-10)
        fit = inverse @ (x @ y)
        rest = y - fit @ x
        bits = np.array([np.bincount(self.block, term * rest) for term in x])
        groups = np.unique(self.block).size
        # Blocks that a few parameters were fitted to scatter too little about the fit.
        few = groups / max(1.0, groups - len(fit))
        return np.asarray(fit), np.asarray(inverse @ (bits @ bits.T) @ inverse * few)


def surface(digests: Sequence[Digest], masks: Mapping[str, NDArray[np.bool_]]) -> Surface:
    """Fit the light of one band.

    Parameters
    ----------
    digests : sequence of Digest
        One for each detector.
    masks : mapping
        Detector -> (R, C), True where a shadow lies.
    """
    alone = any(d.geometry.origin is None for d in digests)
    corners = np.array(
        [(*(p.min() for p in places(d, alone)), *(p.max() for p in places(d, alone))) for d in digests]
    )
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    frame = ((float(low[0] + high[0]) / 2, float(low[1] + high[1]) / 2), float(np.max(high - low)) / 2)
    everything = _sample(digests, masks, frame, alone)
    sample = everything
    for _ in range(3):
        coefficients, covariance = sample.fit()
        y, x = sample.without_means()
        rest = y - coefficients @ x
        sample = sample.kept(np.abs(rest) <= CLIP * mad_std(rest))
    offsets = _offsets(sample, coefficients, digests)
    return _described(frame, coefficients, covariance, offsets, everything)


def _sample(
    digests: Sequence[Digest],
    masks: Mapping[str, NDArray[np.bool_]],
    frame: tuple[tuple[float, float], float],
    alone: bool,
) -> _Sample:
    parts = []
    amps = groups = 0
    for d in digests:
        amplifier, block = (np.full(d.map.shape, -1, np.intp) for _ in range(2))
        for number, (index, at) in enumerate(blocks(d.windows)):
            amplifier[at], block[at] = amps + index, groups + number
        good = inner(d) & np.isfinite(d.map) & (amplifier >= 0)
        if d.detector in masks:
            good &= ~masks[d.detector]
        good[1::2] = False
        good[:, 1::2] = False
        place = np.array([p[good] for p in np.broadcast_arrays(*places(d, alone))])
        terms = _terms(frame, place[0], place[1])
        parts.append((d.map[good], terms, place, amplifier[good], block[good]))
        amps, groups = amps + len(d.windows), groups + SAMPLES * len(d.windows)
    return _Sample(*(np.concatenate(columns, axis=-1) for columns in zip(*parts, strict=True)))


def _offsets(sample: _Sample, fit: F8, digests: Sequence[Digest]) -> dict[str, F8]:
    """ln level of each amplifier, NaN where it has no cell."""
    total = sum(len(d.windows) for d in digests)
    count = np.bincount(sample.amplifier, minlength=total)
    rest = np.bincount(sample.amplifier, sample.value - fit @ sample.terms, minlength=total)
    levels = np.where(count > 0, rest / np.maximum(count, 1), math.nan)
    ends = np.cumsum([len(d.windows) for d in digests])[:-1]
    return {d.detector: part for d, part in zip(digests, np.split(levels, ends), strict=True)}


def by_amplifier(digest: Digest, values: F8) -> F8:
    """One value per amplifier as a plane of cells."""
    plane = np.full(digest.map.shape, math.nan)
    for at, value in zip(digest.windows, values, strict=True):
        plane[at] = value
    return plane


def _described(
    frame: tuple[tuple[float, float], float],
    fit: F8,
    covariance: F8,
    offsets: Mapping[str, F8],
    everything: _Sample,
) -> Surface:
    level = fit @ everything.terms
    top, bottom = int(np.argmax(level)), int(np.argmin(level))
    span = everything.terms[:, top] - everything.terms[:, bottom]
    fall, sigma = float(fit @ span), math.sqrt(max(0.0, float(span @ covariance @ span)))
    groups = np.unique(everything.block).size
    chi2 = float(fit @ np.linalg.pinv(covariance, hermitian=True, rcond=1e-12) @ fit)
    significance = normal_sigmas(chi2 * max(0.05, 1.0 - len(fit) / groups), len(fit))
    brightest, faintest = (everything.place[:, index].tolist() for index in (top, bottom))
    return Surface(
        middle=frame[0],
        half=frame[1],
        coefficients=fit,
        covariance=covariance,
        offsets=offsets,
        loss=1.0 - math.exp(-fall),
        sigma=sigma * math.exp(-fall),
        brightest=(brightest[0], brightest[1]),
        faintest=(faintest[0], faintest[1]),
        significance=significance,
    )


def normal_sigmas(chi2: float, freedom: int) -> float:
    """Sigmas of a normal distribution for a chi2, by the cube root of Wilson and Hilferty (1931)."""
    spread = 2.0 / (9.0 * freedom)
    return (float(np.cbrt(chi2 / freedom)) - (1.0 - spread)) / math.sqrt(spread)


def residual(digest: Digest, light: Surface, edges: Roll | None, alone: bool) -> F8:
    """The map without the light, the levels of its amplifiers, and the roll-off, ln, (R, C)."""
    row, col = np.broadcast_arrays(*places(digest, alone))
    rest = digest.map - light.at(row, col) - by_amplifier(digest, light.offsets[digest.detector])
    if edges is None:
        return rest
    rows, cols = digest.geometry.extent
    inside = np.minimum(
        np.minimum(digest.row, rows - digest.row)[:, np.newaxis],
        np.minimum(digest.col, cols - digest.col)[np.newaxis, :],
    )
    shape = np.clip(1.0 - edges.amplitude * np.exp(-inside / edges.scale), 1e-3, None)
    return np.asarray(rest - np.log(shape), np.float64)


@dataclass(frozen=True)
class Roll:
    """Roll-off at the edges of a detector: ``1 - amplitude * exp(-distance / scale)``.

    Attributes
    ----------
    amplitude, sigma : float
        Loss at the very edge, relative.
    scale : float
        Length.
    distance, level, error : array
        The mean profile of the four edges, relative to the inside.
    """

    amplitude: float
    sigma: float
    scale: float
    distance: F8
    level: F8
    error: F8


def roll_off(digests: Sequence[Digest], light: Surface, alone: bool) -> dict[str, Roll]:
    """The roll-off of each detector of a band; its scale is one for all of them."""
    rests = {d.detector: _edge_rest(d, light, alone) for d in digests}
    mean = [_mean(rest)[0] for rest in rests.values()]
    distances = [d.edges.distance.mean(axis=0) for d in digests]
    reach = float(distances[0][-1])
    least = float(distances[0][0])

    def misfit(scale: float) -> float:
        total = 0.0
        for place, level in zip(distances, mean, strict=True):
            _, rest = _line(np.exp(-place / scale), level)
            total += rest
        return total

    trials = np.geomspace(2.0 * least, 0.4 * reach, 24)
    start = int(np.argmin([misfit(float(t)) for t in trials]))
    low, high = trials[max(0, start - 1)], trials[min(len(trials) - 1, start + 1)]
    scale = float(minimize_scalar(misfit, bounds=(float(low), float(high)), method="bounded").x)
    return {d.detector: _roll(rests[d.detector], d, scale) for d in digests}


def _edge_rest(digest: Digest, light: Surface, alone: bool) -> F8:
    """(blocks of all edges, n): response along the profiles, with light and amplifiers taken off."""
    edges, origin = digest.edges, (0.0, 0.0) if alone else (digest.geometry.origin or (0.0, 0.0))
    offsets = np.append(light.offsets[digest.detector], math.nan)[edges.amplifier]
    rest = edges.level - offsets[..., np.newaxis] - light.at(edges.row + origin[0], edges.col + origin[1])
    rest = rest[:, 1:-1]  # the corners have two edges
    return np.asarray(np.exp(rest.reshape(-1, rest.shape[-1])), np.float64)


def _mean(rest: F8) -> tuple[F8, F8]:
    """Clipped mean over the blocks, and its standard error, at each distance."""
    stats = [clipped_stats(rest[:, k], sigma=3.0) for k in range(rest.shape[1])]
    return np.array([s.mean for s in stats]), np.array([s.std / math.sqrt(max(1, s.n - 1)) for s in stats])


def _line(shape: F8, level: F8) -> tuple[F8, float]:
    """Inside level and loss of ``inside * (1 - loss * shape)``, and the sum of squares that is left."""
    good = np.isfinite(level)
    matrix = np.stack([np.ones(good.sum()), -shape[good]], axis=1)
    fit = np.linalg.lstsq(matrix, level[good], rcond=None)[0]
    return np.asarray(fit), float(np.sum((level[good] - matrix @ fit) ** 2))


def _roll(rest: F8, digest: Digest, scale: float) -> Roll:
    per_edge = rest.shape[0] // 4
    losses = []
    for index, profile in enumerate(rest):
        place = digest.edges.distance[index // per_edge]
        if 2 * np.isfinite(profile).sum() > profile.size:
            fit, _ = _line(np.exp(-place / scale), profile)
            losses.append(fit[1] / fit[0])
    kept = clipped_stats(np.array(losses), sigma=3.5)
    level, error = _mean(rest)
    inside = _line(np.exp(-digest.edges.distance.mean(axis=0) / scale), level)[0][0]
    return Roll(
        kept.mean, kept.std / math.sqrt(max(1, kept.n - 1)), scale, digest.edges.distance.mean(axis=0),
        level / inside, error / inside,
    )  # fmt: skip
