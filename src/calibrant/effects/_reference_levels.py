"""What series of levels say: level, drift, settling, and how far they scatter beyond the noise of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._reference_layout import SIDES, Layout
from calibrant.effects._reference_read import CLIP, F4, Floats, Integration
from calibrant.stats import MAD_TO_STD

HOUR = 3600.0  # s
SEVERAL = 3  # ramps whose scatter gives an error


@dataclass(frozen=True, eq=False)
class Region:
    """One region in one ramp.

    Attributes
    ----------
    mean, median : ndarray
        (groups,) adu.
    own : ndarray
        (groups, pixels) float32: each pixel less its mean over the ramp and less the region, adu; NaN for a
        pixel that is not a number in all groups that can be used.
    kept : float
        Pixels that the mean is of, on average over groups.
    """

    mean: Floats
    median: Floats
    own: F4
    kept: float


def region_levels(values: F4) -> Region:
    """Clipped mean and median of pixels whose own levels differ: (groups, pixels), NaN in lost groups."""
    usable = np.isfinite(values).any(axis=1)
    fine = np.isfinite(values[usable]).all(axis=0) if usable.any() else np.zeros(values.shape[1], bool)
    mean, median = np.full(len(values), np.nan), np.full(len(values), np.nan)
    own = np.full(values.shape, np.nan, np.float32)
    if not fine.any():
        return Region(mean, median, own, 0.0)
    x = values[np.ix_(usable, fine)].astype(np.float64)
    base = x.mean(axis=0)
    x -= base
    middle = np.median(x, axis=1)
    scatter = MAD_TO_STD * np.median(np.abs(x - middle[:, None]))
    keep = np.abs(x - middle[:, None]) <= CLIP * scatter + 1e-9
    change = np.where(keep, x, 0.0).sum(axis=1) / keep.sum(axis=1)
    mean[usable] = change + _typical(base)
    median[usable] = middle + float(np.median(base))
    own[np.ix_(usable, fine)] = x - change[:, None]
    return Region(mean, median, own, float(keep.sum(axis=1).mean()))


def _typical(values: Floats) -> float:
    """Mean within 4 robust sigma."""
    centre = float(np.median(values))
    far = CLIP * MAD_TO_STD * float(np.median(np.abs(values - centre)))
    return float(values[np.abs(values - centre) <= far + 1e-9].mean())


@dataclass(frozen=True, eq=False)
class Series:
    """Levels of one stream in all ramps.

    Attributes
    ----------
    level : ndarray
        (ramps, groups) adu, NaN where unknown.
    error : ndarray
        (ramps,) error of the mean of one read that the noise of single pixels foretells, adu.
    time : ndarray
        (ramps, groups) s.
    """

    level: Floats
    error: Floats
    time: Floats

    def __sub__(self, other: Series) -> Series:
        return Series(self.level - other.level, np.hypot(self.error, other.error), self.time)

    def less_line(self, slope: float) -> Series:
        """Without a line in time through the start of each ramp; as it is where the slope is unknown."""
        line = slope * (self.time - self.time[:, :1]) if math.isfinite(slope) else 0.0
        return Series(self.level - line, self.error, self.time)


def pooled(streams: Sequence[Series], weights: Sequence[float]) -> Series | None:
    """Weighted mean of streams; None of nothing."""
    if not streams or sum(weights) <= 0:
        return None
    share = np.asarray(weights, np.float64) / sum(weights)
    level = sum(w * one.level for w, one in zip(share, streams, strict=True))
    error = np.sqrt(sum((w * one.error) ** 2 for w, one in zip(share, streams, strict=True)))
    return Series(np.asarray(level), np.asarray(error), streams[0].time)


@dataclass(frozen=True)
class Value:
    """A number and its standard uncertainty; NaN if unknown."""

    value: float = math.nan
    sigma: float = math.nan


def excess(series: Series) -> Value:
    """Variance of the level within ramps beyond the error of the mean, adu2; below 0 by chance only.

    Its sigma is that of the scatter between ramps; unknown with fewer than three.
    """
    counts = np.isfinite(series.level).sum(axis=1)
    fit = counts > 1
    if not fit.any():
        return Value()
    found = np.nanvar(series.level[fit], axis=1, ddof=1) - series.error[fit] ** 2
    return _mean(found, counts[fit] - 1.0)


def changes(series: Series) -> Floats:
    """Changes from read to read, less their mean in each ramp, (ramps, groups - 1); NaN where unknown."""
    step = np.diff(series.level, axis=1)
    counts = np.isfinite(step).sum(axis=1, keepdims=True)
    total = np.nansum(step, axis=1, keepdims=True)
    return np.asarray(step - total / np.where(counts > 1, counts, np.nan))


def excess_read(series: Series) -> Value:
    """Half the variance of changes from read to read beyond the error of the mean, adu2.

    Changes of white levels correlate by -1/2 with their neighbours, so that their variance has
    2/3 of the degrees of freedom that independent ones would have; their mean, which spans the whole ramp,
    takes 2 / (n + 1) of one.
    """
    step = changes(series)
    n = np.isfinite(step).sum(axis=1)
    fit = n > 1
    if not fit.any():
        return Value()
    # the mean of n changes of white levels has the variance 2 s2 / n^2, not 2 s2 / n
    total = np.nansum(step[fit] ** 2, axis=1) / (n[fit] - 1.0 / n[fit]) / 2.0
    weight = n[fit].astype(np.float64)
    raw = float(np.average(total, weights=weight))
    expected = float(np.average(series.error[fit] ** 2, weights=weight))
    return Value(raw - expected, raw * math.sqrt(3.0 / weight.sum()))


def _mean(values: Floats, weights: Floats) -> Value:
    value = float(np.average(values, weights=weights))
    if len(values) < SEVERAL:
        return Value(value)
    share = weights / weights.sum()
    spread = float((share * (values - value) ** 2).sum())
    return Value(value, math.sqrt(spread * float((share**2).sum()) / (1.0 - float((share**2).sum()))))


def level(series: Series) -> Value:
    """Mean over ramps; its sigma from their scatter."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(series.level).any(axis=1)
        if not known.any():
            return Value()
        means = np.nanmean(series.level[known], axis=1)
    return _mean(means, np.ones(len(means)))


