"""Shadows of dust: patches that are darker than the ring around them, alike in all bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, find_objects, gaussian_filter, label, uniform_filter
from scipy.signal import fftconvolve

from calibrant.stats import mad_std

F8 = NDArray[np.float64]
Mask = NDArray[np.bool_]
RADII = (3.0, 0.16, 9)  # smallest in cells, largest as a fraction of the map, how many
RING = (1.25, 1.8)  # radii of the surroundings in units of that of the patch
COVER = 0.4  # of patch and surroundings that must be seen
REACH = 1.3  # radii around a shadow that other structures leave out
SMOOTH = 0.08  # of the map: what changes more slowly is not looked for in the small
FAINTEST = 0.0015  # depth: what is shallower may be the error of an amplifier's level
TRIALS = 1.4  # so many more sigmas for what may lie anywhere, at any size


@dataclass(frozen=True)
class Shadow:
    """A dark patch, in cells of the map.

    Attributes
    ----------
    row, col, radius : float
    depth, sigma : float
        Mean loss within the radius against the surroundings, relative; sigma is what other structure of the
        map gives patches of this size.
    """

    row: float
    col: float
    radius: float
    depth: float
    sigma: float


def smooth_away(plane: F8) -> F8:
    """A map without what changes slowly; NaN stay."""
    good = np.isfinite(plane)
    width = SMOOTH * max(plane.shape)
    share, slow = good.astype(np.float64), np.where(good, plane, 0.0)
    for _ in range(3):  # three boxes are nearly a Gaussian, whatever their width costs
        share, slow = (uniform_filter(p, max(1, round(2.0 * width)), mode="nearest") for p in (share, slow))
    return np.where(good, plane - slow / np.maximum(share, 1e-6), math.nan)


def weighted_mean(planes: Mapping[str, F8]) -> F8:
    """Mean of the maps of several bands, those with little structure of their own counting most."""
    weights = {}
    for band, plane in planes.items():
        good = np.isfinite(plane)
        filled = gaussian_filter(np.where(good, plane, 0.0), 1.5)
        weights[band] = 1.0 / max(float(mad_std(filled[good])) ** 2 if good.any() else math.inf, 1e-12)
    total = sum(weights.values())
    mean = np.zeros(next(iter(planes.values())).shape)
    for band, plane in planes.items():
        mean = mean + weights[band] / total * plane
    return mean


def shadows(plane: F8, noise: F8, threshold: float) -> tuple[Shadow, ...]:
    """Find dark patches.

    Parameters
    ----------
    plane : array
        (R, C), ln of the response without all that is known; NaN where nothing is.
    noise : array
        (R, C): its standard error from pixel to pixel.
    threshold : float
        Sigmas.
    """
    good = np.isfinite(plane)
    filled, seen = np.where(good, plane, 0.0), good.astype(np.float64)
    white = float(np.nanmedian(noise))
    smallest, largest, number = RADII
    candidates = []
    for radius in np.geomspace(smallest, largest * max(plane.shape), number):
        depth, sigma = _contrast(filled, seen, float(radius), white)
        with np.errstate(invalid="ignore"):
            deep = np.argwhere(depth > max(TRIALS * threshold * sigma, FAINTEST))
        candidates += [(float(depth[r, c]) / sigma, float(r), float(c), float(radius)) for r, c in deep]
    # A large shadow with a bright middle is found in parts: those that touch are one.
    labels, _ = label(binary_fill_holes(_discs(plane.shape, _apart(candidates))))
    found = (_shadow(filled, seen, labels == k + 1, at, white) for k, at in enumerate(find_objects(labels)))
    return tuple(sorted(found, key=lambda shadow: -shadow.depth / shadow.sigma))


def _apart(candidates: list[tuple[float, float, float, float]]) -> list[tuple[float, float, float, float]]:
    """The most significant discs that do not overlap."""
    kept: list[tuple[float, float, float, float]] = []
    rest = np.array(sorted(candidates, reverse=True)).reshape(-1, 4)
    while rest.size:
        _, row, col, radius = best = tuple(rest[0].tolist())
        kept.append(best)
        rest = rest[np.hypot(rest[:, 1] - row, rest[:, 2] - col) > 0.8 * (radius + rest[:, 3])]
    return kept


def _discs(shape: tuple[int, ...], discs: list[tuple[float, float, float, float]]) -> Mask:
    mask = np.zeros(shape, bool)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for _, row, col, radius in discs:
        mask |= np.hypot(y - row, x - col) <= 1.1 * radius
    return mask


def _shadow(filled: F8, seen: F8, patch: Mask, at: tuple[slice, slice], white: float) -> Shadow:
    """A connected patch as a disc: a shadow that the edge cuts off is as wide as it is long."""
    sides = [axis.stop - axis.start for axis in at]
    radius = max(math.sqrt(float(patch.sum()) / math.pi), 0.5 * max(sides)) / 1.1
    row, col = (float(np.mean(place)) for place in np.nonzero(patch))
    depth, sigma = _contrast(filled, seen, radius, white)
    loss = float(depth[int(row), int(col)])
    if not math.isfinite(loss):  # the middle of a patch at the edge may not be seen
        loss = float(np.nanmax(np.where(patch, depth, math.nan))) if np.isfinite(depth[patch]).any() else 0.0
    return Shadow(row, col, radius, loss, sigma)


def _contrast(filled: F8, seen: F8, radius: float, white: float) -> tuple[F8, float]:
    """How much darker a patch is than its surroundings, at every place, and the sigma of that."""
    reach = math.ceil(RING[1] * radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    distance = np.hypot(y, x) / radius
    means = []
    variance = 0.0
    for kernel in (distance <= 1.0, (distance >= RING[0]) & (distance <= RING[1])):
        weight = kernel.astype(np.float64)
        count = fftconvolve(seen, weight, mode="same")
        total = fftconvolve(filled, weight, mode="same")
        means.append(np.where(count >= COVER * weight.sum(), total / np.maximum(count, 1.0), math.nan))
        variance += white**2 / weight.sum()
    depth = np.where(seen > 0, means[1] - means[0], math.nan)
    known = depth[np.isfinite(depth)]
    spread = float(mad_std(known)) if known.size else math.inf
    return depth, max(spread, math.sqrt(variance))


def covered(shape: tuple[int, int], found: Sequence[Shadow]) -> Mask:
    """Cells that the shadows cover, with a margin."""
    mask = np.zeros(shape, bool)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for shadow in found:
        mask |= np.hypot(y - shadow.row, x - shadow.col) <= REACH * shadow.radius
    return mask


def depth_in(plane: F8, shadow: Shadow) -> tuple[float, float]:
    """Depth of a known shadow in the map of one band, and its sigma there."""
    good = np.isfinite(plane)
    filled, seen = np.where(good, plane, 0.0), good.astype(np.float64)
    depth, sigma = _contrast(filled, seen, shadow.radius, 0.0)
    return float(depth[int(shadow.row), int(shadow.col)]), sigma
