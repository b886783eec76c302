"""Kernels of a dark library: lines in time that share a zero level, pixel by pixel.

Frames stand in the order of their temperature groups, and in them by time: those of one temperature and time
are a setting, of `TOGETHER` frames at most. `frames` (FRAME fields, frames) float64 and `groups`
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
TOGETHER = 8  # frames that are read at once
PIECE = 2048  # pixels worked on together: their sums stay in the nearest cache
FOUND_PIXELS = 1 << 16  # of all settings together: what was found of them stays in the next
LANES = {"nsz", "contract"}  # nothing that rounds the pixels at the end of a band otherwise

TIME, WEIGHT, SHIFT, MEMBER, STRESS, END = range(6)
"""Of a frame: seconds, 1/adu2, adu, group, 1 / (1 - leverage), the frame after the last of its setting.
A stress of 0 means: cannot be tested."""

COUNT, SECONDS, HARDNESS, BY_VALUE, BY_TIME, FULL, GROUP = range(7)
"""Of a setting: its frames, their time and stress, the weights of their mean and of it times time, the lowest
of their limits of saturation less the shift [adu], their group."""

VALUE, SCATTER = range(2)
"""Of the frames of a setting in a pixel: their mean above the pivot, adu; sum of squares about it, adu2."""

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


@jit
def turn(values: Any) -> None:
    """Big-endian int16 of BZERO 32768, in the place of native uint16: (pixels,), in one pass."""
    for k in range(values.size):
        v = values[k]
        values[k] = ((v >> np.uint16(8)) | (v << np.uint16(8))) ^ np.uint16(0x8000)


@inner
def settings_of(frames: Any, fit: Any) -> Any:
    """What the frames of each setting share, (settings, SETTING fields) float32."""
    many = 0
    for i in range(frames.shape[1]):
        many += 1 if int(frames[END, i]) == i + 1 else 0
    found = np.empty((many, 7), F)
    first = 0
    for one in found:
        end = int(frames[END, first])
        one[COUNT], one[SECONDS], one[HARDNESS] = end - first, frames[TIME, first], frames[STRESS, first]
        one[BY_VALUE] = frames[WEIGHT, first] * (end - first)
        one[BY_TIME] = frames[WEIGHT, first] * (end - first) * frames[TIME, first]
        one[FULL] = fit[SATURATION] - frames[SHIFT, first:end].max()
        one[GROUP] = frames[MEMBER, first]
        first = end
    return found


@inner
def nth(first: Any, end: Any, m: Any) -> Any:
    """A frame of a setting; where there are not as many the first, which adds nothing once more."""
    return first + m if first + m < end else first


@inner
def take_four(
    there: Any, values: Any, place: Any, first: Any, end: Any, shifts: Any, level: Any, found: Any
) -> None:
    """Mean and scatter of up to four frames of a setting, each value read once.

    All is counted from the first value, so that float32 squares lose nothing.
    """
    i, j, h = nth(first, end, 1), nth(first, end, 2), nth(first, end, 3)
    zero, one = values[place[first], there], values[place[i], there]
    two, three = values[place[j], there], values[place[h], there]
    s0, s1, s2, s3 = F(shifts[first]), F(shifts[i]), F(shifts[j]), F(shifts[h])
    per, mean, scatter = F(1.0 / (end - first)), found[VALUE], found[SCATTER]
    for k in range(level.size):
        base = F(zero[k]) - s0
        a, b, c = F(one[k]) - s1 - base, F(two[k]) - s2 - base, F(three[k]) - s3 - base
        total = a + b + c
        by = total * per
        mean[k] = (base - level[k]) + by
        scatter[k] = (a * a + b * b + c * c) - total * by


@inner
def take_eight(
    there: Any, values: Any, place: Any, first: Any, end: Any, shifts: Any, level: Any, found: Any
) -> None:
    """As `take_four`, of up to eight."""
    i, j, h = nth(first, end, 1), nth(first, end, 2), nth(first, end, 3)
    p, q, r, s = nth(first, end, 4), nth(first, end, 5), nth(first, end, 6), nth(first, end, 7)
    zero, one = values[place[first], there], values[place[i], there]
    two, three = values[place[j], there], values[place[h], there]
    four, five = values[place[p], there], values[place[q], there]
    six, last = values[place[r], there], values[place[s], there]
    s0, s1, s2, s3 = F(shifts[first]), F(shifts[i]), F(shifts[j]), F(shifts[h])
    s4, s5, s6, s7 = F(shifts[p]), F(shifts[q]), F(shifts[r]), F(shifts[s])
    per, mean, scatter = F(1.0 / (end - first)), found[VALUE], found[SCATTER]
    for k in range(level.size):
        base = F(zero[k]) - s0
        a, b, c = F(one[k]) - s1 - base, F(two[k]) - s2 - base, F(three[k]) - s3 - base
        d, e, f = F(four[k]) - s4 - base, F(five[k]) - s5 - base, F(six[k]) - s6 - base
        g = F(last[k]) - s7 - base
        total = (a + b + c) + (d + e) + (f + g)
        by = total * per
        mean[k] = (base - level[k]) + by
        scatter[k] = (a * a + b * b + c * c) + (d * d + e * e) + (f * f + g * g) - total * by


@inner
def add_up(
    part: Any, begin: Any, values: Any, place: Any, pivot: Any, shifts: Any, settings: Any, zero: Any,
    rates: Any, found: Any,
) -> None:  # fmt: skip
    """Weighted sums of values into `zero`, and of values times time for each group into `rates`."""
    level, total, there = pivot[part], zero[part], slice(begin + part.start, begin + part.stop)
    total[:] = 0
    rates[:, part] = 0
    first = 0
    for setting in range(settings.shape[0]):
        one = settings[setting]
        end = first + int(one[COUNT])
        if end - first > 4:
            take_eight(there, values, place, first, end, shifts, level, found[setting])
        else:
            take_four(there, values, place, first, end, shifts, level, found[setting])
        mean, by_time = found[setting, VALUE], rates[int(one[GROUP]), part]
        w, wt = one[BY_VALUE], one[BY_TIME]
        for k in range(level.size):
            total[k] += w * mean[k]
            by_time[k] += wt * mean[k]
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
def certain(mean: Any, scatter: Any, n: Any, dark: Any, zero: Any, room: Any, noise: Any, stress: Any) -> Any:
    """Sum of squared residuals of a setting in sigmas, and whether none can be beyond its limits.

    None is larger than the root of the sum of their squares. `noise`: that of reading, 1 / gain, and squared
    sigmas; `room`: from zero level and pivot to saturation.
    """
    rn2, per_gain, square = noise
    off = mean - zero - dark
    total = scatter + n * off * off
    z2 = total / (rn2 + (dark if dark > F(0) else F(0)) * per_gain)
    left = room - dark
    return z2, (z2 * stress <= square) & (left > F(0)) & (left * left > total)


@inner
def judge(
    part: Any, pivot: Any, settings: Any, fit: Any, zero: Any, rates: Any, chi2: Any, bad: Any, found: Any
) -> None:
    """Sum of squared residuals in sigmas; above 0 in `bad` where one of them may be beyond its limits."""
    noise = F(fit[RN2]), F(1.0 / fit[GAIN]), F(fit[LIMIT] ** 2)
    level, base, squares, doubts = pivot[part], zero[part], chi2[part], bad[part]
    squares[:] = 0
    doubts[:] = 0
    for setting in range(settings.shape[0]):
        one = settings[setting]
        n, t, stress, full = one[COUNT], one[SECONDS], one[HARDNESS], one[FULL]
        rate = rates[int(one[GROUP]), part]
        mean, scatter = found[setting, VALUE], found[setting, SCATTER]
        for k in range(level.size):
            room = full - level[k] - base[k]
            z2, good = certain(mean[k], scatter[k], n, rate[k] * t, base[k], room, noise, stress)
            squares[k] += z2
            doubts[k] += F(0) if good else F(1)


@inner
def flaws(
    k: Any, begin: Any, values: Any, place: Any, level: Any, shifts: Any, settings: Any, fit: Any,
    base: Any, rates: Any, found: Any, start: Any,
) -> Any:  # fmt: skip
    """How many values of a pixel are missing, saturated, or too far off."""
    noise, full = (F(fit[RN2]), F(1.0 / fit[GAIN]), F(fit[LIMIT] ** 2)), F(fit[SATURATION])
    count = first = 0
    for setting in range(settings.shape[0]):
        one = settings[setting]
        n, dark, stress = one[COUNT], rates[int(one[GROUP]), k] * one[SECONDS], one[HARDNESS]
        room = one[FULL] - level - base
        mean, scatter = found[setting, VALUE, k - start], found[setting, SCATTER, k - start]
        end = first + int(n)
        if not certain(mean, scatter, n, dark, base, room, noise, stress)[1]:
            most = noise[2] * (noise[0] + max(dark, F(0)) * noise[1])
            for i in range(first, end):
                value = F(values[place[i], begin + k])
                off = value - F(shifts[i]) - (level + base + dark)
                count += 0 if off * off * stress <= most and value < full else 1
        first = end
    return count


@inner
def look_closer(
    part: Any, begin: Any, values: Any, place: Any, pivot: Any, shifts: Any, settings: Any, groups: Any,
    fit: Any, zero: Any, rates: Any, bad: Any, found: Any,
) -> None:  # fmt: skip
    """Pixels in doubt looked at value by value; rates that deserve other weights added to `bad`."""
    for k in range(part.start, part.stop):
        if bad[k] > F(0):
            bad[k] = flaws(
                k, begin, values, place, pivot[k], shifts, settings, fit, zero[k], rates, found, part.start
            )
    worse = bad[part]
    for j in range(rates.shape[0]):
        most, rate = F(groups[LARGE, j]), rates[j, part]
        for k in range(worse.size):
            worse[k] += F(0) if rate[k] <= most else F(1)


@jit
def fit_lines(
    values: Any, place: Any, begin: Any, pivot: Any, frames: Any, groups: Any, fit: Any,
    zero: Any, rates: Any, zero_var: Any, var: Any, mean: Any, chi2: Any, bad: Any,
) -> None:  # fmt: skip
    """Zero level and rates of every pixel with the weights that all share, and how well they fit.

    values (frames, pixels or more) uint16 or float32: of frame i in row ``place[i]``, those of the first
    pixel in column `begin`; pivot (pixels,) float32. All that follows is float32 and overwritten.
    zero (pixels,): zero level less the pivot; rates (groups, pixels); zero_var (pixels,): its variance, kept
    where it is not fitted; var, mean (groups, pixels): variance of the rate at a given zero level, and
    St/Stt; chi2 (pixels,); bad (pixels,): above 0 where values are missing, saturated or too far off, or
    rates deserve other weights.
    """
    settings, shifts = settings_of(frames, fit), frames[SHIFT]
    many = settings.shape[0]
    piece = min(max(FOUND_PIXELS // many, 64), PIECE)
    buffer = np.empty(many * 2 * piece, F)
    for start in range(0, pivot.size, piece):
        part = slice(start, min(start + piece, pivot.size))
        n = part.stop - start
        found = buffer[: many * 2 * n].reshape(many, 2, n)
        add_up(part, begin, values, place, pivot, shifts, settings, zero, rates, found)
        solve(part, groups, fit, zero, rates, zero_var, var, mean)
        judge(part, pivot, settings, fit, zero, rates, chi2, bad, found)
        look_closer(part, begin, values, place, pivot, shifts, settings, groups, fit, zero, rates, bad, found)


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
    values: Any, place: Any, begin: Any, pivot: Any, frames: Any, fit: Any, bad: Any, most: Any,
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
            v = F(values[place[i], begin + k])
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
