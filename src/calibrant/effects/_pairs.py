"""Pairs of flats: who belongs to whom, and what the difference of two says of each amplifier."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._amplifiers import Region, read
from calibrant.effects._steps import name_of
from calibrant.errors import BudgetError, HeaderError
from calibrant.exposures import Exposures
from calibrant.frame import MICROSECOND
from calibrant.stack.covariance import clipped, covariances
from calibrant.stack.plan import exactly, megabytes
from calibrant.stack.run import default_runner, parse_budget
from calibrant.stack.source import Source
from calibrant.stats import clip_factor

CLIP = 5.5  # sigmas of the difference: normal noise loses 1e-6 of its width
SEQUENCE = "sequence"
SAME_TIME = 1e-3  # relative; shutters state their times to a millisecond at best
MEANT = 0.2  # relative: neighbours that differ by less were meant to be a pair
SAME_LIGHT = 0.02  # relative, of any other fact: photodiodes count what the lamp gave
APART = 12 * 3600 * MICROSECOND  # between two flats that are of different nights
FAINT = 1.0  # adu
BAND = 128  # rows of an amplifier worked on together
PIECE = 1 << 18  # pixels read together
WORK = 5  # bytes per pixel of an amplifier that is worked on: two masks and pieces of rows
NAMED = 4

Progress = Callable[[int, int, str], None]


# --- who belongs to whom ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two flats of one light, by their places in the series; `value` is the fact that they share."""

    first: int
    second: int
    value: float


def pair_up(series: Exposures, by: str = "exptime") -> tuple[list[Pair], list[str]]:
    """Pairs of neighbours in time of one filter and one value of a fact.

    Parameters
    ----------
    series : Exposures
        In order of time.
    by : str
        A fact that is a number: ``exptime``, or what a photodiode counted; ``sequence`` pairs successive
        flats, whatever their light.

    Returns
    -------
    pairs : list of Pair
        By rising value, then by time.
    notes : list of str
        Flats without a partner, and pairs whose two flats differ.

    Raises
    ------
    HeaderError
        If a flat does not know the fact.
    """
    if by != SEQUENCE:
        series.require(by)
    pairs: list[Pair] = []
    alone: list[int] = []
    for members in _by_filter(series):
        for group in [members] if by == SEQUENCE else _alike(series, members, by):
            for night in _nights(series, group):
                found, orphan = _neighbours(series, night)
                pairs += [Pair(a, b, _value(series, a, by)) for a, b in found]
                alone += orphan
    if by == SEQUENCE:
        uneven = [p for p in pairs if not _same(*(_value(series, i, "exptime") for i in (p.first, p.second)))]
        pairs = [pair for pair in pairs if pair not in uneven]
        notes = [_uneven(series, pair.first, pair.second, "exptime") for pair in uneven]
        notes += _orphans(series, sorted(alone), "exptime")
    else:
        pairs.sort(key=lambda pair: (pair.value, pair.first))
        notes = _orphans(series, sorted(alone), by)
    return pairs, notes


def _by_filter(series: Exposures) -> list[list[int]]:
    found: dict[Any, list[int]] = {}
    for index, exposure in enumerate(series):
        found.setdefault(exposure.filter, []).append(index)
    return list(found.values())


def _value(series: Exposures, index: int, by: str) -> float:
    value = None if by == SEQUENCE else series[index].get(by)
    if value is None:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise HeaderError(
            f"flats are paired by a number, and {by} is none",
            where=name_of(series[index]),
            expected="a number",
            got=repr(value),
            do="pair by exptime or by sequence",
        ) from None


def _same(one: float, other: float, tolerance: float = SAME_TIME) -> bool:
    return not abs(one - other) > tolerance * max(
        abs(one), abs(other)
    )  # unknown ones are not held against it


def _alike(series: Exposures, members: list[int], by: str) -> Iterator[list[int]]:
    """Members of one value of the fact, in the order of the series."""
    tolerance = SAME_TIME if by in ("exptime", "duration", "exposure") else SAME_LIGHT
    group: list[int] = []
    for index in sorted(members, key=lambda i: (_value(series, i, by), i)):
        if group and not _same(_value(series, group[0], by), _value(series, index, by), tolerance):
            yield sorted(group)
            group = []
        group.append(index)
    yield sorted(group)


