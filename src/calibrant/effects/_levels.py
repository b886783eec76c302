"""Levels and noise of single frames, from a sample of their rows: what masters must know beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import ShapeError
from calibrant.frame import DQ
from calibrant.stack.pixel import PixelStep, PreparedSource
from calibrant.stack.source import Source, decode
from calibrant.stats import clip_factor, finite_median

SAMPLE = 1 << 20  # pixels: sets a level to 1e-3 of the pixel noise, and is all of a small detector
BAND = 16  # rows read together
CLIP = 4.0  # sigmas; wide enough that normal noise loses 0.05 % of its width only


@dataclass(frozen=True, eq=False)
class Spread:
    """Location and width of many values after clipping at `CLIP` sigma.

    Attributes
    ----------
    mean, std : float
        Of the values kept; `std` is corrected for the clip.
    median : float
        Of all values; between two integers it is interpolated, so it resolves less than one count.
    count : int
        Values kept.
    """

    mean: float
    std: float
    median: float
    count: int


def bands(shape: Sequence[int], pixels: int = SAMPLE) -> list[slice]:
    """Bands of rows, evenly spread, that hold about `pixels` pixels: all rows if the image is smaller."""
    rows, cols = shape[-2:]
    n = max(1, math.ceil(rows / BAND))
    wanted = max(1, min(n, round(pixels / (BAND * cols))))
    first = np.unique(np.round(np.linspace(0, n - 1, wanted)).astype(int)) * BAND
    return [slice(int(row), int(min(row + BAND, rows))) for row in first]


def read_sample(source: Source, rows: Sequence[slice]) -> NDArray[Any]:
    """The bands `rows` of a source, decoded, one below the other: integers, or floats with NaN where flagged.

    Parameters
    ----------
    source : Source
        (rows, cols).
    rows : sequence of slice

    Returns
    -------
    ndarray
        (sum of rows, cols), native; integers stay integers as long as no pixel is flagged.
    """
    parts = []
    for band in rows:
        shape = (band.stop - band.start, source.shape[1])
        raw = np.empty(shape, np.dtype(source.encoding.dtype))
        dq = np.zeros(shape, np.uint32) if source.has_dq else None
        source.read_into(band, raw, dq)
        values = decode(raw, source.encoding)
        if dq is not None:
            bad = (dq & np.uint32(DQ.DO_NOT_USE | DQ.SATURATED)) != 0
            if bad.any():
                values = np.where(bad, np.float32(np.nan), values.astype(np.float32))
        parts.append(values)
    return np.concatenate(parts)


def spread(values: NDArray[Any], clip: float = CLIP) -> Spread:
    """Clipped mean, width and median of many values; NaN are left out.

    Integers go through a histogram: exact, and ten times faster than sorting.

    Returns
    -------
    Spread
        All NaN with a count of 0 if there is no value at all.
    """
    centres, weights = _histogram(values)
    if not centres.size:
        return Spread(math.nan, math.nan, math.nan, 0)
    median = _weighted_median(centres, weights)
    low, high = 0, centres.size
    mean, std, count = 0.0, 0.0, 0.0
    for _ in range(20):
        mean, std, count = _moments(centres[low:high], weights[low:high])
        middle = _weighted_median(centres[low:high], weights[low:high])
        # A converter shows no width below one count: without the floor constant data would clip themselves.
        limit = clip * max(std, 0.5) if values.dtype.kind in "iu" else clip * std
        bounds = (
            int(np.searchsorted(centres, middle - limit, "left")),
            int(np.searchsorted(centres, middle + limit, "right")),
        )
        if bounds == (low, high) or bounds[0] >= bounds[1]:
            break
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Spread(mean, std * clip_factor(clip), median, int(count))


def level(values: NDArray[Any]) -> float:
    """Median of finite values, as `spread` finds it, without the rest."""
    flat = values.ravel()
    if flat.dtype.kind not in "iu" or not flat.size:
        return finite_median(flat)
    at = (flat.size - 1) // 2
    middle = np.partition(flat, at)[at]
    equal = np.count_nonzero(flat == middle)
    if equal == 1:
        return finite_median(flat)
    return float(middle) - 0.5 + (flat.size / 2.0 - np.count_nonzero(flat < middle)) / equal


def _histogram(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distinct values in order, and how often each occurs."""
    flat = values.ravel()
    if flat.dtype.kind in "iu":
        if not flat.size:
            return np.empty(0), np.empty(0)
        origin, top = int(flat.min()), int(flat.max())
        if top - origin <= 1 << 22:
            shifted = flat.astype(np.int64) - origin
            counts = np.bincount(shifted)
            present = np.flatnonzero(counts)
            return (present + origin).astype(np.float64), counts[present].astype(np.float64)
    ordered = np.sort(flat[np.isfinite(flat)])
    return ordered.astype(np.float64), np.ones(ordered.size)


def _moments(centres: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float, float]:
    count = float(weights.sum())
    # Not np.dot: BLAS would wake its threads for every few thousand values.
    mean = float((centres * weights).sum() / count)
    square = float(((centres - mean) ** 2 * weights).sum())
    return mean, math.sqrt(square / max(count - 1.0, 1.0)), count


