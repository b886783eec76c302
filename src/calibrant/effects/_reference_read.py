"""Levels of reference and active pixels, read by read: ramps are walked once, in bands of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._reference_layout import Layout
from calibrant.exposures.ramps import Ramp
from calibrant.frame import DQ, MICROSECOND, Exposure
from calibrant.stats import MAD_TO_STD

Floats = NDArray[np.float64]
F4 = NDArray[np.float32]
Bools = NDArray[np.bool_]
JUMP = 5.5  # sigmas of a change between two reads: a normal pixel of 100 reads loses 4e-6
FAR = 6.0  # sigmas of the level itself, within its lane
CLIP = 4.0  # sigmas of reference pixels about their region
SAMPLE, ACROSS = 2_000, 64  # pixels that tell the level of a lane and its scatter, and columns of them
UNUSABLE = np.uint8(DQ.DO_NOT_USE | DQ.SATURATED)
BAD = np.uint32(DQ.DO_NOT_USE)
BAND = 64 << 20  # bytes of the rows that are looked at together: more groups are fewer rows, not more memory
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Integration:
    """One ramp of one file.

    Attributes
    ----------
    file, number : int
        From 0.
    time : ndarray
        (groups,) s since the start of the file; NaN where unknown.
    start : int or None
        Of the file, microseconds since 1970.
    reference : ndarray
        (groups, pixels) float32, adu, of the layout's `pixels`; NaN where a read cannot be used.
    active : ndarray
        (groups, lanes) mean of active pixels, adu.
    count : ndarray
        (lanes,) active pixels that it is of.
    variance : ndarray
        (regions + lanes,) of a single read of one pixel about the mean of its row, adu2; NaN if unknown.
    freedom : ndarray
        (regions + lanes,) its degrees of freedom.
    """

    file: int
    number: int
    time: Floats
    start: int | None
    reference: F4
    active: Floats
    count: Floats
    variance: Floats
    freedom: Floats


def walk(
    ramps: Sequence[Ramp], where: Layout, *, budget: int, progress: Progress | None = None
) -> Iterator[Integration]:
    """All integrations of all ramps, one after the other."""
    total, done = sum(ramp.shape[0] for ramp in ramps), 0
    for file, ramp in enumerate(ramps):
        for number in range(ramp.shape[0]):
            yield _integration(ramp, file, number, where, budget)
            done += 1
            if progress is not None:
                progress(done, total, "reference pixels")


def group_time(exposure: Exposure, where: Layout) -> float:
    """Seconds from group to group: the header's, else from the clock and the read pattern."""
    stated = exposure.get("group_time")
    if stated is not None and float(stated) > 0:
        return float(stated)
    frames = int(exposure.get("nframes") or 1) + int(exposure.get("groupgap") or 0)
    return frames * float(exposure.get("frame_time") or where.clock.frame_time)


def _integration(ramp: Ramp, file: int, number: int, where: Layout, budget: int) -> Integration:
    groups = ramp.shape[1]
    reference = np.empty((groups, len(where.pixels[0])), np.float32)
    places = len(where.regions) + where.lanes
    sums, counts = np.zeros((groups, places)), np.zeros(places)
    squares, freedom = np.zeros(places), np.zeros(places)
    usable = _usable(ramp, number, where)
    for rows in _bands(ramp, budget):
        values = _read(ramp, rows, number)
        here = slice(*np.searchsorted(where.pixels[0], (rows.start, rows.stop)))
        at = where.pixels[0][here] - rows.start, where.pixels[1][here]
        reference[:, here] = values[:, at[0], at[1]]
        if usable.any():
            _active(values[usable], ramp.dq(rows), rows, where, sums, counts, squares, freedom, usable)
    reference[~usable] = np.nan
    regions = len(where.regions)
    with np.errstate(invalid="ignore", divide="ignore"):
        active = sums[:, regions:] / counts[regions:]
        variance = squares / freedom / 2.0
    active[~usable] = np.nan
    step = group_time(ramp.exposure, where)
    first = number * (groups + 1) * step  # a reset takes about the time of a group
    times = first + step * np.arange(groups, dtype=np.float64)
    return Integration(
        file, number, times, ramp.exposure.start, reference, active, counts[regions:], variance, freedom
    )


