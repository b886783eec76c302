"""Kernels of ramps: the optimal slope of differences of reads, jumps among them, and what their weights cost.

Differences are divided by their time step; their covariance is ``rn2 (R + y P)``, tridiagonal, with
``y = slope / (gain rn2)``. `design` (DESIGN fields, differences) and `reads` (READS fields, reads) float64
hold what all pixels share, with times in units of the mean step. Pixels that are whole go together through
`sweep`; the others, one by one, through `mend`. All kernels of this file call kernels of this file only: the
cache of compiled code does not notice an edit elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

Decorator = Callable[[Any], Any]

F = np.float32
PIECE = 256  # pixels worked on together: their scratch stays in the near cache
LANES = {"reassoc", "nsz", "contract"}  # freedom to add in another order; NaN keep their meaning

FIRST, STEP, READ, READ_LOW, PHOTON, PHOTON_LOW = range(6)
"""Of a difference: earlier read, time step, diagonal and lower neighbour of R and P (0: a new ramp)."""
START, SHARE, AHEAD = range(3)
"""Of a read: 1 if a ramp begins, its share in the guess of the slope, and how much of the step that led to it
the last frame of its average lies beyond its mean."""
FULL, ONE, TWO, WRAP, UNIT, TABLE = range(6)
"""Of the fit: saturation [adu], chi squared that one and two differences must be worth to be dropped, fall
that is a wrapped counter [adu], time unit [s], and the `y` at the middle of the table."""
SLOPE, READ_VAR, PHOTON_VAR, CHI2 = range(4)
OF_READ, OF_PHOTON, BIAS = range(3)  # of the table
SATURATED, JUMP, NO_SLOPE = 2, 4, 1  # bits of calibrant.frame.DQ
BAD = 1 | 2  # bits of a read that must not be used

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath=LANES)
inner: Decorator = nb.njit(
    nogil=True, error_model="numpy", fastmath=LANES, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


@inner
def look(values: Any, a: Any, b: Any, reads: Any, fit: Any, guess: Any, bad: Any) -> None:
    """First guess of the slopes, and a mark where a read is full or wrapped."""
    guess[:] = 0
    bad[:] = 0
    full, wrap = F(fit[FULL]), F(fit[WRAP])
    for i in range(values.shape[0]):
        row = values[i, a:b]
        share, ahead = F(reads[SHARE, i]), F(reads[AHEAD, i])
        if share != F(0):
            for k in range(row.shape[0]):
                guess[k] += share * F(row[k])
        if reads[START, i] > 0:
            for k in range(row.shape[0]):
                bad[k] += F(0) if F(row[k]) < full else F(1)
        else:
            before = values[i - 1, a:b]
            for k in range(row.shape[0]):
                rise = F(row[k]) - F(before[k])
                light = rise * ahead if rise > F(0) else F(0)
                bad[k] += F(0) if (F(row[k]) + light < full) & (rise > -wrap) else F(1)


@inner
def forward(
    values: Any, a: Any, b: Any, design: Any, guess: Any, y: Any, low: Any, inv: Any, z: Any, t: Any,
    total: Any, cross: Any, chi2: Any,
) -> None:  # fmt: skip
    """C = L D L': `low` of L, 1 / D; L z = d - guess and L t = 1; sums t t / D, t z / D, z z / D.

    Each loop writes little: with more pointers to tell apart the compiler does without lanes.
    """
    total[:] = 0
    cross[:] = 0
    chi2[:] = 0
    for i in range(design.shape[1]):
        f = int(design[FIRST, i])
        one, two = values[f, a:b], values[f + 1, a:b]
        per = F(1.0 / design[STEP, i])
        read, photon = F(design[READ, i]), F(design[PHOTON, i])
        read_low, photon_low = F(design[READ_LOW, i]), F(design[PHOTON_LOW, i])
        lo, iv, zi, ti = low[i], inv[i], z[i], t[i]
        p = max(i - 1, 0)
        if i == 0:
            inv[0, :] = 0
            z[0, :] = 0
            t[0, :] = 0
        iv_before, z_before, t_before = inv[p], z[p], t[p]
        for k in range(y.shape[0]):
            beta = read_low + y[k] * photon_low
            lo[k] = beta * iv_before[k]
            iv[k] = F(1) / (read + y[k] * photon - beta * beta * iv_before[k])
        for k in range(y.shape[0]):
            zi[k] = (F(two[k]) - F(one[k])) * per - guess[k] - lo[k] * z_before[k]
        for k in range(y.shape[0]):
            ti[k] = F(1) - lo[k] * t_before[k]
        for k in range(y.shape[0]):
            total[k] += ti[k] * ti[k] * iv[k]
            cross[k] += ti[k] * zi[k] * iv[k]
        for k in range(y.shape[0]):
            chi2[k] += zi[k] * zi[k] * iv[k]


@inner
def backward(
    design: Any, rn2: Any, fit: Any, low: Any, inv: Any, z: Any, t: Any, more: Any, per: Any, left: Any,
    excess: Any,
) -> None:  # fmt: skip
    """The most that chi squared falls by dropping one or two differences, less what it must.

    `more`: slope less guess; `per`: 1 / sum of C^-1; left (2, pixels) scratch. Overwrites z, t and inv with
    C^-1 residual, C^-1 1 and the diagonal of C^-1.
    """
    many = design.shape[1]
    excess[:] = F(-1)
    for i in range(many - 1, -1, -1):
        zi, ti, iv, li = z[i], t[i], inv[i], left[i % 2]
        for k in range(per.shape[0]):
            zi[k] = (zi[k] - more[k] * ti[k]) * iv[k]
        for k in range(per.shape[0]):
            ti[k] *= iv[k]
        if i + 1 < many:
            lo, z_next, t_next, iv_next = low[i + 1], z[i + 1], t[i + 1], inv[i + 1]
            for k in range(per.shape[0]):
                zi[k] -= lo[k] * z_next[k]
            for k in range(per.shape[0]):
                ti[k] -= lo[k] * t_next[k]
            for k in range(per.shape[0]):
                iv[k] += lo[k] * lo[k] * iv_next[k]
        for k in range(per.shape[0]):
            li[k] = iv[k] - ti[k] * ti[k] * per[k]
        if many > 2:
            least = F(fit[ONE])
            for k in range(per.shape[0]):
                x = zi[k] * zi[k] / (li[k] * rn2[k]) - least
                excess[k] = x if x > excess[k] else excess[k]
        if many > 3 and i + 1 < many and design[READ_LOW, i + 1] != 0.0:
            least, l_next = F(fit[TWO]), left[(i + 1) % 2]
            for k in range(per.shape[0]):
                lo[k] = -lo[k] * iv_next[k] - ti[k] * t_next[k] * per[k]
            for k in range(per.shape[0]):
                det = (li[k] * l_next[k] - lo[k] * lo[k]) * rn2[k]
                x = zi[k] * zi[k] * l_next[k] - F(2) * zi[k] * z_next[k] * lo[k]
                x = (x + z_next[k] * z_next[k] * li[k]) / det - least
                excess[k] = x if x > excess[k] else excess[k]


@jit
def sweep(
    values: Any, offset: Any, design: Any, reads: Any, fit: Any, table: Any, rn2: Any, gain: Any, out: Any,
    todo: Any,
) -> None:  # fmt: skip
    """Slopes of pixels as if all their reads were good, and a mark on those that are not, or may hold a jump.

    values (reads, all pixels) uint16 or float32, adu, of which those from `offset` on are fitted; rn2, gain
    (pixels,) float32, adu2 of a single read and e-/adu; table (3, many) of `tabulate`; out (4, pixels)
    float32: slope [adu/s], its variances of reading and of photons [adu2/s2], chi squared; todo (pixels,)
    uint8, set to 1.
    """
    many = design.shape[1]
    work = np.empty((4, many, PIECE), F)
    lines = np.empty((10, PIECE), F)
    for s in range(0, rn2.shape[0], PIECE):
        n = min(PIECE, rn2.shape[0] - s)
        a, b = offset + s, offset + s + n
        guess, bad, y, total, cross, chi2, excess, per = (
            lines[0, :n], lines[1, :n], lines[2, :n], lines[3, :n], lines[4, :n], lines[5, :n], lines[6, :n],
            lines[7, :n],
        )  # fmt: skip
        low, inv, z, t = work[0], work[1], work[2], work[3]
        noise, g = rn2[s : s + n], gain[s : s + n]
        look(values, a, b, reads, fit, guess, bad)
        for k in range(n):
            light = guess[k] if guess[k] > F(0) else F(0)
            y[k] = light / (g[k] * noise[k])
        forward(values, a, b, design, guess, y, low, inv, z, t, total, cross, chi2)
        for k in range(n):
            per[k] = F(1) / total[k]
        for k in range(n):
            chi2[k] = (chi2[k] - cross[k] * cross[k] * per[k]) / noise[k]
        for k in range(n):
            cross[k] *= per[k]
        excess[:] = F(-1)
        if min(fit[ONE], fit[TWO]) < 1e30:
            backward(design, noise, fit, low, inv, z, t, cross, per, lines[8:], excess)
        finish(guess, y, cross, noise, g, fit, table, out[:, s : s + n])
        for k in range(n):
            out[CHI2, s + k] = chi2[k]
            whole = (bad[k] == F(0)) & (excess[k] <= F(0)) & (chi2[k] < F(3e38))
            todo[s + k] = todo[s + k] if whole else 1


@inner
def finish(guess: Any, y: Any, more: Any, noise: Any, g: Any, fit: Any, table: Any, out: Any) -> None:
    """Slopes without the bias of their weights, and variances, from the table of `y / (y + middle)`."""
    middle, last = F(fit[TABLE]), table.shape[1] - 1
    unit = F(1.0 / fit[UNIT])
    for k in range(y.shape[0]):
        place = y[k] / (y[k] + middle) * F(last)
        j = min(max(int(place), 0), last - 1) if place >= F(0) else 0
        part = place - F(j)
        read = table[OF_READ, j] + part * (table[OF_READ, j + 1] - table[OF_READ, j])
        photon = table[OF_PHOTON, j] + part * (table[OF_PHOTON, j + 1] - table[OF_PHOTON, j])
        bias = table[BIAS, j] + part * (table[BIAS, j + 1] - table[BIAS, j])
        slope = guess[k] + more[k] - (bias / g[k] if guess[k] > F(0) else F(0))
        out[SLOPE, k] = slope * unit
        out[READ_VAR, k] = read * noise[k] * unit * unit
        out[PHOTON_VAR, k] = (slope if slope > F(0) else F(0)) / g[k] * photon * unit * unit


# --- one pixel ---------------------------------------------------------------------------------------------


@inner
def factor(ok: Any, y: Any, design: Any, low: Any, inv: Any) -> None:
    """L and 1 / D of the differences that are ok; those that are not have 1 / D = 0."""
    for i in range(ok.shape[0]):
        low[i] = 0.0
        inv[i] = 0.0
        if ok[i]:
            beta = design[READ_LOW, i] + y * design[PHOTON_LOW, i]
            low[i] = beta * inv[i - 1] if i > 0 else 0.0
            inv[i] = 1.0 / (design[READ, i] + y * design[PHOTON, i] - beta * low[i])


@inner
def solve(low: Any, inv: Any, right: Any, x: Any) -> None:
    """C x = right for the differences that are ok, x = 0 for the others."""
    n = low.shape[0]
    for i in range(n):
        x[i] = (right[i] - (low[i] * x[i - 1] if i > 0 else 0.0)) if inv[i] > 0.0 else 0.0
    for i in range(n - 1, -1, -1):
        x[i] = x[i] * inv[i] - (low[i + 1] * x[i + 1] if i + 1 < n else 0.0)


@inner
def times(ok: Any, diagonal: Any, lower: Any, x: Any, out: Any) -> Any:
    """A tridiagonal matrix times x into `out`, and x' A x, over the differences that are ok."""
    n = x.shape[0]
    form = 0.0
    for i in range(n):
        out[i] = 0.0
        if ok[i]:
            out[i] = diagonal[i] * x[i]
            if i > 0 and ok[i - 1]:
                out[i] += lower[i] * x[i - 1]
            if i + 1 < n and ok[i + 1]:
                out[i] += lower[i + 1] * x[i + 1]
        form += x[i] * out[i]
    return form