def _weighted_median(centres: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Median of a histogram; inside a bin of many equal counts it is interpolated."""
    sums = np.cumsum(weights)
    half = sums[-1] / 2.0
    at = int(np.searchsorted(sums, half, "left"))
    if weights[at] == 1.0:  # values of their own: the plain median
        after = at + 1 if sums[at] == half and at + 1 < centres.size else at
        return float((centres[at] + centres[after]) / 2.0)
    below = float(sums[at] - weights[at])
    return float(centres[at] - 0.5 + (half - below) / weights[at])


@dataclass(frozen=True, eq=False)
class Survey:
    """Every frame of a series in a few numbers.

    Attributes
    ----------
    mean, median, std : ndarray
        float64, (frames,): clipped mean, median and width of each frame's sample, in its unit.
    pair_noise : ndarray
        float64, (frames - 1,): noise of one frame from the difference of successive frames over sqrt(2).
    pixels : int
        Pixels in the sample.
    parts : mapping
        Name of a part of the image -> (noise, pixels) as of `noise`, within the part.
    """

    mean: NDArray[np.float64]
    median: NDArray[np.float64]
    std: NDArray[np.float64]
    pair_noise: NDArray[np.float64]
    pixels: int
    parts: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    @property
    def noise(self) -> float:
        """Noise of one pixel in one frame: root mean square over the pairs; NaN for a single frame."""
        known = self.pair_noise[np.isfinite(self.pair_noise)]
        return rms(known) if known.size else math.nan

    @property
    def noise_sigma(self) -> float:
        """Uncertainty of `noise`: scatter of the pairs over sqrt(n), at least that of the pixel numbers."""
        if not self.pair_noise.size:
            return math.nan
        n = self.pair_noise.size
        floor = self.noise / math.sqrt(2.0 * self.pixels * n)
        return max(floor, float(np.std(self.pair_noise, ddof=1)) / math.sqrt(n)) if n > 2 else floor


def survey(
    sources: Sequence[Source],
    *,
    pixels: int = SAMPLE,
    parts: Mapping[str, tuple[slice, slice]] | None = None,
    less: NDArray[Any] | None = None,
    times: Sequence[float] | NDArray[np.float64] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Survey:
    """Read a sample of every frame once: its level and width, and the noise from successive differences.

    Differences of *successive* frames, because a drift of the level over the series and the fixed structure
    cancel in them; each is clipped at 4 sigma, divided by sqrt(2), and corrected for the clip.

    Parameters
    ----------
    sources : sequence of Source
        In order of time, one shape.
    pixels : int
        Size of the sample.
    parts : mapping of (slice, slice), optional
        Parts of the image (amplifiers) whose noise is wanted too: rows, columns.
    less : ndarray, optional
        (rows, cols), subtracted before the medians are taken (not before the means).
    times : sequence of float, optional
        Dark times: differences are taken between frames of one time only.
    progress : callable, optional

    Returns
    -------
    Survey
    """
    rows = bands(sources[0].shape, pixels)
    areas = _areas(rows, sources[0].shape, parts or {})
    spreads: list[Spread] = []
    pairs: list[float] = []
    inside: dict[str, list[float]] = {name: [] for name in areas}
    floor = None if less is None else np.concatenate([less[band] for band in rows])
    medians: list[float] = []
    previous: NDArray[Any] | None = None
    for index, values in enumerate(samples(sources, rows)):
        spreads.append(spread(values))
        medians.append(spreads[-1].median if floor is None else finite_median(values - floor))
        if previous is not None and (
            times is None or math.isclose(times[index], times[index - 1], rel_tol=1e-3)
        ):
            change = difference(values, previous)
            pairs.append(spread(change).std / math.sqrt(2.0))
            for name, area in areas.items():
                inside[name].append(spread(change[area]).std / math.sqrt(2.0))
        previous = values
        if progress is not None:
            progress(index + 1, len(sources), "levels")
    size = sum(band.stop - band.start for band in rows) * sources[0].shape[1]
    return Survey(
        np.array([s.mean for s in spreads]),
        np.array(medians),
        np.array([s.std for s in spreads]),
        np.array(pairs, np.float64),
        size,
        {name: (rms(inside[name]), _size(area)) for name, area in areas.items() if inside[name]},
    )


def _areas(
    rows: Sequence[slice], shape: Sequence[int], parts: Mapping[str, tuple[slice, slice]]
) -> dict[str, Any]:
    """Parts of an image as rows and columns of its sample; those that the sample misses are left out."""
    sampled = np.concatenate([np.arange(band.start, band.stop) for band in rows])
    found = {}
    for name, (part_rows, part_cols) in parts.items():
        wanted = np.zeros(shape[0], bool)
        wanted[part_rows] = True
        here = np.flatnonzero(wanted[sampled])
        cols = np.arange(shape[1])[part_cols]
        if here.size and cols.size:
            found[name] = np.ix_(here, cols)
    return found


def _size(area: Any) -> int:
    return int(area[0].size * area[1].size)


def rms(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def levelled(
    sources: Sequence[Source], levels: NDArray[np.float64], target: NDArray[np.float64] | None = None
) -> list[Source]:
    """The sources, each shifted so that its level becomes its target: the mean of all if none is given."""
    wanted = levels.mean() if target is None else target
    return [
        PreparedSource(source, (PixelStep(effect="level", offset=float(shift)),))
        for source, shift in zip(sources, levels - wanted, strict=True)
    ]


def samples(sources: Sequence[Source], rows: Sequence[slice]) -> Iterator[NDArray[Any]]:
    """The bands `rows` of one source after the other.

    Raises
    ------
    ShapeError
        If a source is of another shape than the first.
    """
    for source in sources:
        if tuple(source.shape) != tuple(sources[0].shape):
            raise ShapeError(
                "the frame is of another size than the others",
                where=source.name,
                expected=tuple(sources[0].shape),
                got=tuple(source.shape),
                do="leave it out, or combine it with frames of its own size",
            )
        yield read_sample(source, rows)


def difference(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """``a - b`` without overflow: int32 for small integers, float32 otherwise."""
    if a.dtype.kind in "iu" and b.dtype.kind in "iu" and a.itemsize <= 2 and b.itemsize <= 2:
        return a.astype(np.int32) - b.astype(np.int32)
    return a.astype(np.float32) - b.astype(np.float32)