def _nights(series: Exposures, group: list[int]) -> Iterator[list[int]]:
    """Members cut where half a day passed: dust and lamps move, and a difference would show them."""
    night: list[int] = []
    for index in group:
        one, other = series[night[-1]].start if night else None, series[index].start
        if one is not None and other is not None and other - one > APART:
            yield night
            night = []
        night.append(index)
    yield night


def _neighbours(series: Exposures, group: list[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Successive members as pairs; of an odd number the one is left alone that the pairs miss least."""
    if len(group) % 2 == 0:
        return list(zip(group[::2], group[1::2], strict=True)), []
    starts = [series[i].start for i in group]
    times = np.array([math.nan if t is None else float(t) for t in starts])
    left = len(group) - 1
    if np.isfinite(times).all():
        gaps = np.diff(times)
        # Members before an even place pair among themselves, and so do those after it.
        spent = [gaps[:k:2].sum() + gaps[k + 1 :: 2].sum() for k in range(0, len(group), 2)]
        left -= 2 * int(np.argmin(spent[::-1]))  # the last of several
    rest = [index for k, index in enumerate(group) if k != left]
    return list(zip(rest[::2], rest[1::2], strict=True)), [group[left]]


def _orphans(series: Exposures, alone: list[int], by: str) -> list[str]:
    """Sentences about flats without a partner; neighbours among them were meant to be one pair."""
    notes = []
    rest = list(alone)
    for a, b in itertools.pairwise(alone):
        if b == a + 1 and a in rest and _same(_value(series, a, by), _value(series, b, by), MEANT):
            notes.append(_uneven(series, a, b, by))
            rest = [i for i in rest if i not in (a, b)]
    if rest:
        told = ", ".join(_told(series, i, by) for i in rest[:NAMED])
        more = f" and {len(rest) - NAMED} more" if len(rest) > NAMED else ""
        notes.append(f"left out, without a partner of their {by}: {told}{more}")
    return notes


def _uneven(series: Exposures, a: int, b: int, by: str) -> str:
    return f"left out, a pair of different {by}: {_told(series, a, by)} and {_told(series, b, by)}"


def _told(series: Exposures, index: int, by: str) -> str:
    name, value = name_of(series[index]).rpartition("/")[2], _value(series, index, by)
    return f"{name} ({value:g})" if math.isfinite(value) else name


# --- what a difference says -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Light:
    """One amplifier (or part of one) in one pair; NaN where too few pixels are good.

    Attributes
    ----------
    mean : float
        Mean of both frames, adu.
    variance : float
        Of one frame: half of that of the difference, adu^2.
    pixels : int
        Good in both frames, and within the clip.
    covariance : ndarray
        float64, (lags, lags), [rows, columns], of one frame, adu^2; (0, 0) where none was asked for.
    counts : ndarray
        int64, (lags, lags): pairs of pixels.
    noise_factor : float
        What scaling to equal flux multiplies the square of the read noise by: 1 for frames of equal flux.
    """

    mean: float
    variance: float
    pixels: int
    covariance: NDArray[np.float64]
    counts: NDArray[np.int64]
    noise_factor: float = 1.0


def look(a: NDArray[np.float32], b: NDArray[np.float32], *, lags: int = 0, minimum: int = 1) -> Light:
    """Mean and noise of two frames of one scene from their difference; overwrites `a`.

    ``D = a sqrt(m_b / m_a) - b sqrt(m_a / m_b)``, with m the means of both: both frames are brought to the
    geometric mean of their flux. What the pixels differ by, and the shape of the light, cancel; and the
    variance of photons in D / sqrt(2) is exactly that at the arithmetic mean of the two.

    Parameters
    ----------
    a, b : ndarray
        float32, (rows, cols), adu above the bias, NaN where not good.
    lags : int
        Of the covariances; none for 0.
    minimum : int
        Pixels that must be good.
    """
    one, other, count = _means(a, b)
    blank = np.full((lags, lags), np.nan), np.zeros((lags, lags), np.int64)
    if count < max(minimum, 2):
        return Light(math.nan, math.nan, count, *blank)
    # Fainter light than the errors of a zero level has no ratio, and no structure to cancel either.
    ratio = math.sqrt(other / one) if min(one, other) > FAINT else 1.0
    for top in range(0, len(a), BAND):
        rows = slice(top, top + BAND)
        np.multiply(a[rows], np.float32(ratio), out=a[rows])
        a[rows] -= b[rows] * np.float32(1.0 / ratio)
    limits = clipped(a, CLIP)
    if limits.count < max(minimum, 2):
        return Light(math.nan, math.nan, limits.count, *blank)
    mask = (a >= np.float32(limits.low)) & (a <= np.float32(limits.high))
    second = float(np.mean(b, where=mask, dtype=np.float64))
    first = (limits.mean + second / ratio) / ratio
    factor = clip_factor(CLIP) ** 2
    if lags:
        cov, counts = covariances(a, mask, lags)
        cov *= 0.5 * factor**2
        cov[0, 0] /= factor
        blank = cov, counts
    noise_factor = 0.5 * (ratio**2 + ratio**-2)
    return Light((first + second) / 2, limits.variance * factor / 2, limits.count, *blank, noise_factor)


def _means(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[float, float, int]:
    """Means over the pixels that are good in both, and their number."""
    one = other = 0.0
    count = 0
    for top in range(0, len(a), BAND):
        x, y = a[top : top + BAND], b[top : top + BAND]
        good = np.isfinite(x) & np.isfinite(y)
        one += float(np.sum(x, where=good, dtype=np.float64))
        other += float(np.sum(y, where=good, dtype=np.float64))
        count += int(np.count_nonzero(good))
    return (one / count, other / count, count) if count else (math.nan, math.nan, 0)


@dataclass(frozen=True)
class _Look:
    """The task of the runner: one amplifier of one pair."""

    lags: int
    minimum: int
    uses_blas = False

    def __call__(self, item: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Light:
        return look(*item, lags=self.lags, minimum=self.minimum)


@dataclass(frozen=True)
class _Load:
    """The task of the runner: one frame, into a buffer that stays."""

    uses_blas = False

    def __call__(self, item: tuple[Source, NDArray[np.float32]]) -> NDArray[np.float32]:
        source, out = item
        height = max(1, PIECE // out.shape[1])
        for top in range(0, len(out), height):
            rows = slice(top, min(top + height, len(out)))
            out[rows] = read(source, rows)
        return out


def extract(
    sources: Sequence[Source],
    pairs: Sequence[Pair],
    regions: Sequence[Region],
    *,
    lags: int,
    edge: int = 0,
    minimum: int = 1,
    runner: Any = None,
    budget: int | str = "512MB",
    progress: Progress | None = None,
) -> list[list[Light]]:
    """Every amplifier of every pair, [pair][amplifier]; two frames are in memory, whatever the number.

    Raises
    ------
    BudgetError
        If two frames do not fit; before a pixel is read.
    """
    hands = default_runner(runner)
    shape = sources[0].shape
    _check_budget(shape, regions, hands.workers, parse_budget(budget))
    inner = (slice(edge, -edge or None), slice(edge, -edge or None))
    buffers = np.empty((2, shape[0], shape[1]), np.float32)
    found = []
    for number, pair in enumerate(pairs):
        wanted = sources[pair.first], sources[pair.second]
        a, b = hands.map(_Load(), zip(wanted, buffers, strict=True))
        parts = ((region.of(a)[inner], region.of(b)[inner]) for region in regions)
        found.append(list(hands.map(_Look(lags, minimum), parts)))
        if progress is not None:
            progress(number + 1, len(pairs), "pairs of flats")
    return found


def _check_budget(shape: Sequence[int], regions: Sequence[Region], workers: int, budget: int) -> None:
    frames = 2 * 4 * shape[0] * shape[1]
    largest = max(region.shape[0] * region.shape[1] for region in regions)
    needed = frames + min(workers, len(regions)) * WORK * largest
    if needed > budget:
        raise BudgetError(
            "the memory budget is too small for a pair of flats",
            where="budget",
            expected=f"at least {megabytes(needed)}",
            got=exactly(budget),
            do="give a larger budget",
        )