@inner
def weigh(ok: Any, y: Any, design: Any, low: Any, inv: Any, w: Any, ones: Any) -> Any:
    """Weights that sum to 1 into `w`, the sum of C^-1, and `ones` where differences are ok."""
    for i in range(ok.shape[0]):
        ones[i] = 1.0 if ok[i] else 0.0
    factor(ok, y, design, low, inv)
    solve(low, inv, ones, w)
    total = w.sum()
    for i in range(ok.shape[0]):
        w[i] /= total
    return total


@inner
def bias_of(ok: Any, y: Any, design: Any, low: Any, inv: Any, total: Any, work: Any) -> Any:
    """Bias, times the gain, of weights that follow a guess made of the same differences; work of `weigh`.

    That of Brandt (2024, PASP 136, 045004), c' (R + y P) dw/dy, for the guess sum(d dt) / sum(dt).
    """
    w, c, moved, dw = work[0], work[1], work[2], work[3]
    times(ok, design[PHOTON], design[PHOTON_LOW], w, moved)
    solve(low, inv, moved, dw)
    fall = dw.sum()
    steps = 0.0
    for i in range(ok.shape[0]):
        dw[i] = -dw[i] + w[i] * fall
        c[i] = design[STEP, i] if ok[i] else 0.0
        steps += c[i]
    times(ok, design[READ], design[READ_LOW], dw, moved)
    bias = (c * moved).sum()
    times(ok, design[PHOTON], design[PHOTON_LOW], dw, moved)
    return (bias + y * (c * moved).sum()) / steps


