"""Tree rings: circles about a point of the silicon ingot, in general beyond a corner of the detector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.stats import mad_std

F8 = NDArray[np.float64]
COARSE = 4  # cells: of the first search
FARTHEST = 1.7  # half sides from the middle within which the centre is looked for
NEAREST = 0.16  # of the longer side: closer to a centre circles may be the halo of a shadow
CHOSEN = 2.5  # sigmas that the best of thousands of centres has for one of a fixed centre
CLIP = 3.0  # of the widths of the map, for the search
SECTORS = 16  # of equal numbers of cells, that must agree


@dataclass(frozen=True, eq=False)
class Rings:
    """Circles.

    Attributes
    ----------
    row, col : float
        Centre, lengths from the lower left corner of the detector.
    significance : float
        How well sectors agree.
    period : float
        Typical distance between rings, length.
    radius : array
        Middle of the bins, lengths.
    mean : array
        ln of the response along the radius, in the mean of the bands.
    profile, error : mapping of band to array
        The same in each band, and its standard error.
    strength : mapping of band to tuple
        Rings of the band in units of those in the mean, and the sigma of that.
    amplitude, sigma : mapping of band to float
        rms over the detector, relative. That of the mean is from products of different sectors: noise does
        not add to it.
    """

    row: float
    col: float
    significance: float
    period: float
    radius: F8
    mean: F8
    profile: Mapping[str, F8]
    error: Mapping[str, F8]
    strength: Mapping[str, tuple[float, float]]
    amplitude: Mapping[str, float]
    sigma: Mapping[str, float]

    def in_band(self, band: str) -> float:
        """Sigmas of the strength in a band."""
        strength, sigma = self.strength[band]
        return abs(strength) / sigma if sigma > 0 else 0.0

    def plane(self, band: str, row: F8, col: F8) -> F8:
        """The rings of a band at places (R,), (C,)."""
        distance = np.hypot(row[:, np.newaxis] - self.row, col[np.newaxis, :] - self.col)
        good = np.isfinite(self.mean)
        return self.strength[band][0] * np.interp(distance, self.radius[good], self.mean[good])


def rings(mean: F8, bands: Mapping[str, F8], row: F8, col: F8) -> Rings:
    """Find the centre in the mean of the bands, and measure the rings in each of them.

    Parameters
    ----------
    mean : array
        (R, C), ln of the response without what is known, slow changes taken away; NaN where nothing is.
    bands : mapping of str to array
        The same in each band.
    row, col : array
        (R,), (C,): places of the cells, lengths.
    """
    width = CLIP * mad_std(mean[np.isfinite(mean)])
    centre = _centre(np.clip(mean, -width, width), row, col)  # a shadow is not to count
    step = max(float(np.diff(row).mean()), float(np.diff(col).mean()))
    sector, index, radius = _sectors(mean, row, col, centre, step)
    products = {band: _Products.of(plane, sector, index, radius.size) for band, plane in bands.items()}
    whole = _Products.of(mean, sector, index, radius.size)
    strength = {band: found.against(whole.profile) for band, found in products.items()}
    rms, error = whole.amplitude
    return Rings(
        row=centre[0],
        col=centre[1],
        significance=whole.significance,
        period=_period(whole.profile, step),
        radius=radius,
        mean=whole.profile,
        profile={band: found.profile for band, found in products.items()},
        error={band: found.error for band, found in products.items()},
        strength=strength,
        amplitude={band: c * rms for band, (c, _) in strength.items()},
        sigma={band: math.hypot(c * error, sigma * rms) for band, (c, sigma) in strength.items()},
    )


def _centre(plane: F8, row: F8, col: F8) -> tuple[float, float]:
    """The point about which the means of circles vary most: a coarse grid, then finer ones."""
    good = np.isfinite(plane)
    binned = [_binned(p, COARSE) for p in (np.where(good, plane, 0.0), good.astype(np.float64))]
    places = [_binned_axis(axis, COARSE) for axis in (row, col)]
    y, x = np.broadcast_arrays(places[0][:, np.newaxis], places[1][np.newaxis, :])
    enough = binned[1] > 0.5
    values, y, x = binned[0][enough] / binned[1][enough], y[enough], x[enough]
    step = COARSE * float(np.diff(row).mean())
    middle = (0.5 * (row[0] + row[-1]), 0.5 * (col[0] + col[-1]))
    nearest = NEAREST * max(row[-1] - row[0], col[-1] - col[0])
    half = 0.5 * max(row[-1] - row[0], col[-1] - col[0]) * FARTHEST
    grid = np.arange(-half, half + step, 1.5 * step)
    best = _best(values, y, x, [(middle[0] + a, middle[1] + b) for a in grid for b in grid], step, nearest)
    y, x = np.broadcast_arrays(row[:, np.newaxis], col[np.newaxis, :])
    values, y, x = plane[good], y[good], x[good]
    for fine in (0.4 * step, 0.15 * step, 0.05 * step):
        around = np.arange(-3, 4) * fine
        best = _best(
            values, y, x, [(best[0] + a, best[1] + b) for a in around for b in around], 0.3 * step, nearest
        )
    return best


def _binned(plane: F8, factor: int) -> F8:
    rows, cols = (size // factor * factor for size in plane.shape)
    parts = plane[:rows, :cols].reshape(rows // factor, factor, cols // factor, factor)
    return np.asarray(parts.mean(axis=(1, 3)), np.float64)


def _binned_axis(axis: F8, factor: int) -> F8:
    size = axis.size // factor * factor
    return np.asarray(axis[:size].reshape(-1, factor).mean(axis=1), np.float64)


def _best(
    values: F8, y: F8, x: F8, centres: list[tuple[float, float]], step: float, nearest: float
) -> tuple[float, float]:
    found, most = centres[0], -math.inf
    first = int(nearest / step)
    y, x = y / step, x / step
    for centre in centres:
        down, right = y - centre[0] / step, x - centre[1] / step
        down *= down  # in place: thousands of centres are tried
        right *= right
        down += right
        index = np.sqrt(down, out=down).astype(np.intp)
        count = np.bincount(index)
        total = np.bincount(index, values)
        power = float(np.sum(total[first:] ** 2 / np.maximum(count[first:], 1)))
        if power > most:
            found, most = centre, power
    return found


def _sectors(
    plane: F8, row: F8, col: F8, centre: tuple[float, float], step: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], F8]:
    """Sector and radial bin of each cell (-1 where nothing is known), and the middles of the bins."""
    y, x = row[:, np.newaxis] - centre[0], col[np.newaxis, :] - centre[1]
    distance = np.hypot(y, x)
    good = np.isfinite(plane) & (distance > NEAREST * max(row[-1] - row[0], col[-1] - col[0]))
    first = float(distance[good].min())
    index = ((distance - first) / step).astype(np.intp)
    # Angles from the direction to the middle: a centre outside sees the detector within half a turn.
    towards = math.atan2(float(y.mean()), float(x.mean()))
    angle = (np.arctan2(y, x) - towards + math.pi) % (2.0 * math.pi)
    limits = np.quantile(angle[good], np.linspace(0.0, 1.0, SECTORS + 1)[1:-1])
    sector = np.where(good, np.searchsorted(limits, angle), -1)
    radius = first + (np.arange(int(index[good].max()) + 1) + 0.5) * step
    return sector.astype(np.intp), np.where(good, index, 0).astype(np.intp), np.asarray(radius, np.float64)


@dataclass(frozen=True, eq=False)
class _Products:
    """Profiles of the sectors of one map, and what their products give."""

    profile: F8
    error: F8
    amplitude: tuple[float, float]
    significance: float
    sectors: F8
    count: F8

    def against(self, profile: F8) -> tuple[float, float]:
        """Factor of a profile that is in the sectors, and its sigma with each sector left out in turn."""
        shape = np.where(np.isfinite(profile), profile, 0.0)
        cross = np.sum(self.count * self.sectors * shape, axis=1)
        square = np.sum(self.count * shape**2, axis=1)
        if square.sum() <= 0:
            return 0.0, 0.0
        whole = float(cross.sum() / square.sum())
        others = (cross.sum() - cross) / np.maximum(square.sum() - square, 1e-300)
        return whole, math.sqrt((SECTORS - 1) / SECTORS * float(np.sum((others - whole) ** 2)))

    @classmethod
    def of(cls, plane: F8, sector: NDArray[np.intp], index: NDArray[np.intp], n: int) -> _Products:
        use = (sector >= 0) & np.isfinite(plane)
        place = sector[use] * n + index[use]
        count = np.bincount(place, minlength=SECTORS * n).reshape(SECTORS, n).astype(np.float64)
        total = np.bincount(place, plane[use], minlength=SECTORS * n).reshape(SECTORS, n).astype(np.float64)
        mean = total / np.maximum(count, 1.0)
        whole = count.sum(axis=0)
        profile = np.where(whole > 0, total.sum(axis=0) / np.maximum(whole, 1.0), math.nan)
        scatter = np.where(count > 0, (mean - profile) ** 2 * count, 0.0).sum(axis=0)
        error = np.sqrt(scatter / np.maximum(whole, 1.0) / np.maximum((count > 0).sum(axis=0) - 1, 1))
        squares = [
            _mean_product(mean, count, [k for k in range(SECTORS) if k != out]) for out in range(SECTORS)
        ]
        square = _mean_product(mean, count, list(range(SECTORS)))
        spread = math.sqrt((SECTORS - 1) / SECTORS * float(np.sum((np.array(squares) - square) ** 2)))
        amplitude = math.sqrt(max(square, 0.0))
        sigma = spread / (2.0 * amplitude) if amplitude > 0 else math.nan
        return cls(profile, error, (amplitude, sigma), _agreement(total, count) / CHOSEN, mean, count)


def _agreement(total: F8, count: F8) -> float:
    """Sigmas by which sectors have the profile of the others: its factor in them, and the scatter of that."""
    rest = (total.sum(axis=0) - total) / np.maximum(count.sum(axis=0) - count, 1.0)
    cross, square = np.sum(total * rest, axis=1), np.sum(count * rest**2, axis=1)
    if square.sum() <= 0:
        return 0.0
    factor = float(cross.sum() / square.sum())
    scatter = math.sqrt(float(np.sum((cross - factor * square) ** 2)) * SECTORS / (SECTORS - 1))
    return factor * float(square.sum()) / scatter if scatter > 0 else 0.0


def _mean_product(mean: F8, count: F8, sectors: list[int]) -> float:
    """Mean over radii and pairs of different sectors of the product of their profiles."""
    total = weight = 0.0
    for k, i in enumerate(sectors):
        for j in sectors[k + 1 :]:
            both = count[i] * count[j] / np.maximum(count[i] + count[j], 1.0)
            total += float(both @ (mean[i] * mean[j]))
            weight += float(both.sum())
    return total / weight if weight > 0 else 0.0


def _period(profile: F8, step: float) -> float:
    """Centre of gravity of the power spectrum of a profile, as a length."""
    values = np.where(np.isfinite(profile), profile, 0.0)
    power = np.abs(np.fft.rfft(values * np.hanning(values.size))) ** 2
    frequency = np.fft.rfftfreq(values.size, step)
    return float(power[2:].sum() / (power[2:] @ frequency[2:])) if power[2:].sum() > 0 else math.nan
