"""Kernels on bands of float32 values: admission by flags, noise limits, weights, propagated variance.

Absent values are +inf. All kernels of this file call kernels of this file only: the cache of compiled code
does not notice an edit elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

Decorator = Callable[[Any], Any]

F = np.float32
D = np.float64
BIG = np.float32(3.4028234e38)
ABSENT = np.float32(np.inf)
LEVELS = 4  # levels of badness below "no value"

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy")
inner: Decorator = nb.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@jit
def widen_u2(raw: Any, values: Any, swap: Any, flip: Any, scale: Any, zero: Any, blank: Any) -> None:
    """Decode stored 16-bit numbers to float32; the stored number `blank` (-1: none) becomes absent."""
    for k in range(raw.shape[0]):
        v = raw[k]
        if swap:
            v = np.uint16((v >> 8) | (v << 8))
        u = np.uint16(v ^ flip)
        values[k] = F(D(u) * scale + zero)
    if blank >= 0:
        for k in range(raw.shape[0]):
            v = raw[k]
            if swap:
                v = np.uint16((v >> 8) | (v << 8))
            if v == blank:
                values[k] = ABSENT


@inner
def badness(value: Any, bits: Any, severe: Any, levels: Any) -> Any:
    """Level of badness of a value: 0 good, ..., `levels` unusable."""
    if not np.isfinite(value):
        return levels
    for level in range(levels, 0, -1):
        if bits & severe[level - 1]:
            return level
    return 0


@jit
def judge(
    values: Any, dq: Any, mask: Any, floor: Any, ceiling: Any, marks: Any, severe: Any, best: Any, bits: Any
) -> None:
    """Find, for each pixel, the least badness among its values, and the flags of the values of that badness.

    values (N, P); dq (N, P) or (0, 0); mask (P,) or (0,); floor, ceiling (N,) raw limits; marks: flags for
    values below the floor and at or above the ceiling; severe: flags of badness 1, 2, ...; the last level is
    unusable.
    """
    levels = severe.shape[0]
    for k in range(values.shape[1]):
        best[k] = levels
        bits[k] = 0
    for i in range(values.shape[0]):
        for k in range(values.shape[1]):
            flags = mask[k] if mask.size > 0 else np.uint32(0)
            if dq.size > 0:
                flags |= dq[i, k]
            v = values[i, k]
            if v >= ceiling[i]:
                flags |= marks[1]
            if v < floor[i]:
                flags |= marks[0]
            level = badness(v, flags, severe, levels) if flags or not np.isfinite(v) else 0
            if level < best[k]:
                best[k] = level
                bits[k] = flags
            elif level == best[k]:
                bits[k] |= flags
            if dq.size > 0:
                dq[i, k] = flags


@jit
def admit(
    values: Any,
    dq: Any,
    mask: Any,
    floor: Any,
    ceiling: Any,
    marks: Any,
    severe: Any,
    best: Any,
    zero: Any,
    scale: Any,
) -> None:
    """Shift and scale the values that are as good as the best of their pixel; the others become absent."""
    levels = severe.shape[0]
    for i in range(values.shape[0]):
        for k in range(values.shape[1]):
            v = values[i, k]
            flags = mask[k] if mask.size > 0 else np.uint32(0)
            if dq.size > 0:
                flags |= dq[i, k]
            if v >= ceiling[i]:
                flags |= marks[1]
            if v < floor[i]:
                flags |= marks[0]
            level = badness(v, flags, severe, levels) if flags or not np.isfinite(v) else 0
            good = level < levels and level == best[k]
            values[i, k] = F((D(v) + zero[i]) * scale[i]) if good else ABSENT


@jit
def admit_all(values: Any, zero: Any, scale: Any) -> None:
    """Shift and scale values without flags; those that are not finite become absent."""
    for i in range(values.shape[0]):
        for k in range(values.shape[1]):
            v = values[i, k]
            values[i, k] = F((D(v) + zero[i]) * scale[i]) if np.isfinite(v) else ABSENT


@jit
def cut(values: Any, bottom: Any, top: Any, low: Any, high: Any) -> None:
    """Make values beyond their pixel's limits absent, and count them."""
    for i in range(values.shape[0]):
        for k in range(values.shape[1]):
            v = values[i, k]
            if v < bottom[k]:
                low[k] += 1
                values[i, k] = ABSENT
            elif v > top[k] and v <= BIG:
                high[k] += 1
                values[i, k] = ABSENT


