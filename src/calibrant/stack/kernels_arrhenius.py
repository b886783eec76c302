"""Kernels of a dark library: ln rate against 1/kT, pixel by pixel.

All kernels of this file call kernels of this file only: the cache of compiled code does not notice an edit
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

Decorator = Callable[[Any], Any]

F = np.float32
SHORT = 1024  # pixels worked on together
LANES = {"nsz", "contract"}  # nothing that rounds the pixels at the end of a band otherwise
ONE = F(1)
LN2 = 0.6931471805599453
LN2_HIGH = F(0.693359375)  # times a whole number it is exact
LN2_LOW = LN2 - 0.693359375
TO_WHOLE = F(1.5 * 2**23)  # added to a float32, it rounds to a whole number
SQRT_HALF = np.int32(0x3F3504F3)  # bits of the float32

RATE, ENERGY, RATE_VAR, ENERGY_VAR, COVARIANCE, RATE_ZERO, ENERGY_ZERO, MISFIT = range(8)
"""Of the law of a pixel."""
OWN, MEDIAN, NOTHING = range(3)
SEEN, SURE = 3.0, 5.0  # sigmas of an expected, and of a measured rate
LEAST = 1.0  # sigma of a rate after the fit: what two temperatures say is not cut where the noise is low

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath=LANES)
inner: Decorator = nb.njit(
    nogil=True, error_model="numpy", fastmath=LANES, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


@inner
def ln(x: Any) -> Any:
    """Natural logarithm of a positive float32, to 1e-7 of the larger of it and 1: plain arithmetic."""
    bits = F(x).view(np.int32)
    k = np.int32(np.int32(bits - SQRT_HALF) >> np.int32(23))
    m = np.int32(bits - np.int32(k << np.int32(23))).view(F)  # within a factor sqrt(2) of 1
    s = (m - ONE) / (m + ONE)
    q = s * s
    return F(LN2) * F(k) + s * (F(2) + q * (F(2 / 3) + q * (F(2 / 5) + q * F(2 / 7))))


@inner
def exp(x: Any) -> Any:
    """Exponential function of a float32, to 2e-7 between 1e-37 and 1e37: plain arithmetic."""
    y = F(x)
    y = F(-85) if y < F(-85) else y
    y = F(85) if y > F(85) else y
    k = (y * F(1 / LN2) + TO_WHOLE) - TO_WHOLE
    r = (y - k * LN2_HIGH) - k * F(LN2_LOW)
    p = F(1 / 24) + r * (F(1 / 120) + r * F(1 / 720))
    p = ONE + r * (ONE + r * (F(1 / 2) + r * (F(1 / 6) + r * p)))
    return p * np.int32(np.int32(np.int32(k) + np.int32(127)) << np.int32(23)).view(F)


@inner
def of_the_median(r: Any, p: Any, c: Any, law: Any) -> Any:
    """Amplitude of the median law in each pixel, its variance, and how it moves with the zero level.

    NaN where no rate is known.
    """
    n = r.shape[1]
    found, variance, push = np.zeros(n, F), np.zeros(n, F), np.zeros(n, F)
    for j in range(r.shape[0]):
        one = F(law[j])
        for k in range(n):
            w = one * p[j, k]
            found[k] += r[j, k] * w
            variance[k] += one * w
        for k in range(n):
            push[k] -= one * p[j, k] * c[j, k]
    for k in range(n):
        variance[k] = ONE / variance[k] if variance[k] > F(0) else F(np.nan)
        found[k] *= variance[k]
    for k in range(n):
        push[k] *= variance[k]
    return found, variance, push


@inner
def straight(r: Any, p: Any, log: Any, x: Any, first: Any, expected: Any, weight: Any) -> Any:
    """ln rate (`log`) against x, weighted with expected^2 p, p = 1 / variance; p of 0 is no rate.

    Rates below what can be seen are left out by what is *expected*, which their own noise does not change:
    `weight` is then 0. Of every pixel: sums of w, w x, w x^2; ln rate and energy; 1 / determinant, 0 where
    the line is not determined; how many rates took part.
    """
    n = r.shape[1]
    s, sx, sxx, level, energy = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    inverse, used = np.empty(n), np.zeros(n, F)
    wanted = F(SEEN**2) if first else F(LEAST**2)
    guess = F(3) if first else F(np.inf)  # far off the law of the detector: a guess of its own
    for j in range(r.shape[0]):
        xj = x[j]
        for k in range(n):
            e, rate, one = expected[j, k], r[j, k], p[j, k]
            seen = (rate > F(0)) & ((e * e * one > wanted) | (rate * rate * one > F(SURE**2)))
            e = rate if e * guess < rate else e
            weight[j, k] = e * e * one if seen else F(0)
            used[k] += ONE if seen else F(0)
        for k in range(n):
            w = np.float64(weight[j, k])
            s[k] += w
            sx[k] += w * xj
            sxx[k] += w * xj * xj
        for k in range(n):
            w = np.float64(weight[j, k]) * log[j, k]
            level[k] += w
            energy[k] += w * xj
    for k in range(n):
        det = s[k] * sxx[k] - sx[k] * sx[k]
        inverse[k] = 1.0 / det if (used[k] > ONE) & (det > 1e-12 * s[k] * sxx[k]) else 0.0
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
            expected[j, k] = by if weight[j, k] > F(0) else F(0)
        for k in range(n):
            push[k] -= expected[j, k]
            pull[k] -= expected[j, k] * xj
    for k in range(n):
        one, two = push[k], pull[k]
        push[k] = (sxx[k] * one - sx[k] * two) * inverse[k]
        pull[k] = (sx[k] * one - s[k] * two) * inverse[k]
    return push, pull, misfit


@inner
def write(
    part: Any, line: Any, moves: Any, median: Any, scale: Any, energy: Any, zero_var: Any, out: Any,
    kinds: Any,
) -> None:  # fmt: skip
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
    rate, own_energy = out[RATE][part], out[ENERGY][part]
    for k in range(n):
        rate[k] = level[k]
        own_energy[k] = slope[k] if inverse[k] > 0.0 else energy
    rate_var, energy_var, covariance = out[RATE_VAR][part], out[ENERGY_VAR][part], out[COVARIANCE][part]
    for k in range(n):
        own = sxx[k] * inverse[k] * level[k] * level[k]
        one = own if inverse[k] > 0.0 else scale * scale * variance[k]
        rate_var[k] = one + push[k] * push[k] * zero_var[k]
    for k in range(n):
        energy_var[k] = s[k] * inverse[k] + pull[k] * pull[k] * zero_var[k]
    for k in range(n):
        covariance[k] = sx[k] * inverse[k] * level[k] + push[k] * pull[k] * zero_var[k]
    rate_zero, energy_zero = out[RATE_ZERO][part], out[ENERGY_ZERO][part]
    for k in range(n):
        rate_zero[k] = push[k]
        energy_zero[k] = pull[k]
    reduced, kind = out[MISFIT][part], kinds[part]
    for k in range(n):
        reduced[k] = misfit[k] / (used[k] - 2.0) if (used[k] > 2.0) & (inverse[k] > 0.0) else np.nan
    for k in range(n):
        kind[k] = OWN if inverse[k] > 0.0 else MEDIAN if variance[k] > 0.0 else NOTHING


@jit
def arrhenius(
    rates: Any, var: Any, mean: Any, zero_var: Any, x: Any, law: Any, scale: Any, energy: Any, out: Any,
    kinds: Any,
) -> None:  # fmt: skip
    """Rate at the reference and activation energy of every pixel.

    rates, var, mean (groups, pixels) and zero_var (pixels,) float32 as of `kernels_library.fit_lines`;
    x (groups,): 1/kT less that of the reference, 1/eV; law (groups,): rates of the median law, `scale` at
    the reference, with its `energy` [eV]; out: eight arrays (pixels,) float32, variances with those from the
    zero level; kinds (pixels,) uint8: of the law of each pixel.
    """
    many = rates.shape[0]
    for start in range(0, rates.shape[1], SHORT):
        part = slice(start, min(start + SHORT, rates.shape[1]))
        n = part.stop - part.start
        # Arrays of their own: of views of a single array a compiler must fear that they overlap.
        r, p, c = np.empty((many, n), F), np.empty((many, n), F), np.empty((many, n), F)
        log, expected, weight = np.empty((many, n), F), np.empty((many, n), F), np.empty((many, n), F)
        for j in range(many):
            rate, variance, centre = rates[j, part], var[j, part], mean[j, part]
            for k in range(n):
                good = (variance[k] > F(0)) & (abs(rate[k]) < np.inf)
                p[j, k] = ONE / variance[k] if good else F(0)
                r[j, k] = rate[k] if good else F(0)
            for k in range(n):
                c[j, k] = centre[k] if p[j, k] > F(0) else F(0)
            for k in range(n):
                log[j, k] = ln(r[j, k]) if r[j, k] > F(0) else F(0)
        median = of_the_median(r, p, c, law)
        for j in range(many):
            one = F(law[j])
            for k in range(n):
                expected[j, k] = max(median[0][k] * one, F(0))
        line = straight(r, p, log, x, True, expected, weight)
        for j in range(many):
            for k in range(n):
                expected[j, k] = exp(line[3][k] - line[4][k] * x[j])
            for k in range(n):
                p[j, k] = p[j, k] if line[5][k] > 0.0 else F(0)
        line = straight(r, p, log, x, False, expected, weight)
        moves = settle(p, c, log, x, expected, weight, line)
        write(part, line, moves, median, scale, energy, zero_var[part], out, kinds)
