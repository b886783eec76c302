"""Smaller and smaller copies of an image, each half of the one before: its mean, and its extreme values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BAND = 512
"""Rows read at once, and rows and columns of a tile: every level begins anew at a whole number of blocks."""
SMALLEST = 256
"""Pixels of the longer side at which no further level is made."""
DEEPEST = 9
"""Levels that a band of rows can make: 512 rows become one."""
KEPT = 1 << 24
"""Pixels of the largest level that is kept; larger ones are made again from the rows they need."""
STRIP = 64  # rows halved at once: what is computed in between stays in the cache of the processor

LOOKED_AT = 1 << 20
"""Values that are looked at for limits; of larger images every n-th row and column."""
BUILDERS = 2
"""Bands that are halved at the same time."""

Rows = Callable[[int, int], NDArray[Any]]
"""Reads rows from ... to ... of the image."""
Pair = tuple[NDArray[Any], NDArray[Any]]


def level_shape(shape: tuple[int, int], level: int) -> tuple[int, int]:
    """Rows, columns of a level: those of the image over 2 to the level, rounded up."""
    rows, cols = shape
    return -(-rows >> level), -(-cols >> level)


def levels_of(shape: tuple[int, int]) -> int:
    """Number of levels of an image, itself (0) included."""
    count = 1
    while max(level_shape(shape, count - 1)) > SMALLEST and count <= DEEPEST:
        count += 1
    return count


def first_kept(shape: tuple[int, int]) -> int:
    """The largest level, above the image itself, that is small enough to be kept."""
    level = 1
    while math.prod(level_shape(shape, level)) > KEPT:
        level += 1
    return level


@dataclass(frozen=True, eq=False)
class Pyramid:
    """The levels of one image that are kept, and the extremes of its values.

    Attributes
    ----------
    shape : (int, int)
        Of the image.
    levels : mapping of int to (array, array)
        Level -> mean and peak, float32 (rows, cols); for flags the OR of all, uint32, as both.
    low, high : float
        Least and greatest finite value; NaN where there is none.
    sample : array
        Every `step`-th row and column of the image.
    """

    shape: tuple[int, int]
    levels: dict[int, Pair]
    low: float
    high: float
    sample: NDArray[Any]
    step: int

    @property
    def nbytes(self) -> int:
        """Bytes of all levels, and of the sample."""
        return self.sample.nbytes + sum(part.nbytes for pair in self.levels.values() for part in pair)


def sample_step(pixels: int, most: int) -> int:
    """Every how many rows and columns are looked at, so that about `most` values are left; an odd number."""
    step = max(1, math.ceil(math.sqrt(pixels / most)))
    # A step that divides the width of amplifiers would meet the same column of each.
    return step + (step % 2 == 0)


def build(rows: Rows, shape: tuple[int, int], *, flags: bool = False) -> Pyramid:
    """All levels of an image from one pass over its rows; memory is that of the levels and a few bands.

    Parameters
    ----------
    rows : callable
        Reads rows from ... to ...: (rows, cols) of real numbers, or uint32 flags. Threads call it.
    shape : (int, int)
        Of the image.
    flags : bool
        Whether blocks are the OR of their pixels.
    """
    first, count = first_kept(shape), levels_of(shape)
    kind = np.uint32 if flags else np.float32
    levels: dict[int, Pair] = {}
    for level in range(first, count):
        mean = np.empty(level_shape(shape, level), kind)
        levels[level] = mean, mean if flags else np.empty_like(mean)
    step = sample_step(math.prod(shape), LOOKED_AT)

    def one(begin: int) -> tuple[tuple[float, float], NDArray[Any]]:
        band = rows(begin, min(begin + BAND, shape[0]))
        gaps = has_gaps(band)
        for level, pair in _halves(band, count, flags, gaps):
            if level in levels:
                at = begin >> level
                for out, part in zip(levels[level], pair, strict=True):
                    out[at : at + len(part)] = part
        return _extremes(band, gaps), np.array(band[-begin % step :: step, ::step])

    # Bands write where no other does, and NumPy lets other threads work meanwhile.
    with ThreadPoolExecutor(BUILDERS) as pool:
        found = list(pool.map(one, range(0, shape[0], BAND)))
    lows, highs = zip(*(extremes for extremes, _ in found), strict=True)
    sample = np.concatenate([part for _, part in found])
    return Pyramid(shape, levels, float(np.fmin.reduce(lows)), float(np.fmax.reduce(highs)), sample, step)


def _extremes(values: NDArray[Any], gaps: bool) -> tuple[float, float]:
    """Least and greatest finite value; NaN where there is none."""
    if gaps:
        values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan)


def has_gaps(values: NDArray[Any]) -> bool:
    """Whether a value is not finite."""
    # The sum of extremes tells in one pass each, without an array of answers.
    return values.dtype.kind == "f" and not (math.isfinite(values.min()) and math.isfinite(values.max()))


def _halves(band: NDArray[Any], count: int, flags: bool, gaps: bool) -> Iterator[tuple[int, Pair]]:
    pair: Pair = (band, band)
    for level in range(1, count):
        pair = _or_pair(pair) if flags else halved(*pair, gaps)
        yield level, pair


def reduced(values: NDArray[Any], level: int, *, flags: bool = False) -> Pair:
    """Mean and peak of an image `level` times halved, as the kept levels have them."""
    if level == 0 and not flags:
        return values.astype(np.float32), values.astype(np.float32)
    return [pair for _, pair in _halves(values, level + 1, flags, has_gaps(values))][-1]


def halved(mean: NDArray[Any], peak: NDArray[Any], gaps: bool) -> Pair:
    """Blocks of 2 x 2 as their mean, and as the value farthest from it.

    Parameters
    ----------
    mean, peak : array
        (rows, cols) of the level below; the image itself as both. At an odd edge a block has fewer pixels.
    gaps : bool
        Whether there may be values that are not finite: they are left out. A block without any is NaN.

    Returns
    -------
    mean, peak : array
        float32, half as many rows and columns, rounded up.
    """
    rows, cols = (-(-size // 2) for size in mean.shape)
    means, peaks = np.empty((rows, cols), np.float32), np.empty((rows, cols), np.float32)
    for begin in range(0, rows, STRIP):
        part = slice(2 * begin, 2 * (begin + STRIP))
        out = slice(begin, begin + STRIP)
        of_mean = _quarters(mean[part])
        of_peak = of_mean if peak is mean else _quarters(peak[part])
        (_mean_with_gaps if gaps else _mean)(of_mean, means[out])
        _farthest(of_peak, means[out], peaks[out], gaps)
    return means, peaks


def _quarters(plane: NDArray[Any]) -> list[NDArray[np.float32]]:
    """The four pixels of each block as float32; at an odd edge the last row or column stands twice."""
    if plane.shape[0] % 2 or plane.shape[1] % 2:
        plane = np.pad(plane, [(0, size % 2) for size in plane.shape], mode="edge")
    return [plane[i::2, j::2].astype(np.float32) for i in (0, 1) for j in (0, 1)]


def _mean(quarters: list[NDArray[np.float32]], out: NDArray[np.float32]) -> None:
    # A quarter of each first: the sum of four large float32 might overflow.
    np.multiply(quarters[0], np.float32(0.25), out=out)
    part = np.empty_like(out)
    for quarter in quarters[1:]:
        out += np.multiply(quarter, np.float32(0.25), out=part)


def _mean_with_gaps(quarters: list[NDArray[np.float32]], out: NDArray[np.float32]) -> None:
    """As `_mean`; what is not finite is left out, and becomes NaN in the quarters."""
    total = np.zeros(out.shape, np.float64)
    count = np.zeros(out.shape, np.float64)
    for quarter in quarters:
        use = np.isfinite(quarter)
        quarter[~use] = np.nan
        np.add(total, quarter, out=total, where=use)
        count += use
    out.fill(np.nan)
    np.divide(total, count, out=out, where=count > 0, casting="same_kind")


def _farthest(
    quarters: list[NDArray[np.float32]], mean: NDArray[np.float32], out: NDArray[np.float32], gaps: bool
) -> None:
    """Of each block the greatest or the least value, whichever is farther from the mean."""
    most, least = (np.fmax, np.fmin) if gaps else (np.maximum, np.minimum)
    with np.errstate(invalid="ignore", over="ignore"):
        if gaps:
            for quarter in quarters:
                quarter[~np.isfinite(quarter)] = np.nan
        high = most(most(quarters[0], quarters[1]), most(quarters[2], quarters[3]))
        low = least(least(quarters[0], quarters[1]), least(quarters[2], quarters[3]))
        is_low = np.subtract(mean, low) > np.subtract(high, mean)
    out[...] = high
    np.copyto(out, low, where=is_low)


def _or_pair(pair: Pair) -> Pair:
    plane = pair[0]
    if plane.shape[0] % 2 or plane.shape[1] % 2:
        plane = np.pad(plane, [(0, size % 2) for size in plane.shape], mode="edge")
    both = plane[0::2] | plane[1::2]
    found = np.ascontiguousarray(both[:, 0::2] | both[:, 1::2])
    return found, found