def _bands(ramp: Ramp, budget: int) -> Iterator[slice]:
    """Rows that fit: the values of one integration as they are, as float32, and masks."""
    _, groups, rows, cols = ramp.shape
    most = max(1, int(min(budget, BAND) / (12.0 * groups * cols)))
    step = max(1, min(most, 128))
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def _read(ramp: Ramp, rows: slice, number: int) -> F4:
    """One integration, (groups, rows, cols); NaN where flagged, or at the end of the range."""
    one = slice(number, number + 1)
    raw: Any = ramp.values(rows, integrations=one)[0]
    values: F4 = np.array(raw, np.float32)
    if raw.dtype == np.uint16:
        values[(raw == 0) | (raw == np.iinfo(np.uint16).max)] = np.nan
    saturation = ramp.exposure.saturation
    if saturation is not None:
        values[values >= saturation] = np.nan
    flags = ramp.read_dq(rows, integrations=one)
    if flags is not None:
        values[(flags[0] & UNUSABLE) != 0] = np.nan
    return values


def _usable(ramp: Ramp, number: int, where: Layout) -> Bools:
    """Groups of which most reference pixels of a few rows are numbers: a group is lost as a whole or not."""
    pixels = where.pixels[0]
    some = np.unique(pixels)
    found, total = np.zeros(ramp.shape[1]), 0
    for row in {int(some[0]), int(some[-1]), int(some[len(some) // 2])}:
        cols = where.pixels[1][pixels == row]
        values = _read(ramp, slice(row, row + 1), number)[:, 0, cols]
        found += np.isfinite(values).sum(axis=1)
        total += len(cols)
    usable: Bools = found > 0.5 * total
    return usable


def _active(
    values: F4,
    dq: Any,
    rows: slice,
    where: Layout,
    sums: Floats,
    counts: Floats,
    squares: Floats,
    freedom: Floats,
    usable: Bools,
) -> None:
    """Add what a band of rows shows to the sums over the image."""
    from calibrant.stack import kernels_reference as kernels  # brings numba, as late as it can

    clock, regions = where.clock, len(where.regions)
    lane, region = where.lane[rows], where.region[rows]
    place = np.where(region >= 0, region, regions + lane)
    good = np.ones(place.shape, bool) if dq is None else (np.asarray(dq) & BAD) == 0
    turned = abs(clock.fast) == 2
    if turned:
        values = np.ascontiguousarray(values.swapaxes(-1, -2))
        lane, place, good = lane.T, place.T, good.T
    lanes = np.ascontiguousarray(lane[0])
    good = np.array(good, order="C")
    steps, limits = _steps(values, lanes, place >= regions, good)
    kernels.steady(values, lanes, steps, limits, good)
    found = np.zeros((len(values), len(sums[0])))
    kernels.gather(values, lanes, good, np.ascontiguousarray(place), found, squares, freedom, regions)
    sums[usable] += found
    counts += np.bincount(place[good].ravel(), minlength=len(counts))


def _steps(values: F4, lanes: Any, light: Bools, good: Bools) -> tuple[Floats, Floats]:
    """Changes of the level of each lane from read to read, and what is too far; far levels are not good.

    A lane without pixels that can be used has no limit that anything passes.
    """
    many = int(lanes.max()) + 1
    steps, limits = np.zeros((len(values) - 1, many)), np.full(many, -1.0)
    levels, far = np.full(many, np.nan), np.full(many, np.nan)
    for lane in np.unique(lanes):
        cols = np.flatnonzero(lanes == lane)
        cols = cols[:: max(1, len(cols) // ACROSS)]
        rows = slice(None, None, max(1, values.shape[1] * len(cols) // SAMPLE))
        sample = values[:, rows][:, :, cols]
        levels[lane], far[lane] = _middle(sample[0][light[rows][:, cols]])
        change = np.diff(sample.reshape(len(values), -1), axis=0)
        change = change[:, np.isfinite(change).all(axis=0)]
        if len(change) == 0:
            limits[lane] = math.inf
        elif change.size:
            steps[:, lane] = np.median(change, axis=1)
            scatter = np.median(np.abs(change - steps[:, lane : lane + 1]))
            limits[lane] = JUMP * MAD_TO_STD * scatter + 1.0  # a step of the converter is no jump
    good &= ~light | (np.abs(values[0] - levels[lanes]) <= FAR * far[lanes])
    return steps, limits


def _middle(values: F4) -> tuple[float, float]:
    """Median and robust sigma of a sample."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return math.nan, math.nan
    level = float(np.median(values))
    return level, MAD_TO_STD * float(np.median(np.abs(values - level))) + 1.0


def start_of(integrations: Sequence[Integration]) -> int | None:
    """The earliest start, microseconds; None if one is unknown."""
    starts = [one.start for one in integrations]
    return None if any(s is None for s in starts) else min(s for s in starts if s is not None)


def seconds(one: Integration, first: int | None) -> Floats:
    """Times of the groups since the first file began; since its own start where that is not known."""
    if first is None or one.start is None:
        return one.time
    return one.time + (one.start - first) / MICROSECOND
