"""Kernels of a dark library: lines in time that share a zero level, pixel by pixel.

Frames stand in the order of their temperature groups, and in them by time: those of one temperature and time
are a setting. `frames` (FRAME fields, frames) float64 and `groups`
(GROUP fields, groups) float64 hold what all pixels share. All kernels of this file call kernels of this file
only: the cache of compiled code does not notice an edit elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

Decorator = Callable[[Any], Any]

F = np.float32
PIECE = 1024  # pixels worked on together: their sums stay in the nearest cache, their values in the next
LANES = {"nsz", "contract"}  # nothing that rounds the pixels at the end of a band otherwise

TIME, WEIGHT, SHIFT, MEMBER, STRESS, END = range(6)
"""Of a frame: seconds, 1/adu2, adu, group, 1 / (1 - leverage), the frame after the last of its setting.
A stress of 0 means: cannot be tested."""

LAW, MEAN, INVERSE, READ, PHOTON, ZERO_PHOTON, LARGE = range(7)
"""Of a group: expected rate, St/Stt, 1/Stt, variance of the rate per adu2 and per electron rate; part of the
variance of the zero level; rate from which a pixel is worth weights of its own."""

RN2, GAIN, FREE, ZERO, ZERO_READ, LIMIT, SATURATION = range(7)
"""Of the fit: read variance, e-/adu, 1 if the zero level is fitted, the reciprocal of its normal equation,
its variance per read variance, sigmas, adu."""

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath=LANES)
inner: Decorator = nb.njit(
    nogil=True, error_model="numpy", fastmath=LANES, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


@inner
def add_up(part: Any, values: Any, pivot: Any, frames: Any, zero: Any, rates: Any, sums: Any) -> None:
    """Weighted sums of values into `zero`, and of values times time for each group into `rates`.

    Frames of a setting share their weight: they are added first, two at a time, which spares stores.
    """
    level, total = pivot[part], zero[part]
    total[:] = 0
    rates[:, part] = 0
    first = 0
    while first < values.shape[0]:
        end = int(frames[END, first])
        sums[:] = 0
        for i in range(first, end, 2):
            j = min(i + 1, end - 1)
            one, two, even = values[i, part], values[j, part], F(j - i)
            shift, other = F(frames[SHIFT, i]), F(frames[SHIFT, j])
            for k in range(level.size):
                sums[k] += F(one[k]) - shift - level[k] + even * (F(two[k]) - other - level[k])
        by_time = rates[int(frames[MEMBER, first]), part]
        w, wt = F(frames[WEIGHT, first]), F(frames[WEIGHT, first] * frames[TIME, first])
        for k in range(level.size):
            total[k] += w * sums[k]
            by_time[k] += wt * sums[k]
        first = end


@inner
def solve(
    part: Any, groups: Any, fit: Any, zero: Any, rates: Any, zero_var: Any, var: Any, mean: Any
) -> None:
    """Zero level and rates in the place of their sums, for pixels of which every value is good."""
    free, factor = F(fit[FREE]), F(fit[ZERO])
    total, total_var = zero[part], zero_var[part]
    if fit[FREE] > 0:
        total_var[:] = F(fit[ZERO_READ] * fit[RN2])
        for j in range(rates.shape[0]):
            c, rate = F(groups[MEAN, j]), rates[j, part]
            for k in range(total.size):
                total[k] -= c * rate[k]
        for k in range(total.size):
            total[k] *= factor
    else:
        total[:] = 0
    for j in range(rates.shape[0]):
        c, one = F(groups[MEAN, j]), F(groups[INVERSE, j])
        read, photon = F(groups[READ, j] * fit[RN2]), F(groups[PHOTON, j] / fit[GAIN])
        own = F(groups[ZERO_PHOTON, j] / fit[GAIN]) * free
        rate, rate_var = rates[j, part], var[j, part]
        mean[j, part] = c
        for k in range(total.size):
            r = rate[k] * one - c * total[k]
            light = r if r > F(0) else F(0)
            rate[k] = r
            rate_var[k] = read + photon * light
            total_var[k] += own * light


@inner
def judge(
    part: Any, values: Any, pivot: Any, frames: Any, groups: Any, fit: Any,
    zero: Any, rates: Any, chi2: Any, bad: Any, expected: Any, inverse: Any,
) -> None:  # fmt: skip
    """Sum of squared residuals in sigmas, and a count of what must be looked at value by value."""
    rn2, per_gain, full = F(fit[RN2]), F(1.0 / fit[GAIN]), F(fit[SATURATION])
    square = F(fit[LIMIT] ** 2)
    level, base, squares, flaws = pivot[part], zero[part], chi2[part], bad[part]
    squares[:] = 0
    flaws[:] = 0
    first = 0
    while first < values.shape[0]:
        end = int(frames[END, first])
        t, stress = F(frames[TIME, first]), F(frames[STRESS, first])
        rate = rates[int(frames[MEMBER, first]), part]
        for k in range(level.size):
            dark = rate[k] * t
            expected[k] = level[k] + base[k] + dark
            inverse[k] = F(1) / (rn2 + (dark if dark > F(0) else F(0)) * per_gain)
        for i in range(first, end, 2):
            j = min(i + 1, end - 1)
            one, two, even = values[i, part], values[j, part], F(j - i)
            shift, other = F(frames[SHIFT, i]), F(frames[SHIFT, j])
            for k in range(level.size):
                a, b = F(one[k]) - shift - expected[k], F(two[k]) - other - expected[k]
                za, zb = a * a * inverse[k], b * b * inverse[k]
                squares[k] += za + even * zb
                near = (za * stress <= square) & (zb * stress <= square)
                flaws[k] += F(0) if near & (F(one[k]) < full) & (F(two[k]) < full) else F(1)
        first = end
    for j in range(rates.shape[0]):
        most, rate = F(groups[LARGE, j]), rates[j, part]
        for k in range(flaws.size):
            flaws[k] += F(0) if rate[k] <= most else F(1)


@jit
def fit_lines(
    values: Any, pivot: Any, frames: Any, groups: Any, fit: Any,
    zero: Any, rates: Any, zero_var: Any, var: Any, mean: Any, chi2: Any, bad: Any,
) -> None:  # fmt: skip
    """Zero level and rates of every pixel with the weights that all share, and how well they fit.

    values (frames, pixels) uint16 or float32, pivot (pixels,) float32. All that follows is float32 and
    overwritten. zero (pixels,): zero level less the pivot; rates (groups, pixels); zero_var (pixels,): its
    variance, kept where it is not fitted; var, mean (groups, pixels): variance of the rate at a given zero
    level, and St/Stt; chi2 (pixels,); bad (pixels,): above 0 where values are missing, saturated or too far
    off, or rates deserve other weights.
    """
    some, others = np.empty(PIECE, F), np.empty(PIECE, F)
    for start in range(0, values.shape[1], PIECE):
        part = slice(start, min(start + PIECE, values.shape[1]))
        a, b = some[: part.stop - start], others[: part.stop - start]
        add_up(part, values, pivot, frames, zero, rates, a)
        solve(part, groups, fit, zero, rates, zero_var, var, mean)
        judge(part, values, pivot, frames, groups, fit, zero, rates, chi2, bad, a, b)


@inner
def weigh(w: Any, y: Any, frames: Any, sums: Any, rate: Any, free: Any) -> Any:
    """Zero level, and rates into `rate`, of one pixel; sums (3, groups): St, Stt, Sty. Also 1 / D."""
    sums[:] = 0.0
    s = 0.0
    sy = 0.0
    for i in range(w.shape[0]):
        if w[i] > 0.0:
            j = int(frames[MEMBER, i])
            wt = w[i] * frames[TIME, i]
            s += w[i]
            sy += w[i] * y[i]
            sums[0, j] += wt
            sums[1, j] += wt * frames[TIME, i]
            sums[2, j] += wt * y[i]
    b = 0.0
    one = 0.0
    if free > 0.0:
        det = s
        right = sy
        for j in range(rate.shape[0]):
            if sums[1, j] > 0.0:
                det -= sums[0, j] ** 2 / sums[1, j]
                right -= sums[0, j] * sums[2, j] / sums[1, j]
        one = 1.0 / det if det > 1e-9 * s else np.nan
        b = right * one
    for j in range(rate.shape[0]):
        rate[j] = (sums[2, j] - b * sums[0, j]) / sums[1, j] if sums[1, j] > 0.0 else np.nan
    return b, one


@inner
def worst_of(w: Any, y: Any, frames: Any, sums: Any, rate: Any, fit: Any, b: Any, one: Any) -> Any:
    """The value farthest from what the others foretell, with the noise that they foretell; -1 if none."""
    worst = -1
    most = fit[LIMIT] ** 2
    for i in range(w.shape[0]):
        if w[i] > 0.0:
            j = int(frames[MEMBER, i])
            t = frames[TIME, i]
            c = sums[0, j] / sums[1, j] if sums[1, j] > 0.0 else 0.0
            r = rate[j] if sums[1, j] > 0.0 else 0.0
            lever = 1.0 - c * t
            slope = t / sums[1, j] - c * lever * one if sums[1, j] > 0.0 else 0.0
            left = 1.0 - w[i] * (t * t / sums[1, j] if sums[1, j] > 0.0 else 0.0) - w[i] * lever**2 * one
            if left > 1e-6:
                e = y[i] - b - r * t
                r -= w[i] * slope * e / left
                z2 = e * e / (left * (fit[RN2] + max(r, 0.0) * t / fit[GAIN]))
                # Hits add counts: of two values that accuse each other the higher one is left out.
                z2 *= 1.002 if e > 0 else 1.0
                if z2 > most:
                    worst = i
                    most = z2
    return worst


@jit
def mend(
    values: Any, pivot: Any, frames: Any, fit: Any, bad: Any, most: Any,
    zero: Any, rates: Any, chi2: Any, zero_var: Any, var: Any, mean: Any, count: Any,
) -> None:  # fmt: skip
    """Pixels with `bad` values once more: missing ones and outliers left out, each value with its own weight.

    The worst value of a pixel is left out while it is beyond the limit, `most` of them at the most.
    """
    n, many = frames.shape[1], rates.shape[0]
    w, y = np.empty(n), np.empty(n)
    sums, rate = np.empty((3, many)), np.empty(many)
    for k in range(bad.shape[0]):
        if bad[k] == F(0):
            continue
        for i in range(n):
            v = F(values[i, k])
            y[i] = v - frames[SHIFT, i] - pivot[k]
            w[i] = frames[WEIGHT, i] if math.isfinite(v) and v < fit[SATURATION] else 0.0
        b, one = weigh(w, y, frames, sums, rate, fit[FREE])
        for step in range(most + 2):
            for i in range(n):
                if w[i] > 0.0:
                    r = rate[int(frames[MEMBER, i])]
                    light = r * frames[TIME, i] / fit[GAIN] if r > 0.0 else 0.0
                    w[i] = 1.0 / (fit[RN2] + light)
            b, one = weigh(w, y, frames, sums, rate, fit[FREE])
            if step == 0 or step == most + 1:
                continue  # weights first
            i = worst_of(w, y, frames, sums, rate, fit, b, one)
            if i < 0:
                break
            w[i] = 0.0
            b, one = weigh(w, y, frames, sums, rate, fit[FREE])
        store(k, w, y, frames, sums, rate, fit, b, one, zero, rates, chi2, zero_var, var, mean, count)


@inner
def store(
    k: Any, w: Any, y: Any, frames: Any, sums: Any, rate: Any, fit: Any, b: Any, one: Any,
    zero: Any, rates: Any, chi2: Any, zero_var: Any, var: Any, mean: Any, count: Any,
) -> None:  # fmt: skip
    """What a mended pixel has become."""
    total = 0.0
    used = 0
    for i in range(w.shape[0]):
        if w[i] > 0.0:
            r = rate[int(frames[MEMBER, i])]
            e = y[i] - b - (r * frames[TIME, i] if math.isfinite(r) else 0.0)
            total += w[i] * e * e
            used += 1
    zero[k] = b
    if fit[FREE] > 0.0:
        zero_var[k] = one
    chi2[k] = total
    count[k] = used
    for j in range(rate.shape[0]):
        rates[j, k] = rate[j]
        var[j, k] = 1.0 / sums[1, j] if sums[1, j] > 0.0 else np.nan
        mean[j, k] = sums[0, j] / sums[1, j] if sums[1, j] > 0.0 else np.nan
