"""Kernels of a dark library: lines in time that share a zero level, and ln rate against 1/kT, pixel by pixel.

Frames stand in the order of their temperature groups. `frames` (FRAME fields, frames) float64 and `groups`
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
PIECE = 1024  # pixels worked on together: all sums of them stay in the nearest cache
SHORT = 256  # pixels of the law
LN2 = 0.6931471805599453
SQRT_HALF = 0x3FE6A09E667F3BCD  # bits of the float64
LANES = {"reassoc", "nsz", "contract"}  # freedom to add in another order; NaN keep their meaning

TIME, WEIGHT, SHIFT, MEMBER, STRESS = range(5)
"""Of a frame: seconds, 1/adu2, adu, group, 1 / (1 - leverage); a stress of 0 means: cannot be tested."""

LAW, MEAN, INVERSE, READ, PHOTON, ZERO_PHOTON, LARGE = range(7)
"""Of a group: expected rate, St/Stt, 1/Stt, variance of the rate per adu2 and per electron rate; part of the
variance of the zero level; rate from which a pixel is worth weights of its own."""

RN2, GAIN, FREE, ZERO, ZERO_READ, LIMIT, SATURATION = range(7)
"""Of the fit: read variance, e-/adu, 1 if the zero level is fitted, the reciprocal of its normal equation,
its variance per read variance, sigmas, adu."""

RATE, ENERGY, RATE_VAR, ENERGY_VAR, COVARIANCE, RATE_ZERO, ENERGY_ZERO, MISFIT, KIND = range(9)
"""Of the law of a pixel; the KIND is one of the next three."""
OWN, MEDIAN, NOTHING = range(3)
SEEN, SURE = 3.0, 5.0  # sigmas of an expected, and of a measured rate
LEAST = 1.0  # sigma of a rate after the fit: what two temperatures say is not cut where the noise is low

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath=LANES)
inner: Decorator = nb.njit(
    nogil=True, error_model="numpy", fastmath=LANES, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


@jit
def add_up(values: Any, pivot: Any, frames: Any, total: Any, by_time: Any) -> None:
    """Weighted sums of values, and of values times time for each group.

    values (frames, pixels) uint16 or float32; pivot (pixels,) float32; total (pixels,) and by_time (groups,
    pixels) float32, overwritten.
    """
    total[:] = 0
    by_time[:] = 0
    for s in range(0, values.shape[1], PIECE):
        e = min(s + PIECE, values.shape[1])
        level = pivot[s:e]
        one = total[s:e]
        for i in range(values.shape[0]):
            row = values[i, s:e]
            two = by_time[int(frames[MEMBER, i]), s:e]
            shift = F(frames[SHIFT, i])
            w = F(frames[WEIGHT, i])
            wt = F(frames[WEIGHT, i] * frames[TIME, i])
            for k in range(row.shape[0]):
                d = F(row[k]) - shift - level[k]
                one[k] += w * d
                two[k] += wt * d


@jit
def lines(groups: Any, fit: Any, total: Any, rates: Any, zero_var: Any, var: Any, mean: Any) -> None:
    """Zero level and rates from the sums, for pixels of which every value is good.

    total (pixels,): the sum, then the zero level less the pivot; rates (groups, pixels): sums, then rates;
    zero_var (pixels,): overwritten where the zero level is fitted; var, mean (groups, pixels): variance of
    the rate at a given zero level, and St/Stt.
    """
    free, factor = F(fit[FREE]), F(fit[ZERO])
    if fit[FREE] > 0:
        for j in range(rates.shape[0]):
            c = F(groups[MEAN, j])
            for k in range(total.shape[0]):
                total[k] -= c * rates[j, k]
        for k in range(total.shape[0]):
            total[k] *= factor
            zero_var[k] = F(fit[ZERO_READ] * fit[RN2])
    else:
        total[:] = 0
    for j in range(rates.shape[0]):
        c, one = F(groups[MEAN, j]), F(groups[INVERSE, j])
        read, photon = F(groups[READ, j] * fit[RN2]), F(groups[PHOTON, j] / fit[GAIN])
        own = F(groups[ZERO_PHOTON, j] / fit[GAIN]) * free
        for k in range(total.shape[0]):
            r = rates[j, k] * one - c * total[k]
            light = r if r > F(0) else F(0)
            rates[j, k] = r
            mean[j, k] = c
            var[j, k] = read + photon * light
            zero_var[k] += own * light


@jit
def residuals(
    values: Any, pivot: Any, frames: Any, groups: Any, fit: Any, zero: Any, rates: Any, chi2: Any, bad: Any
) -> None:
    """Sum of squared residuals in sigmas, and a count of what must be looked at value by value.

    chi2, bad (pixels,) float32, overwritten. Bad are values that are missing, saturated or too far off, and
    rates that deserve other weights.
    """
    chi2[:] = 0
    bad[:] = 0
    rn2, per_gain, full = F(fit[RN2]), F(1.0 / fit[GAIN]), F(fit[SATURATION])
    square = F(fit[LIMIT] ** 2)
    for s in range(0, values.shape[1], PIECE):
        e = min(s + PIECE, values.shape[1])
        level, b, x, n = pivot[s:e], zero[s:e], chi2[s:e], bad[s:e]
        for i in range(values.shape[0]):
            j = int(frames[MEMBER, i])
            row, r = values[i, s:e], rates[j, s:e]
            shift, t, stress = F(frames[SHIFT, i]), F(frames[TIME, i]), F(frames[STRESS, i])
            for k in range(row.shape[0]):
                v = F(row[k])
                d = v - shift - level[k] - b[k] - r[k] * t
                light = r[k] * t * per_gain
                z2 = d * d / (rn2 + (light if light > F(0) else F(0)))
                x[k] += z2
                n[k] += F(0) if (z2 * stress <= square) & (v < full) else F(1)
    for j in range(rates.shape[0]):
        most = F(groups[LARGE, j])
        for k in range(chi2.shape[0]):
            bad[k] += F(0) if rates[j, k] <= most else F(1)


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


@inner
def ln(x: Any) -> Any:
    """Natural logarithm of a positive number, to 1e-9: plain arithmetic, done for many pixels at once."""
    bits = np.float64(x).view(np.int64)
    k = np.int64(bits - SQRT_HALF) >> 52
    m = np.int64(bits - (k << 52)).view(np.float64)  # within a factor sqrt(2) of 1
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    return LN2 * k + s * (2.0 + q * (2 / 3 + q * (2 / 5 + q * (2 / 7 + q * (2 / 9)))))


@inner
def exp(x: Any) -> Any:
    """Exponential function, to 1e-8: plain arithmetic, done for many pixels at once."""
    y = -700.0 if x < -700.0 else x
    y = 700.0 if y > 700.0 else y
    k = np.floor(y / LN2 + 0.5)
    r = y - k * LN2
    p = 1 / 24 + r * (1 / 120 + r * (1 / 720 + r * (1 / 5040)))
    p = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * p)))
    return p * np.int64((np.int64(k) + 1023) << 52).view(np.float64)


@inner
def of_the_median(r: Any, p: Any, c: Any, law: Any) -> Any:
    """Amplitude of the detector's median law in each pixel, its variance, and how it moves with the zero level.

    NaN where no rate is known.
    """
    n = r.shape[1]
    found, variance, push = np.zeros(n), np.zeros(n), np.zeros(n)
    for j in range(r.shape[0]):
        one = law[j]
        for k in range(n):
            w = one * p[j, k]
            found[k] += r[j, k] * w
            variance[k] += one * w
        for k in range(n):
            push[k] -= one * p[j, k] * c[j, k]
    for k in range(n):
        variance[k] = 1.0 / variance[k] if variance[k] > 0.0 else np.nan
        found[k] *= variance[k]
    for k in range(n):
        push[k] *= variance[k]
    return found, variance, push


@inner
def straight(r: Any, p: Any, log: Any, x: Any, first: Any, expected: Any, weight: Any) -> Any:
    """ln rate (`log`) against x, weighted with expected^2 p, p = 1 / variance; p of 0 is no rate.

    Rates below what can be seen are left out by what is *expected*, which their own noise does not change:
    `weight` is then 0. Of every pixel: sums of w, w x, w x^2; ln rate and energy; 1 / determinant, 0 where the
    line is not determined; how many rates took part.
    """
    n = r.shape[1]
    s, sx, sxx, level, energy = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    inverse, used = np.empty(n), np.zeros(n)
    wanted = SEEN**2 if first else LEAST**2
    guess = 3.0 if first else np.inf  # far off the law of the detector: a guess of its own
    for j in range(r.shape[0]):
        xj = x[j]
        for k in range(n):
            e, rate, one = expected[j, k], r[j, k], p[j, k]
            seen = (rate > 0.0) & ((e * e * one > wanted) | (rate * rate * one > SURE**2))
            e = rate if e * guess < rate else e
            weight[j, k] = e * e * one if seen else 0.0
            used[k] += 1.0 if seen else 0.0
        for k in range(n):
            w = weight[j, k]
            s[k] += w
            sx[k] += w * xj
            sxx[k] += w * xj * xj
        for k in range(n):
            w = weight[j, k] * log[j, k]
            level[k] += w
            energy[k] += w * xj
    for k in range(n):
        det = s[k] * sxx[k] - sx[k] * sx[k]
        inverse[k] = 1.0 / det if (used[k] > 1.0) & (det > 1e-12 * s[k] * sxx[k]) else 0.0
    for k in range(n):
        one, two = level[k], energy[k]
        level[k] = (sxx[k] * one - sx[k] * two) * inverse[k]
        energy[k] = (sx[k] * one - s[k] * two) * inverse[k]
    return s, sx, sxx, level, energy, inverse, used


@inner
def settle(p: Any, c: Any, log: Any, x: Any, expected: Any, weight: Any, line: Any) -> Any:
    """How ln rate and energy of a line of `straight` move with the zero level; weighted squares about it."""
    s, sx, sxx, level, energy, inverse, _ = line
    n = s.size
    push, pull, misfit = np.zeros(n), np.zeros(n), np.zeros(n)
    for j in range(p.shape[0]):
        xj = x[j]
        for k in range(n):
            left = log[j, k] - level[k] + energy[k] * xj
            misfit[k] += weight[j, k] * left * left
        for k in range(n):
            by = c[j, k] * expected[j, k] * p[j, k]
            expected[j, k] = by if weight[j, k] > 0.0 else 0.0
        for k in range(n):
            push[k] -= expected[j, k]
            pull[k] -= expected[j, k] * xj
    for k in range(n):
        one, two = push[k], pull[k]
        push[k] = (sxx[k] * one - sx[k] * two) * inverse[k]
        pull[k] = (sx[k] * one - s[k] * two) * inverse[k]
    return push, pull, misfit


@inner
def write(line: Any, moves: Any, median: Any, scale: Any, energy: Any, zero_var: Any, out: Any) -> None:
    """The law of each pixel: its own where its line is determined, else that of the median."""
    s, sx, sxx, level, slope, inverse, used = line
    push, pull, misfit = moves
    found, variance, median_push = median
    n = s.size
    for k in range(n):
        level[k] = exp(level[k])
    for k in range(n):
        level[k] = level[k] if inverse[k] > 0.0 else scale * found[k]
        push[k] = push[k] * level[k] if inverse[k] > 0.0 else scale * median_push[k]
    for k in range(n):
        out[RATE, k] = level[k]
        out[ENERGY, k] = slope[k] if inverse[k] > 0.0 else energy
    for k in range(n):
        own = sxx[k] * inverse[k] * level[k] * level[k]
        out[RATE_VAR, k] = (own if inverse[k] > 0.0 else scale * scale * variance[k]) + push[
            k
        ] ** 2 * zero_var[k]
    for k in range(n):
        out[ENERGY_VAR, k] = s[k] * inverse[k] + pull[k] ** 2 * zero_var[k]
    for k in range(n):
        out[COVARIANCE, k] = sx[k] * inverse[k] * level[k] + push[k] * pull[k] * zero_var[k]
    for k in range(n):
        out[RATE_ZERO, k] = push[k]
        out[ENERGY_ZERO, k] = pull[k]
    for k in range(n):
        out[MISFIT, k] = misfit[k] / (used[k] - 2.0) if (used[k] > 2.0) & (inverse[k] > 0.0) else np.nan
        out[KIND, k] = OWN if inverse[k] > 0.0 else MEDIAN if variance[k] > 0.0 else NOTHING


@jit
def arrhenius(
    rates: Any, var: Any, mean: Any, zero_var: Any, x: Any, law: Any, scale: Any, energy: Any, out: Any
) -> None:
    """Rate at the reference and activation energy of every pixel.

    rates, var, mean (groups, pixels) float32 as of `lines`; zero_var (pixels,); x (groups,): 1/kT less that
    of the reference, 1/eV; law (groups,): rates of the median law, `scale` at the reference, with its
    `energy` [eV]; out (9, pixels) float32, variances with those from the zero level.
    """
    many = rates.shape[0]
    for start in range(0, rates.shape[1], SHORT):
        part = slice(start, min(start + SHORT, rates.shape[1]))
        n = part.stop - part.start
        # Arrays of their own: of views of a single array a compiler must fear that they overlap.
        r, p, c = np.empty((many, n)), np.empty((many, n)), np.empty((many, n))
        log, expected, weight = np.empty((many, n)), np.empty((many, n)), np.empty((many, n))
        for j in range(many):
            rate, variance, centre = rates[j, part], var[j, part], mean[j, part]
            for k in range(n):
                good = (variance[k] > F(0)) & (abs(rate[k]) < np.inf)
                p[j, k] = 1.0 / variance[k] if good else 0.0
                r[j, k] = rate[k] if good else 0.0
            for k in range(n):
                c[j, k] = centre[k] if p[j, k] > 0.0 else 0.0
            for k in range(n):
                log[j, k] = ln(r[j, k]) if r[j, k] > 0.0 else 0.0
        median = of_the_median(r, p, c, law)
        for j in range(many):
            for k in range(n):
                expected[j, k] = max(median[0][k] * law[j], 0.0)
        line = straight(r, p, log, x, True, expected, weight)
        for j in range(many):
            for k in range(n):
                expected[j, k] = exp(line[3][k] - line[4][k] * x[j])
            for k in range(n):
                p[j, k] = p[j, k] if line[5][k] > 0.0 else 0.0
        line = straight(r, p, log, x, False, expected, weight)
        moves = settle(p, c, log, x, expected, weight, line)
        write(line, moves, median, scale, energy, zero_var[part], out[:, part])