@jit
def tabulate(design: Any, fit: Any, table: Any) -> None:
    """Variances per read variance and per slope / gain, and the bias times the gain, of whole ramps.

    table (3, many) float32, overwritten, for equal steps of y / (y + middle), to infinity.
    """
    many = design.shape[1]
    ok = np.ones(many, np.bool_)
    low, inv, moved = np.empty((3, many))
    work = np.empty((5, many))
    for j in range(table.shape[1]):
        part = min(j / (table.shape[1] - 1), 1.0 - 1e-9)
        y = fit[TABLE] * part / (1.0 - part)
        total = weigh(ok, y, design, low, inv, work[0], work[1])
        bias = bias_of(ok, y, design, low, inv, total, work)
        table[OF_READ, j] = times(ok, design[READ], design[READ_LOW], work[0], moved)
        table[OF_PHOTON, j] = times(ok, design[PHOTON], design[PHOTON_LOW], work[0], moved)
        table[BIAS, j] = bias


@inner
def usable(values: Any, at: Any, dq: Any, k: Any, reads: Any, fit: Any, good: Any) -> Any:
    """Marks reads that can be used; whether one was full: then all later ones of its ramp are left out."""
    full = False
    over = False
    for i in range(good.shape[0]):
        v = float(values[i, at])
        flag = int(dq[i, k]) if dq.shape[0] > 0 else 0
        if reads[START, i] > 0:
            over = False
            rise = 0.0
        else:
            rise = v - float(values[i - 1, at])
        light = rise * reads[AHEAD, i] if rise > 0.0 else 0.0
        if v + light >= fit[FULL] or rise <= -fit[WRAP] or flag & 2:
            over = True
        full |= over
        good[i] = math.isfinite(v) and not over and not flag & BAD
    return full


