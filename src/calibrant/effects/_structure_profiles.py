"""Profiles for plots: level against places on the detector and on the focal plane."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import _structure_surface as surfaces
from calibrant.effects._structure_digest import Digest
from calibrant.effects._structure_search import Search

F8 = NDArray[np.float64]
POINTS = 72  # of a profile along rows, columns or the radius
Line = tuple[str, str, str, F8, F8, F8]


def table(search: Search, unit: str) -> dict[str, NDArray[np.generic]]:
    """The table ``profiles``: detector, band, axis, position, unit, level [%], sigma [%].

    Levels are per cent above or below what the profile refers to; amplifiers have had their levels equalised.
    """
    columns: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("detector", "band", "axis", "position", "unit", "level", "sigma")
    }
    for detector, band, axis, position, level, sigma in _lines(search):
        good = np.isfinite(level)
        texts = {"detector": detector, "band": band, "axis": axis, "unit": unit}
        numbers = {"position": position, "level": 100.0 * level, "sigma": 100.0 * sigma}
        for name, text in texts.items():
            columns[name].append(np.full(int(good.sum()), text))
        for name, values in numbers.items():
            columns[name].append(values[good])
    return {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in columns.items()}


def _lines(search: Search) -> Iterator[Line]:
    for d in search.digests:
        light = search.lights[d.band]
        levelled = d.map - surfaces.by_amplifier(d, light.offsets[d.detector])
        for axis, places in (("row", d.row), ("column", d.col)):
            across = np.broadcast_to(
                places[:, np.newaxis] if axis == "row" else places[np.newaxis, :], levelled.shape
            )
            yield (d.detector, d.band, axis, *_binned(across, levelled, d.noise))
        if not search.alone:
            row, col = surfaces.places(d, False)
            radius = np.hypot(row - light.brightest[0], col - light.brightest[1])
            inner = surfaces.inner(d)
            yield (
                d.detector,
                d.band,
                "focal-plane radius",
                *_binned(radius, np.where(inner, levelled, math.nan), d.noise),
            )
        yield from _small(search, d)


def _small(search: Search, d: Digest) -> Iterator[Line]:
    roll = search.rolls[d.band][d.detector]
    yield d.detector, d.band, "edge distance", roll.distance, roll.level - 1.0, roll.error
    ring = search.found_rings[d.detector]
    if search.ringed(d.detector, d.band):
        yield d.detector, d.band, "ring radius", ring.radius, ring.profile[d.band], ring.error[d.band]


def _binned(place: F8, level: F8, noise: F8) -> tuple[F8, F8, F8]:
    """Means of place and level in bins of place, and the standard error of the level."""
    good = np.isfinite(level)
    if not good.any():
        return np.zeros(0), np.zeros(0), np.zeros(0)
    values, where, error = level[good], place[good], noise[good]
    edges = np.linspace(where.min(), where.max() * (1 + 1e-12) + 1e-12, POINTS + 1)
    index = np.clip(np.digitize(where, edges) - 1, 0, POINTS - 1)
    count = np.bincount(index, minlength=POINTS)
    some = np.maximum(count, 1)
    mean = np.bincount(index, values, minlength=POINTS) / some
    middle = np.bincount(index, where, minlength=POINTS) / some
    sigma = np.sqrt(np.bincount(index, error**2, minlength=POINTS)) / some
    return middle, np.where(count > 0, mean, math.nan), sigma