def lines(series: Series) -> Floats:
    """Slope of each ramp, adu/s; NaN of ramps with fewer than two reads."""
    known = np.isfinite(series.level)
    n = known.sum(axis=1, keepdims=True)
    share = known / np.where(n > 1, n, np.nan)
    t = series.time - (series.time * share).sum(axis=1, keepdims=True)
    y = np.where(known, series.level, 0.0)
    return np.asarray((share * t * y).sum(axis=1) / (share * t * t).sum(axis=1))


def drift(series: Series) -> Value:
    """Mean slope of the ramps, adu/h; its sigma is that of their scatter."""
    slopes = lines(series)
    slopes = slopes[np.isfinite(slopes)] * HOUR
    return _mean(slopes, np.ones(len(slopes))) if len(slopes) else Value()


def settling(series: Series) -> tuple[Floats, Floats]:
    """How far each group lies off the line through the later half of its ramp, mean of the ramps, adu.

    Returns
    -------
    deviation, sigma : ndarray
        (groups,). Sigma is that of the scatter between ramps, NaN with fewer than three.
    """
    groups = series.level.shape[1]
    later = np.full_like(series.level, np.nan)
    later[:, groups // 2 :] = series.level[:, groups // 2 :]
    slope = lines(Series(later, series.error, series.time))[:, None]
    off = np.full((len(later), groups), np.nan)
    fit = np.isfinite(slope[:, 0])
    if not fit.any():
        return np.full(groups, np.nan), np.full(groups, np.nan)
    flat = series.level[fit] - slope[fit] * (series.time[fit] - series.time[fit, :1])
    off[fit] = flat - np.nanmean(flat[:, groups // 2 :], axis=1, keepdims=True)
    count = np.isfinite(off).sum(axis=0)
    total = np.nansum(off, axis=0)
    mean = np.divide(total, count, out=np.full(groups, np.nan), where=count > 0)
    square = np.nansum((off - mean) ** 2, axis=0)
    several = count >= SEVERAL
    sigma = np.sqrt(square / np.where(several, count * (count - 1.0), np.nan))
    return mean, sigma


def settled_after(deviation: Floats, sigma: Floats) -> float:
    """Groups until the level stays within three sigma of its line; NaN without errors."""
    known = np.isfinite(deviation) & np.isfinite(sigma)
    if not known.any():
        return math.nan
    off = np.flatnonzero(known & (np.abs(deviation) > 3.0 * sigma))
    early = off[off < len(deviation) // 2]
    return float(early[-1] + 1) if len(early) else 0.0


@dataclass(frozen=True, eq=False)
class Streams:
    """The series of an array: of regions, and of outputs.

    Attributes
    ----------
    regions : list of Series
    active : list of Series
        Of each output.
    reference : list of Series or None
        Of each output: its rows; where it has none, the columns of the sides; None without any.
    """

    regions: list[Series]
    active: list[Series]
    reference: list[Series | None]


def streams(where: Layout, ramps: Sequence[Integration], means: Any, kept: NDArray[Any]) -> Streams:
    """Put levels in order.

    Parameters
    ----------
    means : array
        (ramps, groups, regions) adu.
    kept : array
        (ramps, regions) pixels that the means are of.
    """
    many = len(where.regions)
    time = np.array([one.time for one in ramps])
    noise = np.array([one.variance for one in ramps])
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.sqrt(noise[:, :many] / kept)
        light = np.sqrt(noise[:, many:] / np.array([one.count for one in ramps]))
    found = [Series(means[:, :, i], errors[:, i], time) for i in range(many)]
    active = np.array([one.active for one in ramps])
    lanes = [Series(active[:, :, i], light[:, i], time) for i in range(where.lanes)]
    sizes = where.sizes.astype(np.float64)
    outputs = range(1, where.clock.outputs + 1)
    own: list[int] = []
    shared: list[int] = []
    for i, one in enumerate(where.regions):
        (own if where.along(one.side) else shared).append(i)
    reference = []
    for output in outputs:
        mine = [i for i in own if where.regions[i].output == output] or shared or own
        reference.append(pooled([found[i] for i in mine], [float(sizes[i]) for i in mine]))
    pairs = [pooled(lanes[2 * o - 2 : 2 * o], [1.0, 1.0]) for o in outputs]
    return Streams(found, [pair for pair in pairs if pair is not None], reference)


def contrast(where: Layout, found: Streams, output: int, of: str) -> Series | None:
    """Even less odd columns (``parity``), or last less first side (``sides``), of an output's own pixels."""
    mine = [i for i, one in enumerate(where.regions) if one.output == output]
    sizes = where.sizes.astype(np.float64)
    one: list[int]
    if of == "parity":
        one = [i for i in mine if where.regions[i].parity == "even"]
        other = [i for i in mine if where.regions[i].parity == "odd"]
    else:
        ends = [side for side in SIDES if where.along(side)]
        one = [i for i in mine if where.regions[i].side == ends[1]]
        other = [i for i in mine if where.regions[i].side == ends[0]]
    first, second = (
        pooled([found.regions[i] for i in part], [float(sizes[i]) for i in part]) for part in (one, other)
    )
    return None if first is None or second is None else first - second