@inner
def worst_of(ok: Any, design: Any, fit: Any, low: Any, inv: Any, q: Any, u: Any, total: Any, rn2: Any) -> Any:
    """First difference to drop, and how many; -1 where chi squared does not fall enough. Spoils `inv`."""
    n = ok.shape[0]
    left = ok.sum()
    best = 0.0
    first = -1
    count = 0
    m_next = 0.0
    for i in range(n - 1, -1, -1):
        if i + 1 < n:
            inv[i] += low[i + 1] ** 2 * inv[i + 1]
        if not ok[i]:
            continue
        m = inv[i] - u[i] ** 2 / total
        x = q[i] ** 2 / (m * rn2) - fit[ONE]
        if left > 2 and x > best:
            best, first, count = x, i, 1
        if left > 3 and i + 1 < n and ok[i + 1] and design[READ_LOW, i + 1] != 0.0:
            c = -low[i + 1] * inv[i + 1] - u[i] * u[i + 1] / total
            x = q[i] ** 2 * m_next - 2.0 * q[i] * q[i + 1] * c + q[i + 1] ** 2 * m
            x = x / ((m * m_next - c * c) * rn2) - fit[TWO]
            if x > best:
                best, first, count = x, i, 2
        m_next = m
    return first, count


@inner
def mean_of(ok: Any, d: Any, design: Any) -> Any:
    """Mean of the differences that are ok, by their time."""
    top = 0.0
    below = 0.0
    for i in range(ok.shape[0]):
        if ok[i]:
            top += d[i] * design[STEP, i]
            below += design[STEP, i]
    return top / below