BLOCK = 2048  # pixels whose scratch stays in the innermost cache


@inner
def noise_of(centre: Any, i: Any, first: Any, model: Any, index: Any, planes: Any, out: Any) -> None:
    """Variance of frame `i` for a block of pixels if their true values were `centre`.

    centre, out (B,), in units of the combination; first: the block's first pixel in the planes (J, P).
    model (N, 7): read noise, background, factor, 1/gain, scale of the noise's unit, zero and scale of the
    combination; index (N, 2): planes of read noise and background, -1 for none. Scalars are taken out of the
    loops, which then run over whole registers.
    """
    zero = model[i, 5]
    scale = model[i, 6]
    unit = model[i, 4]
    whole = (unit * scale) * (unit * scale)
    inverse_gain = model[i, 3]
    n = centre.shape[0]
    if index[i, 1] >= 0:
        factor = model[i, 2]
        background = planes[index[i, 1], first : first + n]
        for k in range(n):
            out[k] = (D(centre[k]) / scale - zero) / unit + D(background[k]) * factor
    else:
        level = model[i, 1] * model[i, 2]
        for k in range(n):
            out[k] = (D(centre[k]) / scale - zero) / unit + level
    if index[i, 0] >= 0:
        read = planes[index[i, 0], first : first + n]
        for k in range(n):
            out[k] = whole * (D(read[k]) * D(read[k]) + max(out[k], D(0)) * inverse_gain)
    else:
        square = model[i, 0] * model[i, 0]
        for k in range(n):
            out[k] = whole * (square + max(out[k], D(0)) * inverse_gain)


@inner
def same_noise(i: Any, model: Any, index: Any) -> Any:
    """Whether frame `i` has the noise of the frame before it, whose variances need not be made again."""
    if i == 0 or index[i, 0] != index[i - 1, 0] or index[i, 1] != index[i - 1, 1]:
        return False
    same = True
    for j in range(model.shape[1]):
        same = same and model[i, j] == model[i - 1, j]
    return same


@inner
def count_beyond(
    row: Any, centre: Any, variance: Any, below: Any, above: Any, present: Any, under: Any, over: Any
) -> None:
    """Count, for a block of one frame, values that are there, under the lower and over the upper limit.

    below, above: squares of the limits in sigmas. Each count has an array of its own: slices of a matrix
    would not be contiguous, and the loop would go value by value.
    """
    for k in range(row.shape[0]):
        d = D(row[k]) - D(centre[k])
        here = row[k] <= BIG
        square = d * d
        present[k] += 1 if here else 0
        under[k] += 1 if here and d < 0 and square > below * variance[k] else 0
        over[k] += 1 if here and d > 0 and square > above * variance[k] else 0


@inner
def take_out(row: Any, centre: Any, variance: Any, below: Any, above: Any, cut: Any) -> None:
    """Make values of one frame beyond the limits absent, where `cut` says that the pixel allows it."""
    for k in range(row.shape[0]):
        d = D(row[k]) - D(centre[k])
        limit = below if d < 0 else above
        if cut[k] and row[k] <= BIG and d * d > limit * variance[k]:
            row[k] = ABSENT


