"""Numbers of an image: limits for looking at it, statistics of a box, histogram, cuts and profiles."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.stats import clipped_stats, finite_median, mad_std, zscale, zscale_lines
from calibrant.stats.display import apart
from calibrant.stats.values import finite_values
from calibrant.web.planes import number
from calibrant.web.pyramid import BAND, Pyramid, sample_step

PERCENTILES = (0.5, 1.0, 2.5, 5.0, 95.0, 97.5, 99.0, 99.5)
COUNTED = 1 << 24
"""Values that the median of a box, and a histogram, are made of; of larger boxes every n-th."""
AT_ONCE = 1 << 22
"""Values that are added up at once, in double precision."""
MOST_BINS = 4096

Rows = Callable[[int, int], NDArray[Any]]
"""Reads rows from ... to ... of the image."""


@dataclass(frozen=True)
class Box:
    """A part of an image: rows and columns, half open."""

    rows: tuple[int, int]
    cols: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of pixels."""
        return (self.rows[1] - self.rows[0]) * (self.cols[1] - self.cols[0])

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Box:
        """All of an image."""
        return cls((0, shape[0]), (0, shape[1]))


def sample(rows: Rows, box: Box, most: int) -> tuple[NDArray[Any], int]:
    """The values of a box; of more than `most` every n-th row and column.

    Returns
    -------
    values : array
        (rows, cols).
    step : int
        1 if all are there.
    """
    step = sample_step(box.size, most)
    first, end = box.rows
    parts = []
    for begin in range(first, end, BAND):
        skip = -(begin - first) % step
        band = rows(begin, min(begin + BAND, end))
        parts.append(np.array(band[skip::step, box.cols[0] : box.cols[1] : step]))
    return np.concatenate(parts), step


def limits(rows: Rows, pyramid: Pyramid) -> dict[str, Any]:
    """What a picture can be stretched between.

    Parameters
    ----------
    rows : callable
        Reads rows of the image.
    pyramid : Pyramid
        With the extremes of the image, and a sample of its values.

    Returns
    -------
    dict
        ``min, max, median, sigma`` (robust), ``zscale`` (low, high), ``percentiles`` by their text, and
        ``step``: of how many rows and columns one was looked at. None stands for what there is not.
    """
    good = finite_values(pyramid.sample, None)
    found: dict[str, Any] = {
        "min": number(pyramid.low), "max": number(pyramid.high), "step": pyramid.step,
    }  # fmt: skip
    found["median"] = number(finite_median(good))
    found["sigma"] = number(float(mad_std(good))) if good.size else None
    found["zscale"] = _zscale(rows, pyramid)
    levels = np.percentile(good, PERCENTILES) if good.size else [math.nan] * len(PERCENTILES)
    found["percentiles"] = {f"{p:g}": number(float(v)) for p, v in zip(PERCENTILES, levels, strict=True)}
    return found


def _zscale(rows: Rows, pyramid: Pyramid) -> list[float] | None:
    lines = range(*zscale_lines(*pyramid.shape).indices(pyramid.shape[0]))
    looked = np.concatenate([rows(line, line + 1) for line in lines])
    # Where few pixels are finite, those lines might meet none of them.
    for values in (looked, finite_values(pyramid.sample, None)):
        with contextlib.suppress(OptionError):
            return list(apart(*zscale(values), pyramid.low, pyramid.high))
    return None


@dataclass
class _Sums:
    """Exact sums of the finite values of a box, band by band."""

    n: int = 0
    others: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: tuple[float, int, int] = (math.inf, 0, 0)
    high: tuple[float, int, int] = (-math.inf, 0, 0)

    def add(self, part: NDArray[Any], row: int, col: int) -> None:
        """Values whose first is at (row, col); moments joined after Chan, Golub and LeVeque (1983)."""
        use = np.isfinite(part)
        n = int(np.count_nonzero(use))
        self.others += part.size - n
        if not n:
            return
        values = part[use].astype(np.float64)
        mean, total = float(values.mean()), self.n + n
        apart = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + apart**2 * self.n * n / total
        self.mean, self.n = self.mean + apart * n / total, total
        for name, blank, find in (("low", math.inf, np.argmin), ("high", -math.inf, np.argmax)):
            at = np.unravel_index(int(find(np.where(use, part, blank))), part.shape)
            found = (float(part[at]), row + int(at[0]), col + int(at[1]))
            if (found[0] - getattr(self, name)[0]) * blank < 0:
                setattr(self, name, found)


