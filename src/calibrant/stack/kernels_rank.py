"""Kernels of the rejections that look at a pixel's sorted values one by one.

Each keeps the values between two ranks of the sorted column. All kernels of this file call kernels of this
file only: the cache of compiled code does not notice an edit elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

Decorator = Callable[[Any], Any]

D = np.float64
LARGEST = np.int32(0x7F7FFFFF)
MAGNITUDE = np.int32(0x7FFFFFFF)

MAD_CLIP, MIN_MAX, PERCENTILE, P_CLIP, WINSORISED, LINEAR_FIT, EXTREME_DEVIATE, AVERAGE_SIGMA = range(8)

MAD_TO_STD = 1.482602218505602  # of normal values
WINSOR_EDGE = 1.5  # standard deviations at which values are drawn in
WINSOR_FACTOR = 1.134  # standard deviation of normal values over that of the drawn-in ones
WINSOR_STABLE = 0.0005

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy")
inner: Decorator = nb.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@inner
def exchange(x: Any, y: Any) -> None:
    """Put the smaller of each pair into `x` and the larger into `y`."""
    for k in range(x.shape[0]):
        a = x[k]
        b = y[k]
        x[k] = a if a < b else b
        y[k] = b if a < b else a


@inner
def load_sorted(bits: Any, net: Any, tile: Any, count: Any) -> None:
    """Turn the bits of float32 values into keys, count those present, and sort every column."""
    for k in range(bits.shape[1]):
        count[k] = 0
    for i in range(bits.shape[0]):
        for k in range(bits.shape[1]):
            b = bits[i, k]
            key = np.int32(b ^ ((b >> 31) & MAGNITUDE))
            tile[i, k] = key
            count[k] += np.int32(1) if key <= LARGEST else np.int32(0)
    for j in range(net.shape[0]):
        exchange(tile[net[j, 0]], tile[net[j, 1]])


@inner
def column_of(tile: Any, k: Any, n: Any, column: Any) -> None:
    """The values of a sorted column of keys."""
    for i in range(n):
        key = tile[i, k]
        column[i] = D(np.int32(key ^ ((key >> 31) & MAGNITUDE)).view(np.float32))


@inner
def middle(column: Any, a: Any, b: Any) -> Any:
    """Median of the sorted values between ranks."""
    n = b - a
    return D(0.5) * (column[a + (n - 1) // 2] + column[a + n // 2])


@inner
def average(column: Any, a: Any, b: Any) -> Any:
    """Mean of the values between ranks, summed about the first."""
    total = D(0)
    for i in range(a, b):
        total += column[i] - column[a]
    return column[a] + total / (b - a)


@inner
def shrink(column: Any, a: Any, b: Any, bottom: Any, top: Any) -> Any:
    """Ranks of the values within limits."""
    while a < b and column[a] < bottom:
        a += 1
    while b > a and column[b - 1] > top:
        b -= 1
    return a, b


@inner
def absolute_deviation(column: Any, a: Any, b: Any, centre: Any) -> Any:
    """Median absolute deviation from the median of sorted values, by merging outward from it."""
    right = a
    while right < b and column[right] < centre:
        right += 1
    left = right - 1
    n = b - a
    last = D(0)
    now = D(0)
    for _ in range(n // 2 + 1):
        last = now
        if right >= b or (left >= a and centre - column[left] <= column[right] - centre):
            now = centre - column[left]
            left -= 1
        else:
            now = column[right] - centre
            right += 1
    return now if n % 2 else D(0.5) * (last + now)


@inner
def mad_clip(column: Any, n: Any, options: Any, rounds: Any, n_keep: Any) -> Any:
    """Sigma clipping with 1.4826 times the median absolute deviation; options: low, high, about the mean."""
    a, b = 0, n
    bottom, top = -np.inf, np.inf
    for _ in range(rounds):
        median = middle(column, a, b)
        deviation = MAD_TO_STD * absolute_deviation(column, a, b, median)
        centre = average(column, a, b) if options[2] else median
        low, high = centre - options[0] * deviation, centre + options[1] * deviation
        first, end = shrink(column, a, b, low, high)
        if end - first < n_keep or end == first:
            break
        bottom, top = low, high
        if end - first == b - a:
            break
        a, b = first, end
    while a > 0 and column[a - 1] >= bottom:
        a -= 1
    while b < n and column[b] <= top:
        b += 1
    return a, b


@inner
def min_max(n: Any, frames: Any, options: Any, n_keep: Any) -> Any:
    """The lowest and highest; fewer in proportion where values are absent."""
    a = int(options[0]) * n // frames
    b = n - int(options[1]) * n // frames
    return (a, b) if b - a >= n_keep and b > a else (0, n)


@inner
def percentile(column: Any, n: Any, options: Any, n_keep: Any) -> Any:
    """Further from the median than fractions of it."""
    median = middle(column, 0, n)
    size = abs(median)
    a, b = shrink(column, 0, n, median - options[0] * size, median + options[1] * size)
    return (a, b) if b - a >= n_keep else (0, n)


@inner
def p_clip(column: Any, n: Any, options: Any, n_keep: Any) -> Any:
    """The deviation is the distance from the median to the value at a rank; options: rank, low, high."""
    rank = options[0] * n / 2 if abs(options[0]) < 1 else options[0]
    start = D(n // 2)  # from the middle value, or from the nearer of the two
    if rank < 0 and n % 2 == 0:
        start -= 1
    at = min(max(int(np.floor(start + rank + 0.5)), 0), n - 1)
    median = middle(column, 0, n)
    deviation = abs(median - column[at])
    a, b = shrink(column, 0, n, median - options[1] * deviation, median + options[2] * deviation)
    return (a, b) if b - a >= n_keep else (0, n)


@inner
def drawn_in(column: Any, a: Any, b: Any, bottom: Any, top: Any) -> Any:
    """Standard deviation (n - 1) of values drawn in to limits."""
    n = b - a
    total = D(0)
    squares = D(0)
    for i in range(a, b):
        d = min(max(column[i], bottom), top) - column[a]
        total += d
        squares += d * d
    return np.sqrt(abs(squares - total * total / n) / (n - 1))


@inner
def winsorised(column: Any, n: Any, options: Any, rounds: Any, n_keep: Any) -> Any:
    """Sigma clipping about the median with the winsorised standard deviation."""
    a, b = 0, n
    for _ in range(rounds):
        if b - a < 3:
            break
        median = middle(column, a, b)
        deviation = drawn_in(column, a, b, -np.inf, np.inf)
        for _ in range(100):
            before = deviation
            edge = WINSOR_EDGE * before
            deviation = WINSOR_FACTOR * drawn_in(column, a, b, median - edge, median + edge)
            if abs(deviation - before) <= WINSOR_STABLE * before:
                break
        first, end = shrink(column, a, b, median - options[0] * deviation, median + options[1] * deviation)
        if end - first < n_keep or end == first or end - first == b - a:
            break
        a, b = first, end
    return a, b


@inner
def linear_fit(column: Any, n: Any, options: Any, rounds: Any, n_keep: Any) -> Any:
    """Off a straight line through value against rank, in units of the mean distance from it."""
    a, b = 0, n
    for _ in range(rounds):
        count = b - a
        if count < 3:
            break
        mean = average(column, a, b)
        centre = D(0.5) * (count - 1)
        slope = D(0)
        for i in range(a, b):
            slope += (i - a - centre) * (column[i] - mean)
        slope /= count * (D(count) * count - 1) / 12
        distance = D(0)
        for i in range(a, b):
            distance += abs(column[i] - mean - slope * (i - a - centre))
        distance /= count
        first, end = a, b
        while first < end and mean + slope * (first - a - centre) - column[first] > options[0] * distance:
            first += 1
        while end > first and column[end - 1] - mean - slope * (end - 1 - a - centre) > options[1] * distance:
            end -= 1
        if end - first < n_keep or end == first or end - first == count:
            break
        a, b = first, end
    return a, b


@inner
def extreme_deviate(column: Any, n: Any, table: Any, options: Any, n_keep: Any) -> Any:
    """Generalised extreme Studentised deviates; `table` (n, i): critical value of the i-th of n."""
    most = min(max(1, int(options[0] * n)), n - max(n_keep, 3))
    a, b = 0, n
    kept_a, kept_b = 0, n
    for i in range(most):
        mean = average(column, a, b)
        squares = D(0)
        for j in range(a, b):
            squares += (column[j] - mean) ** 2
        deviation = np.sqrt(squares / (b - a - 1))
        low = mean - column[a]
        high = column[b - 1] - mean
        distance = max(low, high)
        if low > high:
            a += 1
        else:
            b -= 1
        if distance > table[n, i] * deviation:
            kept_a, kept_b = a, b
    return kept_a, kept_b


@jit
def rank_limits(
    bits: Any,
    net: Any,
    kind: Any,
    options: Any,
    table: Any,
    rounds: Any,
    n_keep: Any,
    buffers: Any,
    ends: Any,
    ties: Any,
) -> None:
    """Values between which each column is kept, and how many of those on the limits are not.

    bits (N, P) int32 of float32 values, absent +inf; net: sorting network; options (3,); table for the
    extreme deviates; buffers: tile (N, T) int32, count (T,) int32, column (N,) float64; ends (2, P) float64:
    lowest and highest value kept; ties (2, P) int32: values that equal them and are rejected by rank.
    """
    tile, count, column = buffers
    frames, pixels = bits.shape
    width = tile.shape[1]
    for s in range(0, pixels, width):
        e = min(pixels, s + width)
        load_sorted(bits[:, s:e], net, tile, count)
        for k in range(e - s):
            n = int(count[k])
            a, b = 0, n
            column_of(tile, k, n, column)
            if n > 1:
                if kind == MAD_CLIP:
                    a, b = mad_clip(column, n, options, rounds, n_keep)
                elif kind == MIN_MAX:
                    a, b = min_max(n, frames, options, n_keep)
                elif kind == PERCENTILE:
                    a, b = percentile(column, n, options, n_keep)
                elif kind == P_CLIP:
                    a, b = p_clip(column, n, options, n_keep)
                elif kind == WINSORISED:
                    a, b = winsorised(column, n, options, rounds, n_keep)
                elif kind == LINEAR_FIT:
                    a, b = linear_fit(column, n, options, rounds, n_keep)
                elif kind == EXTREME_DEVIATE:
                    a, b = extreme_deviate(column, n, table, options, n_keep)
            keep(column, n, a, b, s + k, ends, ties)


@inner
def keep(column: Any, n: Any, a: Any, b: Any, at: Any, ends: Any, ties: Any) -> None:
    """Write down the ends of what is kept of a column, and the ties on them that are not."""
    ends[0, at] = -np.inf
    ends[1, at] = np.inf
    ties[0, at] = 0
    ties[1, at] = 0
    if a > 0:
        ends[0, at] = column[a]
        i = a - 1
        while i >= 0 and column[i] == column[a]:
            ties[0, at] += 1
            i -= 1
    if b < n:
        ends[1, at] = column[b - 1]
        i = b
        while i < n and column[i] == column[b - 1]:
            ties[1, at] += 1
            i += 1


@inner
def inside(column: Any, a: Any, b: Any) -> Any:
    """Mean of the values between ranks without the lowest and the highest."""
    return average(column, a + 1, b - 1) if b - a > 2 else average(column, a, b)


@jit
def average_sigma_limits(
    bits: Any, net: Any, options: Any, rounds: Any, n_keep: Any, buffers: Any, ends: Any, ties: Any
) -> None:
    """Limits from a noise of c times sqrt(mean), c averaged over each row of the image.

    buffers: tile (N, C) int32, count (C,) int32, column (N,) float64, ranks (2, C) int64 for rows of C
    pixels; options: low, high, about the mean; else as `rank_limits`.
    """
    tile, count, column, ranks = buffers
    pixels = bits.shape[1]
    width = tile.shape[1]
    for s in range(0, pixels, width):
        load_sorted(bits[:, s : s + width], net, tile, count)
        for k in range(width):
            ranks[0, k] = 0
            ranks[1, k] = count[k]
        for _ in range(rounds):
            squares = D(0)
            freedom = 0
            for k in range(width):
                a, b = ranks[0, k], ranks[1, k]
                if b - a >= 3:
                    column_of(tile, k, int(count[k]), column)
                    mean = inside(column, a, b)
                    total = D(0)
                    for i in range(a, b):
                        total += (column[i] - mean) ** 2
                    squares += total / max(mean, D(1))
                    freedom += b - a - 1
            if freedom == 0:
                break
            noise = np.sqrt(squares / freedom)
            gone = 0
            for k in range(width):
                a, b = ranks[0, k], ranks[1, k]
                if b - a >= 3:
                    column_of(tile, k, int(count[k]), column)
                    centre = inside(column, a, b) if options[2] else middle(column, a, b)
                    deviation = noise * np.sqrt(max(centre, D(1)))
                    first, end = shrink(
                        column, a, b, centre - options[0] * deviation, centre + options[1] * deviation
                    )
                    if end - first >= n_keep and end > first:
                        gone += b - a - (end - first)
                        ranks[0, k], ranks[1, k] = first, end
            if gone == 0:
                break
        for k in range(width):
            n = int(count[k])
            column_of(tile, k, n, column)
            keep(column, n, ranks[0, k], ranks[1, k], s + k, ends, ties)


@jit
def cut_ranks(values: Any, ends: Any, ties: Any, low: Any, high: Any) -> None:
    """Make values outside what is kept absent, of ties on the ends the first frames', and count them."""
    absent = np.float32(np.inf)
    for i in range(values.shape[0]):
        for k in range(values.shape[1]):
            v = values[i, k]
            if v < ends[0, k] or (v == ends[0, k] and ties[0, k] > 0):
                if v == ends[0, k]:
                    ties[0, k] -= 1
                low[k] += 1
                values[i, k] = absent
            elif v < absent and (v > ends[1, k] or (v == ends[1, k] and ties[1, k] > 0)):
                if v == ends[1, k]:
                    ties[1, k] -= 1
                high[k] += 1
                values[i, k] = absent