@jit
def noise_cut(
    values: Any,
    centre: Any,
    limits: Any,
    n_keep: Any,
    model: Any,
    index: Any,
    planes: Any,
    low: Any,
    high: Any,
    count: Any,
) -> Any:
    """Make values beyond noise limits about the centre absent; returns how many.

    A pixel that would keep fewer than `n_keep` keeps all it has.
    """
    gone = 0
    frames, pixels = values.shape
    variance = np.empty(BLOCK)
    present = np.empty(BLOCK, np.int32)
    under = np.empty(BLOCK, np.int32)
    over = np.empty(BLOCK, np.int32)
    cut = np.empty(BLOCK, np.bool_)
    below = limits[0] * limits[0]
    above = limits[1] * limits[1]
    for first in range(0, pixels, BLOCK):
        n = min(BLOCK, pixels - first)
        middle = centre[first : first + n]
        for k in range(n):  # a slice assignment takes numba much longer to compile
            present[k] = 0
            under[k] = 0
            over[k] = 0
        for i in range(frames):
            if not same_noise(i, model, index):
                noise_of(middle, i, first, model, index, planes, variance[:n])
            row = values[i, first : first + n]
            count_beyond(row, middle, variance[:n], below, above, present[:n], under[:n], over[:n])
        some = 0
        for k in range(n):
            beyond = under[k] + over[k]
            cut[k] = beyond > 0 and present[k] - beyond >= n_keep
            count[first + k] = present[k]
            if cut[k]:
                some += beyond
                low[first + k] += under[k]
                high[first + k] += over[k]
                count[first + k] -= beyond
        if some > 0:
            gone += some
            for i in range(frames):
                if not same_noise(i, model, index):
                    noise_of(middle, i, first, model, index, planes, variance[:n])
                take_out(values[i, first : first + n], middle, variance[:n], below, above, cut[:n])
    return gone


@inner
def add_shares(row: Any, variance: Any, weight: Any, count: Any, share: Any, total: Any) -> None:
    """Add one frame's weight and weighted variance to the pixels of a block where its value is present."""
    for k in range(row.shape[0]):
        here = row[k] <= BIG
        count[k] += 1 if here else 0
        share[k] += weight if here else D(0)
        total[k] += weight * weight * variance[k] if here else D(0)


@jit
def propagate(
    values: Any,
    centre: Any,
    weights: Any,
    summed: Any,
    model: Any,
    index: Any,
    planes: Any,
    factor: Any,
    out: Any,
) -> None:
    """Variance of the combined value from the noise model, evaluated at that value for every frame that was
    used.

    centre (P,): the combined value of one frame; weights (N,); factor (N + 1,) by count, for the median or
    the losses of a rejection; `summed`: of a sum.
    """
    frames, pixels = values.shape
    variance = np.empty(BLOCK)
    share = np.empty(BLOCK)
    total = np.empty(BLOCK)
    count = np.empty(BLOCK, np.int32)
    for first in range(0, pixels, BLOCK):
        n = min(BLOCK, pixels - first)
        middle = centre[first : first + n]
        for k in range(n):
            share[k] = 0
            total[k] = 0
            count[k] = 0
        for i in range(frames):
            if not same_noise(i, model, index):
                noise_of(middle, i, first, model, index, planes, variance[:n])
            add_shares(
                values[i, first : first + n], variance[:n], weights[i], count[:n], share[:n], total[:n]
            )
        for k in range(n):
            if count[k] == 0 or share[k] == 0:
                out[first + k] = np.nan
            elif summed:
                out[first + k] = F(total[k] * factor[count[k]])
            else:
                out[first + k] = F(total[k] * factor[count[k]] / (share[k] * share[k]))


@jit
def weigh(values: Any, weights: Any, factor: Any, data: Any, variance: Any, count: Any) -> None:
    """Weighted means; the variance divides each squared residual by one minus its share of the weight.

    That is exact for weights of inverse variance and for equal ones, and needs no common variance.
    """
    for k in range(values.shape[1]):
        n = 0
        share = D(0)
        total = D(0)
        origin = D(0)
        for i in range(values.shape[0]):
            v = values[i, k]
            if v <= BIG and weights[i] > 0:
                if n == 0:
                    origin = D(v)
                n += 1
                share += weights[i]
                total += weights[i] * (D(v) - origin)
        count[k] = n
        data[k] = np.nan
        if variance.size > 0:
            variance[k] = np.nan
        if n > 0:
            mean = total / share
            data[k] = F(origin + mean)
            if variance.size > 0 and n > 1:
                squares = D(0)
                for i in range(values.shape[0]):
                    v = values[i, k]
                    if v <= BIG and weights[i] > 0:
                        p = weights[i] / share
                        d = D(v) - origin - mean
                        squares += p * p * d * d / (1 - p)
                variance[k] = F(squares * factor[n])