def box_numbers(rows: Rows, box: Box) -> dict[str, Any]:
    """Statistics of a box: counts, mean, scatter, clipped and robust numbers, extremes and where they are.

    Counts, mean, standard deviation, sum and extremes are of all values; median, robust and clipped numbers
    of every ``step``-th row and column where the box is larger than `COUNTED`.
    """
    sums = _Sums()
    few = min(BAND, -(-AT_ONCE // (box.cols[1] - box.cols[0])))
    for begin in range(*box.rows, few):
        part = rows(begin, min(begin + few, box.rows[1]))[:, slice(*box.cols)]
        sums.add(part, begin, box.cols[0])
    values, step = sample(rows, box, COUNTED)
    flat = finite_values(values, None)
    found: dict[str, Any] = {
        "rows": list(box.rows), "cols": list(box.cols), "pixels": box.size,
        "n": sums.n, "not_finite": sums.others, "step": step,
    }  # fmt: skip
    if not flat.size:
        return found
    clipped = clipped_stats(flat)
    return found | {
        "mean": number(sums.mean), "std": number(math.sqrt(sums.squares / sums.n)),
        "sum": number(sums.mean * sums.n), "median": number(finite_median(flat)),
        "mad_std": number(float(mad_std(flat))),
        "clipped": {"mean": number(clipped.mean), "std": number(clipped.std), "n": clipped.n},
        "min": number(sums.low[0]), "max": number(sums.high[0]),
        "min_at": list(sums.low[1:]), "max_at": list(sums.high[1:]),
    }  # fmt: skip


def histogram(rows: Rows, box: Box, bins: int, low: float | None, high: float | None) -> dict[str, Any]:
    """Counts of values in bins of equal width; whole numbers are never cut within a unit.

    Raises
    ------
    OptionError
        If the bins or limits have no meaning.
    """
    if not 1 <= bins <= MOST_BINS:
        raise OptionError("the number of bins is out of range", expected=f"1 to {MOST_BINS}", got=bins)
    values, step = sample(rows, box, COUNTED)
    flat = finite_values(values, None)
    if flat.size:
        low = float(flat.min()) if low is None else low
        high = float(flat.max()) if high is None else high
    low, high = low or 0.0, 1.0 if high is None else high
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise OptionError("the limits are not in order", expected="low < high", got=f"{low} and {high}")
    edges = _edges(low, high, bins, whole=values.dtype.kind in "iub")
    counts, _ = np.histogram(flat, bins=len(edges) - 1, range=(edges[0], edges[-1]))
    return {
        "edges": [float(edges[0]), float(edges[-1])],
        "counts": counts.tolist(),
        "below": int(np.count_nonzero(flat < edges[0])),
        "above": int(np.count_nonzero(flat > edges[-1])),
        "not_finite": int(values.size - flat.size),
        "step": step,
    }


def _edges(low: float, high: float, bins: int, *, whole: bool) -> NDArray[np.float64]:
    if whole:  # bins of a whole number of units: else some hold one more than others, and a comb appears
        first, last = math.floor(low), math.floor(high) + 1
        width = max(1, -(-(last - first) // bins))
        count = -(-(last - first) // width)
        return np.linspace(first - 0.5, first - 0.5 + width * count, count + 1)
    if low == high:
        room = max(abs(low) * 1e-3, 0.5)
        low, high = low - room, high + room
    return np.linspace(low, high, bins + 1)


def cut(rows: Rows, shape: tuple[int, int], *, row: int | None = None, col: int | None = None) -> list[Any]:
    """The values along a row or a column; None where there is no finite one."""
    if row is not None:
        return numbers(rows(row, row + 1)[0])
    assert col is not None
    # Copies: a view of its column would keep every band.
    parts = [rows(b, min(b + BAND, shape[0]))[:, col].copy() for b in range(0, shape[0], BAND)]
    return numbers(np.concatenate(parts))


def numbers(values: NDArray[Any]) -> list[Any]:
    """Values for JSON, whole numbers as such; None for what is not finite."""
    if values.dtype.kind != "f":
        listed: list[Any] = values.astype(np.int64 if values.dtype.kind == "b" else values.dtype).tolist()
        return listed
    good = np.isfinite(values)
    listed = values.astype(np.float64).tolist()
    return listed if good.all() else [v if ok else None for v, ok in zip(listed, good.tolist(), strict=True)]


def line_profile(
    rows: Rows, shape: tuple[int, int], begin: tuple[float, float], end: tuple[float, float], width: int
) -> Mapping[str, list[Any]]:
    """Values along a straight line, at steps of one pixel: the nearest pixels, averaged across `width`.

    Parameters
    ----------
    begin, end : (float, float)
        Row, column; the middle of a pixel is a whole number.
    width : int
        Pixels across the line; those outside the image are left out.
    """
    along = np.array([end[0] - begin[0], end[1] - begin[1]], np.float64)
    length = float(np.hypot(*along))
    count = max(1, math.ceil(length) + 1)
    distance = np.linspace(0.0, length, count)
    unit = along / length if length else np.array([0.0, 1.0])
    offsets = np.arange(width) - (width - 1) / 2
    at_row = begin[0] + distance[:, None] * unit[0] - offsets * unit[1]
    at_col = begin[1] + distance[:, None] * unit[1] + offsets * unit[0]
    picked = _picked(rows, shape, np.rint(at_row).astype(np.int64), np.rint(at_col).astype(np.int64))
    use = np.isfinite(picked)
    total, n = np.where(use, picked, 0.0).sum(axis=1), use.sum(axis=1)
    values = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return {
        "distance": distance.tolist(),
        "rows": (begin[0] + distance * unit[0]).tolist(),
        "cols": (begin[1] + distance * unit[1]).tolist(),
        "values": numbers(values),
    }


def _picked(
    rows: Rows, shape: tuple[int, int], row: NDArray[np.int64], col: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The values of pixels, band by band; NaN outside the image."""
    found = np.full(row.shape, np.nan)
    inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
    for band in np.unique(row[inside] // BAND):
        first = int(band) * BAND
        part = rows(first, min(first + BAND, shape[0]))
        here = inside & (row // BAND == band)
        found[here] = part[row[here] - first, col[here]]
    return found