@jit
def grow_rejected(values: Any, state: Any, offsets: Any, rows: Any, n_keep: Any, high: Any) -> None:
    """Reject the neighbours of rejected values in the same frame; they are counted as high.

    state (N, P) uint8: 1 where a value was present before the rejection. A pixel that would keep fewer than
    `n_keep` keeps all its neighbours' growth would take.
    """
    frames, pixels = values.shape
    cols = pixels // rows
    largest = np.float32(3.4028234e38)
    for i in range(frames):
        for k in range(pixels):
            if state[i, k] == 1 and values[i, k] > largest:
                state[i, k] = 2
        for k in range(pixels):
            if state[i, k] == 2:
                for j in range(offsets.shape[0]):
                    row = k // cols + offsets[j, 0]
                    col = k % cols + offsets[j, 1]
                    if 0 <= row < rows and 0 <= col < cols and state[i, row * cols + col] == 1:
                        state[i, row * cols + col] = 3
    for k in range(pixels):
        present = 0
        grown = 0
        for i in range(frames):
            present += state[i, k] == 1
            grown += state[i, k] == 3
        if grown > 0 and present >= n_keep and present > 0:
            for i in range(frames):
                if state[i, k] == 3:
                    values[i, k] = np.float32(np.inf)
            high[k] += grown
