"""The hot kernels: medians, moments and sigma clipping of a band, one pixel per SIMD lane.

A *tile* holds one row per frame, of as many pixels as fit the cache. A network of compare-exchanges of whole
rows sorts all pixels of the tile at once, without a branch. Tiles hold *keys*: the 16-bit numbers
themselves, or for float32 values the 32-bit integers that sort as the values do (comparing integers
vectorises, comparing floats does not). What a clip keeps of a sorted column lies between two ranks: clipping
shrinks it from both ends.

Absent values of a float32 band are +inf, so that a sort puts them last and ranks come from the valid count.
Sums are taken in float64 about the median (or the first value): exact for integers, hence independent of
order.

All kernels of this file call kernels of this file only: the cache of compiled code does not notice an edit
elsewhere. They are few and flat because every function costs a fifth of a second when it is first compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np
from numba.extending import intrinsic

Decorator = Callable[[Any], Any]

F = np.float32
D = np.float64
LARGEST = np.int32(0x7F7FFFFF)  # key of the largest float32: whatever lies above is absent
MAGNITUDE = np.int32(0x7FFFFFFF)

MEAN, MEDIAN, SUM = 0, 1, 2
KEEP_ALL, CLIP_MEDIAN, CLIP_MEAN = 0, 1, 2
SINGLE, BUTTERFLY, FLIP = 0, 1, 2  # blocks of a network

# rows of the float64 scratch
ORIGIN, COUNT, TOTAL, SQUARES, BOTTOM, TOP = range(6)
SCRATCH_ROWS = 6

CANCELLED = 1e-6  # sums that shrink below this fraction when values are taken out are taken anew

_intrinsic: Decorator = intrinsic
jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy")
inner: Decorator = nb.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_intrinsic
def value(typing: Any, key: Any) -> Any:
    """The value of a key: of a 16-bit number or, as a 32-bit integer, of a float32."""
    real = nb.types.float64

    def number(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.uitofp(args[0], context.get_value_type(real))

    def decoded(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = args[0].type
        sign = builder.ashr(args[0], word(31))
        bits = builder.xor(args[0], builder.and_(sign, word(0x7FFFFFFF)))
        single = builder.bitcast(bits, context.get_value_type(nb.types.float32))
        return builder.fpext(single, context.get_value_type(real))

    return real(key), number if key == nb.types.uint16 else decoded


@inner
def sort_tile(tile: Any, net: Any) -> None:
    """Sort all pixels of a tile by a network of blocks (see `calibrant.stack.networks`).

    Blocks of four rows do four comparisons for one load and one store of each row: memory, not comparing, is
    what a network of single exchanges waits for.
    """
    for j in range(net.shape[0]):
        kind = net[j, 0]
        w = tile[net[j, 1]]
        x = tile[net[j, 2]]
        y = tile[net[j, 3]]
        z = tile[net[j, 4]]
        if kind == SINGLE:
            for k in range(tile.shape[1]):
                a = w[k]
                b = x[k]
                w[k] = a if a < b else b
                x[k] = b if a < b else a
        elif kind == FLIP:
            for k in range(tile.shape[1]):
                a = w[k]
                b = x[k]
                c = z[k]
                d = y[k]
                least = a if a < c else c
                most = c if a < c else a
                lesser = b if b < d else d
                greater = d if b < d else b
                w[k] = least if least < lesser else lesser
                x[k] = lesser if least < lesser else least
                y[k] = most if most < greater else greater
                z[k] = greater if most < greater else most
        else:
            for k in range(tile.shape[1]):
                a = w[k]
                b = x[k]
                c = y[k]
                d = z[k]
                least = a if a < c else c
                most = c if a < c else a
                lesser = b if b < d else d
                greater = d if b < d else b
                w[k] = least if least < lesser else lesser
                x[k] = lesser if least < lesser else least
                y[k] = most if most < greater else greater
                z[k] = greater if most < greater else most


@inner
def centre_tile(tile: Any, net: Any, full: Any, sort: Any, scratch: Any, m: Any) -> None:
    """Find an origin for every pixel of a tile.

    The origin is the median where the tile is to be sorted, else the first value present. `full`: no value is
    absent; only the first `m` pixels count.
    """
    frames = tile.shape[0]
    origin, count = scratch[ORIGIN], scratch[COUNT]
    if sort:
        sort_tile(tile, net)
    x = tile[(frames - 1) // 2 if sort else 0]
    y = tile[frames // 2 if sort else 0]
    for k in range(m):
        origin[k] = D(0.5) * (value(x[k]) + value(y[k]))
    if not full:
        for k in range(m):
            n = max(int(count[k]), 1)
            i = 0
            while not sort and i < frames - 1 and tile[i, k] > LARGEST:
                i += 1
            low = (n - 1) // 2 if sort else i
            high = n // 2 if sort else i
            origin[k] = D(0.5) * (value(tile[low, k]) + value(tile[high, k]))


@inner
def moments(tile: Any, full: Any, scratch: Any, m: Any) -> None:
    """Sums about the origin of the values present in a tile."""
    origin, total, squares = scratch[ORIGIN], scratch[TOTAL], scratch[SQUARES]
    for k in range(m):
        total[k] = D(0)
        squares[k] = D(0)
    for i in range(tile.shape[0]):
        x = tile[i]
        if full:
            for k in range(m):
                d = value(x[k]) - origin[k]
                total[k] += d
                squares[k] += d * d
        else:
            for k in range(m):
                key = x[k]
                d = value(key) - origin[k]
                d = d if key <= LARGEST else D(0)
                total[k] += d
                squares[k] += d * d


@inner
def clip_column(
    tile: Any,
    scratch: Any,
    k: Any,
    limits: Any,
    about_mean: Any,
    rounds: Any,
    n_keep: Any,
    bottom: Any,
    top: Any,
) -> Any:
    """Sigma-clip one sorted column; returns the ranks between which it is kept, and its limits.

    Every round takes limits from the values within the last ones; what lies within the last limits of all is
    kept. A round that would leave fewer than `n_keep` is not taken.
    """
    origin, total, squares = scratch[ORIGIN, k], scratch[TOTAL, k], scratch[SQUARES, k]
    first = 0
    end = int(scratch[COUNT, k])
    kept_bottom = -np.inf
    kept_top = np.inf
    for _ in range(rounds):
        a = first
        b = end
        before = squares
        less, lesser = total, squares
        while a < b and value(tile[a, k]) < bottom:
            d = value(tile[a, k]) - origin
            less -= d
            lesser -= d * d
            a += 1
        while b > a and value(tile[b - 1, k]) > top:
            d = value(tile[b - 1, k]) - origin
            less -= d
            lesser -= d * d
            b -= 1
        n = b - a
        if n < n_keep or n == 0:
            break
        kept_bottom, kept_top = bottom, top
        if n == end - first:
            break
        first, end, total, squares = a, b, less, lesser
        if squares < before * CANCELLED:
            total = D(0)
            squares = D(0)
            for i in range(first, end):
                d = value(tile[i, k]) - origin
                total += d
                squares += d * d
        mean = total / n
        deviation = np.sqrt(abs(squares / n - mean * mean))
        centre = origin + mean
        if not about_mean:
            centre = D(0.5) * (value(tile[a + (n - 1) // 2, k]) + value(tile[a + n // 2, k]))
        bottom = centre - limits[0] * deviation
        top = centre + limits[1] * deviation
    scratch[TOTAL, k] = total
    scratch[SQUARES, k] = squares
    first, end = readmit(tile, scratch, k, first, end, kept_bottom, kept_top)
    return first, end, kept_bottom, kept_top


@inner
def readmit(tile: Any, scratch: Any, k: Any, first: Any, end: Any, bottom: Any, top: Any) -> Any:
    """Take back what lies within the last limits of all; returns the ranks, and completes the sums."""
    origin, total, squares = scratch[ORIGIN, k], scratch[TOTAL, k], scratch[SQUARES, k]
    while first > 0 and value(tile[first - 1, k]) >= bottom:
        first -= 1
        d = value(tile[first, k]) - origin
        total += d
        squares += d * d
    while end < int(scratch[COUNT, k]) and value(tile[end, k]) <= top:
        d = value(tile[end, k]) - origin
        total += d
        squares += d * d
        end += 1
    scratch[TOTAL, k] = total
    scratch[SQUARES, k] = squares
    return first, end


@inner
def clip_tile(tile: Any, scratch: Any, choice: Any, limits: Any, low: Any, high: Any) -> None:
    """Sigma-clip a sorted tile: only pixels with a value beyond the limits of the first round need more."""
    about_mean = choice[1] == CLIP_MEAN
    origin, count, total, squares = scratch[ORIGIN], scratch[COUNT], scratch[TOTAL], scratch[SQUARES]
    bottom, top = scratch[BOTTOM], scratch[TOP]
    for k in range(low.shape[0]):
        mean = total[k] / count[k]
        deviation = np.sqrt(abs(squares[k] / count[k] - mean * mean))
        centre = origin[k] + mean * about_mean
        bottom[k] = centre - limits[0] * deviation
        top[k] = centre + limits[1] * deviation
    for k in range(low.shape[0]):
        last = int(count[k]) - 1
        if last <= 0 or (value(tile[0, k]) >= bottom[k] and value(tile[last, k]) <= top[k]):
            bottom[k] = -np.inf
            top[k] = np.inf
            continue
        first, end, bottom[k], top[k] = clip_column(
            tile, scratch, k, limits, about_mean, choice[2], choice[3], bottom[k], top[k]
        )
        low[k] = first
        high[k] = last + 1 - end
        n = end - first
        count[k] = n
        if choice[0] == MEDIAN:  # the sums are moved to the median of what is kept
            median = D(0.5) * (value(tile[first + (n - 1) // 2, k]) + value(tile[first + n // 2, k]))
            shift = median - origin[k]
            squares[k] += shift * (n * shift - 2 * total[k])
            total[k] -= n * shift
            origin[k] = median


@inner
def finish(
    scratch: Any, method: Any, factor: Any, affine: Any, data: Any, planes: Any, s: Any, e: Any
) -> None:
    """Values, variances, counts and limits of the pixels `s` to `e` from the sums of a tile."""
    origin, count, total, squares = scratch[ORIGIN], scratch[COUNT], scratch[TOTAL], scratch[SQUARES]
    variance, number, _, _, bottom, top = planes
    scale, zero = affine[0], affine[1]
    for k in range(e - s):
        n = count[k]
        result = origin[k]
        if method == MEAN:
            result += total[k] / n
        elif method == SUM:
            result = result * n + total[k]
        data[s + k] = F(result * scale + zero * (n if method == SUM else D(1))) if n > 0 else F(np.nan)
    for k in range(e - s if variance.size > 0 else 0):
        n = count[k]
        spread = abs(squares[k] - total[k] * total[k] / n) / (n - 1) * scale * scale * factor[int(n)]
        variance[s + k] = F(spread * n if method == SUM else spread / n) if n > 1 else F(np.nan)
    for k in range(e - s if number.size > 0 else 0):
        number[s + k] = np.uint16(count[k])
    for k in range(e - s if bottom.size > 0 else 0):
        bottom[s + k] = scratch[BOTTOM, k]
        top[s + k] = scratch[TOP, k]


@inner
def load_u2(raw: Any, swap: Any, flip: Any, tile: Any, scratch: Any, s: Any, e: Any) -> None:
    """Decode the pixels `s` to `e` of stored 16-bit numbers: swap bytes where asked, flip bits (BZERO,
    sign)."""
    for i in range(raw.shape[0]):
        src = raw[i, s:e]
        dst = tile[i]
        bits = flip[i]
        if swap[i]:
            for k in range(e - s):
                v = src[k]
                dst[k] = np.uint16((v >> 8) | (v << 8)) ^ bits
        else:
            for k in range(e - s):
                dst[k] = src[k] ^ bits
    for k in range(e - s):
        scratch[COUNT, k] = D(raw.shape[0])


@inner
def load_f4(bits: Any, tile: Any, scratch: Any, tally: Any, s: Any, e: Any) -> Any:
    """Turn the bits of float32 values into keys, and count those present; returns whether all are."""
    frames = bits.shape[0]
    for k in range(e - s):
        tally[k] = 0
    for i in range(frames):
        src = bits[i, s:e]
        dst = tile[i]
        for k in range(e - s):
            b = src[k]
            key = np.int32(b ^ ((b >> 31) & MAGNITUDE))
            dst[k] = key
            tally[k] += np.int32(1) if key <= LARGEST else np.int32(0)
    full = True
    for k in range(e - s):
        full = full and tally[k] == frames
        scratch[COUNT, k] = D(tally[k])
    return full


@jit
def stack_u2(
    raw: Any,
    swap: Any,
    flip: Any,
    nets: Any,
    choice: Any,
    limits: Any,
    factor: Any,
    affine: Any,
    buffers: Any,
    data: Any,
    planes: Any,
) -> None:
    """Combine a band of stored 16-bit numbers that share one affine map and have no gaps.

    raw (N, P) uint16 as stored; swap, flip (N,); nets: whole and median network of blocks; choice: method,
    clip, rounds, n_keep; limits (2,) in standard deviations; factor (N + 1,); affine: scale, zero; buffers:
    tile (N, T) uint16, scratch (6, T), tally (T,) int32; data (P,) float32; planes: variance, count, low,
    high, bottom, top, each (P,) or empty.
    """
    tile, scratch, _ = buffers
    width = tile.shape[1]
    sort = choice[0] == MEDIAN
    for s in range(0, raw.shape[1], width):
        e = min(raw.shape[1], s + width)
        load_u2(raw, swap, flip, tile, scratch, s, e)
        centre_tile(tile, nets[1], True, sort, scratch, e - s)
        if not sort or planes[0].size > 0:
            moments(tile, True, scratch, e - s)
        finish(scratch, choice[0], factor, affine, data, planes, s, e)


@jit
def clip_u2(
    raw: Any,
    swap: Any,
    flip: Any,
    nets: Any,
    choice: Any,
    limits: Any,
    factor: Any,
    affine: Any,
    buffers: Any,
    data: Any,
    planes: Any,
) -> None:
    """Sigma-clip and combine a band of stored 16-bit numbers; arguments as of `stack_u2`, low and high
    (P,)."""
    tile, scratch, _ = buffers
    width = tile.shape[1]
    for s in range(0, raw.shape[1], width):
        e = min(raw.shape[1], s + width)
        load_u2(raw, swap, flip, tile, scratch, s, e)
        centre_tile(tile, nets[0], True, True, scratch, e - s)
        moments(tile, True, scratch, e - s)
        clip_tile(tile, scratch, choice, limits, planes[2][s:e], planes[3][s:e])
        finish(scratch, choice[0], factor, affine, data, planes, s, e)


@jit
def stack_f4(
    bits: Any,
    nets: Any,
    choice: Any,
    limits: Any,
    factor: Any,
    affine: Any,
    buffers: Any,
    data: Any,
    planes: Any,
) -> None:
    """Combine a band of float32 values, absent ones +inf, given as their bits.

    bits (N, P) int32; tile (N, T) int32; else as `stack_u2`.
    """
    tile, scratch, tally = buffers
    width = tile.shape[1]
    sort = choice[0] == MEDIAN
    for s in range(0, bits.shape[1], width):
        e = min(bits.shape[1], s + width)
        full = load_f4(bits, tile, scratch, tally, s, e)
        net = nets[1] if full else nets[0]
        centre_tile(tile, net, full, sort, scratch, e - s)
        if not sort or planes[0].size > 0:
            moments(tile, full, scratch, e - s)
        finish(scratch, choice[0], factor, affine, data, planes, s, e)


@jit
def clip_f4(
    bits: Any,
    nets: Any,
    choice: Any,
    limits: Any,
    factor: Any,
    affine: Any,
    buffers: Any,
    data: Any,
    planes: Any,
) -> None:
    """Sigma-clip and combine a band of float32 values; arguments as of `stack_f4`, low and high (P,)."""
    tile, scratch, tally = buffers
    width = tile.shape[1]
    for s in range(0, bits.shape[1], width):
        e = min(bits.shape[1], s + width)
        full = load_f4(bits, tile, scratch, tally, s, e)
        centre_tile(tile, nets[0], full, True, scratch, e - s)
        moments(tile, full, scratch, e - s)
        clip_tile(tile, scratch, choice, limits, planes[2][s:e], planes[3][s:e])
        finish(scratch, choice[0], factor, affine, data, planes, s, e)
