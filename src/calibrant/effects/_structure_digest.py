"""What the inventory keeps of a flat: its logarithm in cells, steps of amplifiers, edges, columns, lines.

A flat is the product of many structures, so its logarithm is their sum. What needs single pixels is measured
here, from one flat at a time; the rest works on a map of about 288 x 288 cells, at every size of a detector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from calibrant.effects._interfaces import Levels, interfaces, solve
from calibrant.effects._structure_geometry import Geometry
from calibrant.effects._structure_lines import Column, Peak, columns, periods
from calibrant.frame import DQ
from calibrant.instrument.sections import Section
from calibrant.product import Product
from calibrant.stats import mad_std

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
CELLS = 288  # along the longer side
OUTLIER = 5.0  # sigmas from the neighbours beyond which a pixel is not part of a cell
EDGE = 0.06  # of the shorter side: how far the profiles of the edges reach
EDGE_BLOCKS = 16  # along each edge


@dataclass(frozen=True, eq=False)
class Edges:
    """Profiles from the four edges inwards, in blocks along them.

    Attributes
    ----------
    distance : array
        (4, n): from the edge to the middle of each pixel; lower, upper, left, right edge.
    level : array
        (4, blocks, n): ln of the response.
    row, col : array
        (4, blocks, n): where the pixels lie, from the lower left corner.
    amplifier : array of int
        (4, blocks): the amplifier of the block, -1 where a border runs through it.
    """

    distance: F8
    level: F8
    row: F8
    col: F8
    amplifier: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Pixels:
    """Scatter from pixel to pixel in each amplifier, ln: seen, stated by the flat's variance, pixels."""

    seen: F8
    stated: F8
    count: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Digest:
    """One flat.

    Attributes
    ----------
    map : array
        (R, C), float64: ln of the response in cells; NaN where there is none.
    noise : array
        (R, C): standard error of it from pixel to pixel.
    row, col : array
        (R,), (C,): middle of the cells from the lower left corner, lengths.
    windows : tuple of Section
        The amplifiers' cells.
    """

    detector: str
    band: str
    level: float
    geometry: Geometry
    identity: str
    map: F8
    noise: F8
    row: F8
    col: F8
    windows: tuple[Section, ...]
    levels: Levels
    pixels: Pixels
    edges: Edges
    columns: tuple[Column, ...]
    peaks: tuple[Peak, ...]


def digest(flat: Product, geometry: Geometry, band: str, threshold: float) -> Digest:
    """Reduce a flat.

    Parameters
    ----------
    flat : Product
        Kind flat: planes data, dq, variance and systematic where known.
    geometry : Geometry
    band : str
    threshold : float
        Sigmas for columns and lines.
    """
    log, held = _logarithm(flat)
    near = np.empty_like(log)
    scatter, stated, count = (np.zeros(len(geometry.amplifiers)) for _ in range(3))
    variance = _variance(flat)
    for index, amp in enumerate(geometry.amplifiers):
        own = log[amp.window]
        near[amp.window] = _beside(own)
        scatter[index], count[index] = _pixel_scatter(own)
        if variance is not None:
            stated[index] = math.sqrt(float(np.nanmean(variance[amp.window])))
    clean = _without_outliers(log, near, held, scatter, geometry)
    row_edges, col_edges, windows = _grid(geometry)
    cells, noise = _cells(clean, scatter, geometry, row_edges, col_edges, windows)
    steps = interfaces(clean, [amp.window for amp in geometry.amplifiers])
    level = next((q.value for q in flat if q.name == "level"), math.nan)
    return Digest(
        detector=str(flat.keys.get("detector", "")),
        band=band,
        level=float(level),
        geometry=geometry,
        identity=flat.identity,
        map=cells,
        noise=noise,
        row=_middles(row_edges) * geometry.pitch[0],
        col=_middles(col_edges) * geometry.pitch[1],
        windows=windows,
        levels=solve(steps, len(geometry.amplifiers)),
        pixels=Pixels(scatter, stated if variance is not None else np.full_like(stated, np.nan), _int(count)),
        edges=_edges(clean, geometry),
        columns=columns(log, geometry.amplifiers, scatter, threshold),
        peaks=periods(clean, geometry.amplifiers, threshold),
    )


def _int(values: F8) -> NDArray[np.intp]:
    return values.astype(np.intp)


def _logarithm(flat: Product) -> tuple[F4, NDArray[np.bool_]]:
    """ln of the response, NaN where there is none; and where it is only a limit (unlit pixels)."""
    data = np.asarray(flat.data, np.float32)
    dq = np.asarray(flat.planes.get("dq", np.zeros(data.shape, np.uint32)), np.uint32)
    with np.errstate(invalid="ignore", divide="ignore"):
        log = np.where((data > 0) & ((dq & np.uint32(DQ.DO_NOT_USE)) == 0), np.log(data), np.nan)
    return log.astype(np.float32), (dq & np.uint32(DQ.UNRELIABLE_FLAT | DQ.SATURATED)) != 0


def _variance(flat: Product) -> F4 | None:
    """Relative variance: from the frames, and of what was subtracted from all of them."""
    parts = [flat.planes.get("variance", flat.planes.get("propagated")), flat.planes.get("systematic")]
    if parts[0] is None:
        return None
    total = sum(np.asarray(part, np.float32) for part in parts if part is not None)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / np.square(np.asarray(flat.data, np.float32)), np.float32)


def _beside(own: F4) -> F4:
    """Median of each pixel with three on either side in its row: single columns and pixels do not count.

    Mirrored at the ends of the amplifier: repeated, the outermost pixel would be its own median.
    """
    filled = np.where(np.isfinite(own), own, np.nanmedian(own) if np.isfinite(own).any() else 0.0)
    return np.asarray(median_filter(filled, size=(1, 7), mode="mirror"), np.float32)


