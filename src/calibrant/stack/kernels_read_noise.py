"""Kernels of read noise: differences of reads, their clipped scatter, and the scatter about lines.

All kernels of this file call kernels of this file only: the cache of compiled code does not notice an edit
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

Decorator = Callable[[Any], Any]

D, F = np.float64, np.float32
ABSENT = np.float32(np.inf)
LARGEST = np.float32(3e38)
LANES = (
    272  # pixels sorted side by side; not a power of two, whose columns would share a few sets of the cache
)
BAD, JUMP = np.uint8(0b11), np.uint8(0b100)  # DO_NOT_USE or SATURATED; JUMP_DET
ROOM = 2048  # differences of one ramp that a pixel's line may have

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy")
loose: Decorator = nb.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"}
)
inner: Decorator = nb.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
summing: Decorator = nb.njit(
    nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True,
    fastmath={"reassoc", "nsz", "contract"},
)  # fmt: skip


@jit
def subtract(reads: Any, pairs: Any, top: float, out: Any) -> None:
    """Second less first read of each pair; NaN where one is not finite, or reaches `top`.

    reads (reads, pixels) uint16 or float32; pairs (pairs, 2); out (pairs, pixels) float32.
    """
    limit = F(top)
    for k in range(pairs.shape[0]):
        first, second, line = reads[pairs[k, 0]], reads[pairs[k, 1]], out[k]
        for i in range(line.shape[0]):
            a, b = F(first[i]), F(second[i])
            line[i] = b - a if a < limit and b < limit else F(np.nan)


@jit
def strike(flags: Any, pairs: Any, out: Any) -> None:
    """NaN in differences of flagged reads, and across a jump.

    flags (reads, pixels) uint8, bits of `calibrant.frame.DQ`; out (pairs, pixels).
    """
    for k in range(pairs.shape[0]):
        first, second, line = flags[pairs[k, 0]], flags[pairs[k, 1]], out[k]
        for i in range(line.shape[0]):
            if (first[i] | second[i]) & BAD or second[i] & JUMP:
                line[i] = F(np.nan)


@inner
def exchange(x: Any, y: Any) -> None:
    """The smaller of each pair into `x` and the larger into `y`."""
    for k in range(x.shape[0]):
        a = x[k]
        b = y[k]
        x[k] = a if a < b else b
        y[k] = b if a < b else a


@inner
def load(values: Any, first: int, tile: Any, count: Any) -> None:
    """Columns of a tile from `first` on; what is not finite counts as absent, and sorts to the end."""
    lanes = min(tile.shape[1], values.shape[1] - first)
    count[:] = F(0)
    here = count[:lanes]
    for j in range(tile.shape[0]):
        line, row = values[j, first : first + lanes], tile[j, :lanes]
        for k in range(lanes):
            x = line[k]
            row[k] = x if abs(x) < LARGEST else ABSENT
        for k in range(lanes):
            here[k] += F(1) if row[k] < LARGEST else F(0)


@inner
def moments(tile: Any, count: Any, mean: Any, squares: Any) -> None:
    """Mean, and sum of the squares about it, of each column."""
    for k in range(tile.shape[1]):
        mean[k] = D(0)
        squares[k] = D(0)
    for j in range(tile.shape[0]):
        row = tile[j]
        for k in range(tile.shape[1]):
            mean[k] += D(row[k]) if row[k] < LARGEST else D(0)
    for k in range(tile.shape[1]):
        mean[k] /= D(max(count[k], F(1)))
    for j in range(tile.shape[0]):
        row = tile[j]
        for k in range(tile.shape[1]):
            d = D(row[k]) - mean[k] if row[k] < LARGEST else D(0)
            squares[k] += d * d


@inner
def outlying(tile: Any, count: Any, mean: Any, squares: Any, sigma: float, median: bool, scatter: Any,
             todo: Any, ends: Any) -> None:  # fmt: skip
    """Standard deviation of each column, and whether a value lies outside the limits.

    The columns are sorted if `median`: then their ends decide. ends (2, columns) is room for the ends.
    """
    n = tile.shape[0]
    for k in range(tile.shape[1]):
        scatter[k] = np.sqrt(squares[k] / D(max(count[k], F(1))))
    if median:
        low, high, below, above = tile[0], tile[n - 1], tile[(n - 1) // 2], tile[n // 2]
        for k in range(tile.shape[1]):
            centre, width = D(0.5) * (D(below[k]) + D(above[k])), sigma * scatter[k]
            out = (D(low[k]) < centre - width) | (D(high[k]) > centre + width)
            todo[k] = out | (count[k] < F(n)) & (count[k] > F(0))
        return
    low, high = ends[0], ends[1]
    low[:], high[:] = LARGEST, -LARGEST
    for j in range(n):
        row = tile[j]
        for k in range(tile.shape[1]):
            x = row[k]
            low[k] = x if x < low[k] else low[k]
            high[k] = x if high[k] < x < LARGEST else high[k]
    for k in range(tile.shape[1]):
        width = sigma * scatter[k]
        todo[k] = (D(low[k]) < mean[k] - width) | (D(high[k]) > mean[k] + width)


@inner
def clipped(tile: Any, k: int, n: int, mean: float, squares: float, sigma: float, times: int,
            found: Any) -> None:  # fmt: skip
    """Mean, standard deviation (ddof 0) and count of what clips about the median leave of a sorted column."""
    low, high = 0, n
    total, square = D(0), squares  # about the mean of all
    for _ in range(times):
        if high - low < 1:
            break
        m = D(high - low)
        width = sigma * np.sqrt(max(square / m - (total / m) ** 2, D(0)))
        centre = D(0.5) * (D(tile[(low + high - 1) // 2, k]) + D(tile[(low + high) // 2, k]))
        before = high - low
        while low < high and D(tile[low, k]) < centre - width:
            d = D(tile[low, k]) - mean
            total -= d
            square -= d * d
            low += 1
        while low < high and D(tile[high - 1, k]) > centre + width:
            d = D(tile[high - 1, k]) - mean
            total -= d
            square -= d * d
            high -= 1
        if high - low == before:
            break
    conclude(mean, total, square, D(high - low), found)


@summing
def clipped_about_mean(tile: Any, k: int, column: Any, count: float, mean: float, squares: float,
                       sigma: float, times: int, found: Any) -> None:  # fmt: skip
    """The same about the mean, of a column in any order.

    Sums are about the mean of all, in any order; what is clipped becomes absent in `column`.
    """
    for j in range(tile.shape[0]):
        column[j] = tile[j, k]
    n, total, square = count, D(0), squares
    for _ in range(times):
        m = max(n, D(1))
        centre = mean + total / m
        width = sigma * np.sqrt(max(square / m - (total / m) ** 2, D(0)))
        low, high, before = centre - width, centre + width, n
        n = total = square = D(0)
        for j in range(column.shape[0]):
            x = D(column[j])
            kept = (low <= x) & (x <= high)
            d = x - mean if kept else D(0)
            n += D(1) if kept else D(0)
            total += d
            square += d * d
            column[j] = column[j] if kept else ABSENT
        if n == before:
            break
    conclude(mean, total, square, n, found)


@inner
def conclude(mean: float, total: float, square: float, n: float, found: Any) -> None:
    """Mean, standard deviation and count from sums about `mean`."""
    m = max(n, D(1))
    found[0] = mean + total / m
    found[1] = np.sqrt(max(square / m - (total / m) ** 2, D(0)))
    found[2] = n


@jit
def spread(values: Any, net: Any, sigma: float, times: int, median: bool, out: Any) -> None:
    """Clipped mean, scatter and count of each pixel, as `astropy.stats.sigma_clip` along the first axis.

    values (N, pixels) float32, NaN absent; net: sorting network of N (comparators, 2); out (4, pixels)
    float32: mean, standard deviation (ddof 0), values kept, values there were. Without values: NaN.
    """
    n = values.shape[0]
    tile = np.empty((n, LANES), np.float32)
    count = np.empty(LANES, np.float32)
    mean, squares, found = np.empty(LANES), np.empty(LANES), np.empty(3)
    for j in range(n):
        tile[j, :] = ABSENT
    scatter, todo, ends = np.empty(LANES), np.empty(LANES, np.bool_), np.empty((2, LANES), np.float32)
    column = np.empty(n, np.float32)
    for first in range(0, values.shape[1], LANES):
        load(values, first, tile, count)
        moments(tile, count, mean, squares)
        if median:
            for j in range(net.shape[0]):
                exchange(tile[net[j, 0]], tile[net[j, 1]])
        outlying(tile, count, mean, squares, sigma, median, scatter, todo, ends)
        here = out[:, first : min(first + LANES, values.shape[1])]
        for k in range(here.shape[1]):
            here[0, k], here[1, k], here[2, k], here[3, k] = F(mean[k]), F(scatter[k]), count[k], count[k]
            if todo[k] and times > 0:
                if median:
                    clipped(tile, k, int(count[k]), mean[k], squares[k], sigma, times, found)
                else:
                    clipped_about_mean(tile, k, column, D(count[k]), mean[k], squares[k], sigma, times, found)
                for j in range(3):
                    here[j, k] = F(found[j])
            if count[k] == F(0):
                here[0, k] = here[1, k] = F(np.nan)


@inner
def line_of(reads: Any, i: int, first: int, groups: int, breaks: Any, found: Any) -> None:
    """Add the squares about one line, and their degrees of freedom, of one pixel's ramp.

    Between two breaks the line has an intercept of its own, and one slope throughout.
    """
    begin = 0
    stt = sty = syy = D(0)
    free = -1
    while begin < groups:
        end = begin + 1
        while end < groups and not breaks[end]:
            end += 1
        if not breaks[begin] or end - begin > 1 or begin == 0:
            n = end - begin
            origin = D(reads[first + begin, i])
            if n > 1 and np.isfinite(origin):
                t = D(0.5) * D(n - 1)
                y = D(0)
                for g in range(n):
                    y += D(reads[first + begin + g, i]) - origin
                y /= D(n)
                for g in range(n):
                    dt, dy = D(g) - t, D(reads[first + begin + g, i]) - origin - y
                    stt += dt * dt
                    sty += dt * dy
                    syy += dy * dy
                free += n - 1
        begin = end
    if free > 0 and stt > D(0):
        found[0] += max(syy - sty * sty / stt, D(0))
        found[1] += D(free)


@jit
def lines(reads: Any, ramps: Any, steps: Any, limits: Any, out: Any) -> None:
    """Add the squares about straight lines through ramps, and their degrees of freedom, to `out`.

    reads (reads, pixels) uint16 or float32; ramps (ramps, 2) first read and number of reads; steps
    (differences of neighbours of these ramps, pixels) float32, NaN where a read is not good; limits
    (2, pixels): steps outside are jumps, and break the line; out (2, pixels) float64.
    """
    longest = 0
    for r in range(ramps.shape[0]):
        longest = max(longest, ramps[r, 1])
    breaks = np.zeros(longest + 1, np.bool_)
    found = np.empty(2)
    for i in range(reads.shape[1]):
        found[0] = found[1] = D(0)
        at = 0
        for r in range(ramps.shape[0]):
            breaks[0] = False
            for g in range(1, ramps[r, 1]):
                x = D(steps[at, i])
                breaks[g] = not (limits[0, i] <= x <= limits[1, i])
                at += 1
            line_of(reads, i, ramps[r, 0], ramps[r, 1], breaks, found)
        out[0, i] += found[0]
        out[1, i] += found[1]


@loose
def boxes(
    values: Any, start: int, cols: int, good: Any, edges: Any, sigma: float, times: int, out: Any
) -> None:
    """Clipped moments of each difference within blocks of columns of a strip of rows.

    values (N, pixels) float32, the strip from pixel `start` on; good (rows * cols) float32, 1 or 0; edges
    (boxes, 2) first and last column + 1; out (N, boxes, 4) float64: pixels there
    were, those kept, their mean, squares about it.
    """
    rows = good.shape[0] // cols
    for j in range(values.shape[0]):
        for b in range(edges.shape[0]):
            limit, mean, there = LARGEST, F(0), D(-1)
            n = q = D(0)
            for _ in range(times + 1):
                n = s = q = D(0)
                for r in range(rows):
                    first = start + r * cols
                    line = values[j, first + edges[b, 0] : first + edges[b, 1]]
                    use = good[r * cols + edges[b, 0] : r * cols + edges[b, 1]]
                    m, t, u = F(0), F(0), F(0)
                    for i in range(line.shape[0]):
                        d = line[i] - mean
                        one = use[i] if abs(d) <= limit else F(0)
                        d = d if abs(d) <= limit else F(0)
                        m += one
                        t += one * d
                        u += one * d * d
                    n += D(m)
                    s += D(t)
                    q += D(u)
                there = n if there < D(0) else there
                if n == D(0):
                    break
                q = max(q - s * s / n, D(0))
                mean += F(s / n)
                limit = F(sigma * np.sqrt(q / n))
            out[j, b, 0], out[j, b, 1], out[j, b, 2], out[j, b, 3] = there, n, D(mean), q


@jit
def census(noise: Any, group: Any, limits: Any, bins: int, sums: Any, counts: Any) -> None:
    """Moments of the values of each group within its limits, and how many lie in which logarithmic bin.

    noise (pixels) float32; group (pixels) int16, negative for none; limits (groups, 4): lowest and highest
    value, first and last edge of the bins; sums (groups, 3) float64: values, their sum and that of squares,
    both about the middle of the limits; counts (groups, bins) int64. Both are added to.
    """
    middle = 0.5 * (limits[:, 0] + limits[:, 1])
    lowest, scale = np.log(limits[:, 2]), bins / np.log(limits[:, 3] / limits[:, 2])
    for i in range(noise.shape[0]):
        g, x = group[i], D(noise[i])
        if g < 0 or not x > D(0):
            continue
        if limits[g, 0] <= x <= limits[g, 1]:
            d = x - middle[g]
            sums[g, 0] += D(1)
            sums[g, 1] += d
            sums[g, 2] += d * d
        if limits[g, 2] <= x < limits[g, 3]:
            at = (D(np.log(noise[i])) - lowest[g]) * scale[g]
            counts[g, min(max(int(at), 0), bins - 1)] += 1