@jit
def mend(
    values: Any, offset: Any, dq: Any, design: Any, reads: Any, fit: Any, rn2: Any, gain: Any, todo: Any,
    fixsen: Any, out: Any, flags: Any, count: Any, marks: Any,
) -> None:  # fmt: skip
    """Pixels `todo` once more: bad reads left out, and jumps as long as dropping differences pays.

    dq (reads, pixels) uint8 of reads, or of no reads; fixsen: weights of Fixsen et al. instead of the
    optimal; out as of `sweep`; flags (pixels,) uint8, bits added; count (pixels,) uint16 of differences;
    marks (reads, pixels) uint8 of reads, or of no reads: bits added.
    """
    n = design.shape[1]
    good, ok = np.empty(reads.shape[1], np.bool_), np.empty(n, np.bool_)
    d, low, inv, q, rest = np.empty((5, n))
    work = np.empty((5, n))
    for k in range(rn2.shape[0]):
        if todo[k] == 0:
            continue
        if usable(values, offset + k, dq, k, reads, fit, good):
            flags[k] |= SATURATED
        for i in range(n):
            f = int(design[FIRST, i])
            ok[i] = good[f] and good[f + 1]
            d[i] = (float(values[f + 1, offset + k]) - float(values[f, offset + k])) / design[STEP, i]
        noise, g = float(rn2[k]), float(gain[k])
        while ok.any():
            guess = mean_of(ok, d, design)
            y = max(guess, 0.0) / (g * noise)
            total = weigh(ok, y, design, low, inv, work[0], work[1])
            slope = guess
            for i in range(n):
                rest[i] = d[i] - guess if ok[i] else 0.0
                slope += work[0, i] * rest[i]
            for i in range(n):
                rest[i] = d[i] - slope if ok[i] else 0.0
                work[3, i] = work[0, i] * total
            solve(low, inv, rest, q)
            chi2 = (q * rest).sum() / noise
            first, drop = worst_of(ok, design, fit, low, inv, q, work[3], total, noise)
            if drop == 0:
                break
            flags[k] |= JUMP
            for i in range(first, first + drop):
                ok[i] = False
                if marks.shape[0] > 0:
                    marks[int(design[FIRST, i]) + 1, k] |= JUMP
        for i in range(marks.shape[0]):
            marks[i, k] |= 0 if good[i] else NO_SLOPE
        count[k] = ok.sum()
        if not (ok.any() and math.isfinite(slope) and noise > 0.0 and g > 0.0):
            out[:, k] = np.nan
            flags[k] |= NO_SLOPE
            count[k] = 0
            continue
        if fixsen:
            ramp_weights(ok, d, design, noise, g, work)
            slope = 0.0
            for i in range(n):
                slope += work[0, i] * d[i] if ok[i] else 0.0
        elif guess > 0.0:
            factor(ok, y, design, low, inv)
            slope -= bias_of(ok, y, design, low, inv, total, work) / g
        per = 1.0 / fit[UNIT]
        read = times(ok, design[READ], design[READ_LOW], work[0], rest)
        photon = times(ok, design[PHOTON], design[PHOTON_LOW], work[0], rest)
        out[SLOPE, k] = slope * per
        out[READ_VAR, k] = read * noise * per**2
        out[PHOTON_VAR, k] = max(slope, 0.0) / g * photon * per**2
        out[CHI2, k] = chi2 if count[k] > 1 else np.nan


@inner
def ramp_weights(ok: Any, d: Any, design: Any, noise: Any, g: Any, work: Any) -> None:
    """Weights of Fixsen et al. (2000, PASP 112, 1350) as weights of differences, into work[0].

    Runs of good reads are lines of their own, put together by their read noise.
    """
    n = ok.shape[0]
    w, one, moved = work[0], work[1], work[2]
    w[:] = 0.0
    total = 0.0
    i = 0
    while i < n:
        if not ok[i]:
            i += 1
            continue
        e = i + 1
        while e < n and ok[e] and design[READ_LOW, e] != 0.0:
            e += 1
        one[:] = 0.0
        line_weights(i, e, d, design, noise, g, one)
        per = 1.0 / times(ok, design[READ], design[READ_LOW], one, moved)
        total += per
        for j in range(i, e):
            w[j] = one[j] * per
        i = e
    for j in range(n):
        w[j] /= total


@inner
def line_weights(i: Any, e: Any, d: Any, design: Any, noise: Any, g: Any, one: Any) -> None:
    """Differences i to e - 1 in the slope of a line; reads are weighted by |distance from the middle|^p."""
    rise = 0.0
    for j in range(i, e):
        rise += d[j] * design[STEP, j] * g
    light = max(rise, 0.0)
    ratio = light / math.sqrt(noise * g * g + light)
    power = 0.0
    for least, one_more in ((5.0, 0.4), (10.0, 1.0), (20.0, 3.0), (50.0, 6.0), (100.0, 10.0)):
        power = one_more if ratio >= least else power
    middle = (e - i) / 2.0
    s, st, stt = 0.0, 0.0, 0.0
    for turn in range(2):
        time = 0.0
        before = 0.0
        for j in range(e - i + 1):
            v = abs((j - middle) / middle)
            v = v**power if power > 0.0 else 1.0
            if turn == 0:
                s += v
                st += v * time
                stt += v * time * time
            else:
                before += v * (time - st / s) / (stt - st * st / s)
                if j < e - i:
                    one[i + j] = -before * design[STEP, i + j]
            time += design[STEP, i + j] if j < e - i else 0.0