def _pixel_scatter(own: F4) -> tuple[float, int]:
    """Scatter and number of single pixels, by second differences on both axes: smooth structure has none."""
    wave = own[:-2] - 2.0 * own[1:-1] + own[2:]
    wave = wave[:, :-2] - 2.0 * wave[:, 1:-1] + wave[:, 2:]
    values = wave[np.isfinite(wave)]
    return (float(mad_std(values)) / 6.0, values.size) if values.size else (math.nan, 0)


def _width(values: F4) -> float:
    good = values[np.isfinite(values)]
    return float(mad_std(good)) if good.size else 0.0


def _without_outliers(log: F4, near: F4, held: NDArray[np.bool_], scatter: F8, geometry: Geometry) -> F4:
    clean = np.where(held, np.float32(np.nan), log)
    for index, amp in enumerate(geometry.amplifiers):
        own = clean[amp.window]
        with np.errstate(invalid="ignore"):
            away = np.abs(own - near[amp.window])
            # The median of the neighbours may lie on a slope: its own scatter counts too.
            own[away > OUTLIER * max(scatter[index], _width(away))] = np.nan
    return np.asarray(clean, np.float32)


def _grid(geometry: Geometry) -> tuple[NDArray[np.intp], NDArray[np.intp], tuple[Section, ...]]:
    """First pixel of each row and column of cells, with the end; no cell lies in two amplifiers."""
    size = max(1, round(max(geometry.shape) / CELLS))
    edges = []
    for axis in (0, 1):
        cuts = sorted(
            {end for amp in geometry.amplifiers for end in (amp.window[axis].start, amp.window[axis].stop)}
        )
        parts = [
            np.round(np.linspace(low, high, max(1, round((high - low) / size)) + 1))[:-1]
            for low, high in pairwise(cuts)
        ]
        edges.append(np.append(np.concatenate(parts), cuts[-1]).astype(np.intp))
    windows = tuple(
        (
            slice(*np.searchsorted(edges[0], [amp.window[0].start, amp.window[0].stop])),
            slice(*np.searchsorted(edges[1], [amp.window[1].start, amp.window[1].stop])),
        )
        for amp in geometry.amplifiers
    )
    return edges[0], edges[1], windows


def _middles(edges: NDArray[np.intp]) -> F8:
    return 0.5 * (edges[:-1] + edges[1:]).astype(np.float64)


def _cells(
    clean: F4, scatter: F8, geometry: Geometry, row_edges: NDArray[np.intp], col_edges: NDArray[np.intp],
    windows: Sequence[Section],
) -> tuple[F8, F8]:  # fmt: skip
    """Mean of the good pixels of each cell; NaN where fewer than half are good."""
    good = np.isfinite(clean)

    def summed(plane: NDArray[np.floating]) -> F8:
        rows = np.add.reduceat(plane, row_edges[:-1], axis=0, dtype=np.float64)
        return np.asarray(np.add.reduceat(rows, col_edges[:-1], axis=1), np.float64)

    count = summed(good.astype(np.float32))
    total = summed(np.where(good, clean, np.float32(0.0)))
    size = np.diff(row_edges)[:, np.newaxis] * np.diff(col_edges)[np.newaxis, :]
    enough = 2 * count >= size
    with np.errstate(invalid="ignore", divide="ignore"):
        cells = np.where(enough, total / count, np.nan)
        noise = np.where(enough, 1.0 / np.sqrt(count), np.nan)
    for index, at in enumerate(windows):
        noise[at] *= scatter[index]
    return cells, noise


def _edges(clean: F4, geometry: Geometry) -> Edges:
    reach = max(4, round(EDGE * min(geometry.shape)))
    owner = np.full(geometry.shape, -1, np.int16)
    for index, amp in enumerate(geometry.amplifiers):
        owner[amp.window] = index
    distance, level, row, col, amplifier = [], [], [], [], []
    for axis, last in ((0, False), (0, True), (1, False), (1, True)):
        plane, owners = (clean, owner) if axis == 0 else (clean.T, owner.T)
        inwards = slice(None, None, -1 if last else 1)
        strip, belongs = plane[inwards][:reach], owners[inwards][:reach]
        blocks = np.array_split(np.arange(strip.shape[1]), EDGE_BLOCKS)
        level.append([_median_along(strip[:, block]) for block in blocks])
        ids = [set(belongs[:, block].ravel().tolist()) for block in blocks]
        amplifier.append([found.pop() if len(found) == 1 else -1 for found in ids])
        along = np.array([block.mean() for block in blocks])[:, np.newaxis]
        inward = np.arange(reach)[np.newaxis, :]
        inward = geometry.shape[axis] - 1 - inward if last else inward
        both = [np.broadcast_to(place, (len(blocks), reach)) for place in (inward, along)]
        here = both if axis == 0 else both[::-1]
        row.append((here[0] + 0.5) * geometry.pitch[0])
        col.append((here[1] + 0.5) * geometry.pitch[1])
        distance.append((np.arange(reach) + 0.5) * geometry.pitch[axis])
    return Edges(
        np.array(distance), np.array(level), np.array(row), np.array(col), np.array(amplifier, np.intp)
    )


def _median_along(part: F4) -> F8:
    """Mean of the finite values of each row, NaN where fewer than half are."""
    count = np.isfinite(part).sum(axis=1)
    mean = np.nansum(part, axis=1, dtype=np.float64) / np.maximum(count, 1)
    return np.where(2 * count >= part.shape[1], mean, np.nan)
