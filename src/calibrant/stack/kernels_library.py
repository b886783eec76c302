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
def of_the_median(r: Any, p: Any, c: Any, law: Any, scale: Any, energy: Any, out: Any, found: Any) -> None:
    """Amplitude of the detector's median law in each pixel: `found`, and `out` as of `arrhenius`."""
    top, below, push = np.zeros((3, found.shape[0]))
    for j in range(r.shape[0]):
        for k in range(found.shape[0]):
            w = law[j] * p[j, k]
            top[k] += r[j, k] * w
            below[k] += law[j] * w
            push[k] -= c[j, k] * w
    for k in range(found.shape[0]):
        one = 1.0 / below[k] if below[k] > 0.0 else np.nan
        found[k] = top[k] * one
        out[RATE, k] = scale * top[k] * one
        out[ENERGY, k] = energy
        out[RATE_VAR, k] = scale * scale * one
        out[ENERGY_VAR, k] = 0.0
        out[COVARIANCE, k] = 0.0
        out[RATE_ZERO, k] = scale * push[k] * one
        out[ENERGY_ZERO, k] = 0.0
        out[MISFIT, k] = np.nan
        out[KIND, k] = MEDIAN if below[k] > 0.0 else NOTHING


@inner
def straight(r: Any, p: Any, log: Any, x: Any, first: Any, expected: Any, weight: Any, sums: Any) -> None:
    """ln rate (`log`) against x, weighted with expected^2 p, p = 1 / variance; p of 0 is no rate.

    Rates below what can be seen are left out by what is *expected*, which their own noise does not change:
    `weight` is then 0. sums (7, pixels): of w, w x, w x^2; ln rate and energy; 1 / determinant, 0 where the
    line is not determined; how many rates took part.
    """
    sums[:] = 0.0
    log_sum, product = np.zeros((2, sums.shape[1]))
    wanted = SEEN**2 if first else LEAST**2
    guess = 3.0 if first else np.inf  # far off the law of the detector: a guess of its own
    for j in range(r.shape[0]):
        for k in range(sums.shape[1]):
            e, rate, one = expected[j, k], r[j, k], p[j, k]
            seen = (rate > 0.0) & ((e * e * one > wanted) | (rate * rate * one > SURE**2))
            e = rate if e * guess < rate else e
            w = e * e * one if seen else 0.0
            weight[j, k] = w
            sums[0, k] += w
            sums[1, k] += w * x[j]
            sums[2, k] += w * x[j] * x[j]
            log_sum[k] += w * log[j, k]
            product[k] += w * x[j] * log[j, k]
            sums[6, k] += 1.0 if seen else 0.0
    for k in range(sums.shape[1]):
        s, sx, sxx = sums[0, k], sums[1, k], sums[2, k]
        det = s * sxx - sx * sx
        one = 1.0 / det if (sums[6, k] > 1.0) & (det > 1e-12 * s * sxx) else 0.0
        sums[3, k] = (sxx * log_sum[k] - sx * product[k]) * one
        sums[4, k] = -(s * product[k] - sx * log_sum[k]) * one
        sums[5, k] = one


@inner
def settle(p: Any, c: Any, log: Any, x: Any, expected: Any, weight: Any, sums: Any, out: Any) -> None:
    """Laws of their own, where they are determined, into `out`."""
    push, pull, misfit = np.zeros((3, sums.shape[1]))
    for j in range(p.shape[0]):
        for k in range(sums.shape[1]):
            # How ln rate moves with the zero level, weighted.
            by = -c[j, k] * expected[j, k] * p[j, k] * sums[5, k] if weight[j, k] > 0.0 else 0.0
            push[k] += (sums[2, k] - sums[1, k] * x[j]) * by
            pull[k] -= (sums[0, k] * x[j] - sums[1, k]) * by
            left = log[j, k] - sums[3, k] + sums[4, k] * x[j]
            misfit[k] += weight[j, k] * left * left
    for k in range(sums.shape[1]):
        one = sums[5, k]
        if one > 0.0:
            level = math.exp(sums[3, k])
            out[RATE, k] = level
            out[ENERGY, k] = sums[4, k]
            out[RATE_VAR, k] = sums[2, k] * one * level * level
            out[ENERGY_VAR, k] = sums[0, k] * one
            out[COVARIANCE, k] = sums[1, k] * one * level
            out[RATE_ZERO, k] = push[k] * level
            out[ENERGY_ZERO, k] = pull[k]
            out[MISFIT, k] = misfit[k] / (sums[6, k] - 2.0) if sums[6, k] > 2.0 else np.nan
            out[KIND, k] = OWN


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
    for s in range(0, rates.shape[1], SHORT):
        e = min(s + SHORT, rates.shape[1])
        r, p, c, log, expected, weight = np.empty((6, many, e - s))
        sums, one, found = np.empty((7, e - s)), np.empty((9, e - s)), np.empty(e - s)
        for j in range(many):
            for k in range(e - s):
                good = (var[j, s + k] > F(0)) & (abs(rates[j, s + k]) < np.inf)
                p[j, k] = 1.0 / var[j, s + k] if good else 0.0
                r[j, k] = rates[j, s + k] if good else 0.0
                c[j, k] = mean[j, s + k] if good else 0.0
            for k in range(e - s):
                log[j, k] = math.log(F(r[j, k])) if r[j, k] > 0.0 else F(0)
        of_the_median(r, p, c, law, scale, energy, one, found)
        if many > 1:
            for j in range(many):
                for k in range(e - s):
                    expected[j, k] = max(found[k] * law[j], 0.0)
            straight(r, p, log, x, True, expected, weight, sums)
            for j in range(many):
                for k in range(e - s):
                    expected[j, k] = math.exp(F(sums[3, k] - sums[4, k] * x[j]))
                    p[j, k] = p[j, k] if sums[5, k] > 0.0 else 0.0
            straight(r, p, log, x, False, expected, weight, sums)
            settle(p, c, log, x, expected, weight, sums, one)
        for k in range(e - s):
            zero = zero_var[s + k]
            one[RATE_VAR, k] += one[RATE_ZERO, k] ** 2 * zero
            one[ENERGY_VAR, k] += one[ENERGY_ZERO, k] ** 2 * zero
            one[COVARIANCE, k] += one[RATE_ZERO, k] * one[ENERGY_ZERO, k] * zero
        for m in range(9):
            for k in range(e - s):
                out[m, s + k] = one[m, k]
