"""Kernels of ramps: the optimal slope of each pixel, with what is bad and jumps left out.

`sweep` takes pixels in the order in which they lie, as if they were whole, and marks those that are not;
`mend` gathers these in lanes, leaves out what is bad or pays to be left out, and gives a lane that is done
to the next pixel. Both call `kernels_ramp_solve`, of which the cache of compiled code knows only through the
digest below.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from calibrant.stack import kernels_ramp_solve as solve
from calibrant.stack.kernels_ramp_solve import F, U, inner, jit

SOLVER = "9ced777618d6"  # SHA-256 of that file, begun: an edit there must edit this file


@inner
def load(
    values: Any, a: Any, dq: Any, b: Any, m: Any, design: Any, reads: Any, fit: Any, w: Any, s: Any
) -> None:
    """Differences of `m` pixels, and doubt where a read is full, wrapped or flagged."""
    for k in range(solve.PIECE):
        s[solve.DOUBT + k] = F(0)
    full, wrap = F(fit[solve.FULL]), F(-fit[solve.WRAP])
    j = 0
    for i in range(values.shape[0]):
        row, ahead = values[i, a : a + m], F(reads[solve.AHEAD, i])
        if dq.shape[0] > 0:
            marked = dq[i, b : b + m]
            for k in range(U(m)):
                s[solve.DOUBT + k] += F(0) if marked[k] & solve.ANY == 0 else F(1)
        if reads[solve.START, i] > 0:
            for k in range(U(m)):
                s[solve.DOUBT + k] += F(0) if F(row[k]) < full else F(1)
        else:
            before = values[i - 1, a : a + m]
            per, o = F(1.0 / design[solve.STEP, j]), U(j) * solve.STRIDE
            for k in range(U(m)):
                rise = F(row[k]) - F(before[k])
                light = rise * ahead if rise > F(0) else F(0)
                s[solve.DOUBT + k] += F(0) if (F(row[k]) + light < full) & (rise > wrap) else F(1)
            for k in range(U(m)):
                w[o + solve.D + k] = (F(row[k]) - F(before[k])) * per
            j += 1


@inner
def sweep(
    values: Any, offset: Any, first: Any, last: Any, dq: Any, design: Any, reads: Any, fit: Any, table: Any,
    rn2: Any, gain: Any, out: Any, todo: Any, w: Any, s: Any,
) -> None:  # fmt: skip
    """Slopes of pixels as if all their reads were good; a mark on those that are not, or may hold a jump."""
    search = min(fit[solve.ONE], fit[solve.TWO]) < solve.NEVER
    solve.whole_ramps(design, w)
    for a in range(first, last, int(solve.PIECE)):
        m = min(int(solve.PIECE), last - a)
        load(values, offset + a, dq, a, m, design, reads, fit, w, s)
        noise, g = rn2[a : a + m], gain[a : a + m]
        for k in range(U(m)):
            s[solve.NOISE + k] = noise[k]
        for k in range(U(m)):
            s[solve.GAIN + k] = g[k]
        solve.guess(design, fit, w, s)
        solve.forward(design, w, s)
        if search:
            solve.backward(design, w, s)
            for k in range(solve.PIECE):
                s[solve.DOUBT + k] += s[solve.BEST + k]
        finish(a, m, fit, table, s, out)
        again = todo[a : a + m]
        for k in range(U(m)):
            whole = (s[solve.DOUBT + k] == F(0)) & (s[solve.SQUARE + k] < F(3e38))
            again[k] = 0 if whole else 1


@inner
def finish(a: Any, m: Any, fit: Any, table: Any, s: Any, out: Any) -> None:
    """Slopes without the bias of their weights, and variances, from the table of `y / (y + middle)`."""
    middle, last = F(fit[solve.TABLE]), table.shape[1] - 1
    unit = F(1.0 / fit[solve.UNIT])
    slope, variance, of_read, of_photon, chi2 = (
        out[solve.SLOPE, a : a + m], out[solve.VARIANCE, a : a + m], out[solve.READ_VAR, a : a + m],
        out[solve.PHOTON_VAR, a : a + m], out[solve.CHI2, a : a + m],
    )  # fmt: skip
    for k in range(U(m)):
        place = s[solve.Y + k] / (s[solve.Y + k] + middle) * F(last)
        j = min(max(int(place), 0), last - 1) if place >= F(0) else 0
        part = place - F(j)
        bias = table[solve.BIAS, j] + part * (table[solve.BIAS, j + 1] - table[solve.BIAS, j])
        s[solve.CROSS + k] = table[solve.OF_READ, j] + part * (
            table[solve.OF_READ, j + 1] - table[solve.OF_READ, j]
        )
        s[solve.TOTAL + k] = table[solve.OF_PHOTON, j] + part * (
            table[solve.OF_PHOTON, j + 1] - table[solve.OF_PHOTON, j]
        )
        s[solve.MORE + k] += s[solve.GUESS + k] - (
            bias / s[solve.GAIN + k] if s[solve.GUESS + k] > F(0) else F(0)
        )
    for k in range(U(m)):
        slope[k] = s[solve.MORE + k] * unit
    for k in range(U(m)):
        light = s[solve.MORE + k] if s[solve.MORE + k] > F(0) else F(0)
        s[solve.TOTAL + k] *= light / s[solve.GAIN + k] * unit * unit
    for k in range(U(m)):
        s[solve.CROSS + k] *= s[solve.NOISE + k] * unit * unit
    for k in range(U(m)):
        of_read[k] = s[solve.CROSS + k]
    for k in range(U(m)):
        of_photon[k] = s[solve.TOTAL + k]
    for k in range(U(m)):
        variance[k] = s[solve.CROSS + k] + s[solve.TOTAL + k]
    for k in range(U(m)):
        chi2[k] = s[solve.SQUARE + k]


@inner
def admit(
    values: Any, at: Any, dq: Any, k: Any, design: Any, reads: Any, fit: Any, flags: Any, marks: Any, w: Any,
    lane: Any,
) -> None:  # fmt: skip
    """A pixel takes a lane: its differences of good reads. A full read spoils the later ones of its ramp."""
    over, before, j = False, False, 0
    for i in range(values.shape[0]):
        value = float(values[i, at])
        flag = int(dq[i, k]) if dq.shape[0] > 0 else 0
        begins = reads[solve.START, i] > 0
        if begins:
            over, rise = False, 0.0
        else:
            rise = value - float(values[i - 1, at])
        light = rise * reads[solve.AHEAD, i] if rise > 0.0 else 0.0
        if value + light >= fit[solve.FULL] or rise <= -fit[solve.WRAP] or flag & solve.SATURATED:
            over = True
            flags[k] |= solve.SATURATED
        good = math.isfinite(value) and not over and not flag & solve.BAD
        if not begins:
            both = good and before
            if both and flag & solve.JUMP:
                flags[k] |= solve.JUMP
                both = False
            o = U(j) * solve.STRIDE
            w[o + solve.USE + lane] = F(1) if both else F(0)
            w[o + solve.D + lane] = F(rise / design[solve.STEP, j]) if both else F(0)
            j += 1
        if marks.shape[0] > 0 and not good:
            marks[i, k] |= solve.NO_SLOPE
        before = good


@inner
def drop(design: Any, k: Any, marks: Any, w: Any, s: Any, lane: Any) -> None:
    """Leaves out the differences of a lane that chi squared is better without."""
    which = int(s[solve.WHICH + lane])
    for i in range(which // 2, which // 2 + 1 + which % 2):
        o = U(i) * solve.STRIDE
        w[o + solve.USE + lane] = F(0)
        w[o + solve.D + lane] = F(0)
        if marks.shape[0] > 0:
            marks[int(design[solve.FIRST, i]) + 1, k] |= solve.JUMP


@inner
def emit(k: Any, lane: Any, fit: Any, fixsen: Any, s: Any, out: Any, flags: Any, count: Any) -> None:
    """Results of a pixel that is done."""
    g, per = s[solve.GAIN + lane], F(1.0 / fit[solve.UNIT])
    slope = s[solve.MORE + lane]
    if not fixsen:
        slope += s[solve.GUESS + lane] - (s[solve.BEST + lane] / g if s[solve.GUESS + lane] > F(0) else F(0))
    count[k] = int(s[solve.MANY + lane])
    if not (count[k] > 0 and math.isfinite(slope) and s[solve.NOISE + lane] > F(0) and g > F(0)):
        out[:, k] = F(np.nan)
        flags[k] |= solve.NO_SLOPE
        count[k] = 0
    else:
        out[solve.SLOPE, k] = slope * per
        out[solve.READ_VAR, k] = s[solve.CROSS + lane] * s[solve.NOISE + lane] * per * per
        out[solve.PHOTON_VAR, k] = max(slope, F(0)) / g * s[solve.TOTAL + lane] * per * per
        out[solve.VARIANCE, k] = out[solve.READ_VAR, k] + out[solve.PHOTON_VAR, k]
        out[solve.CHI2, k] = s[solve.SQUARE + lane] if count[k] > 1 else F(np.nan)


@inner
def mend(
    values: Any, offset: Any, first: Any, last: Any, dq: Any, design: Any, reads: Any, fit: Any, rn2: Any,
    gain: Any, todo: Any, fixsen: Any, out: Any, flags: Any, count: Any, marks: Any, w: Any, s: Any,
) -> None:  # fmt: skip
    """Pixels `todo` once more: bad reads left out, and jumps as long as dropping differences pays."""
    at = np.full(int(solve.PIECE), -1)
    w[:] = F(0)
    s[:] = F(1)
    following = first
    while True:
        busy = 0
        for lane in range(solve.PIECE):
            while at[lane] < 0 and following < last:
                if todo[following] != 0:
                    at[lane] = following
                    s[solve.NOISE + lane] = rn2[following]
                    s[solve.GAIN + lane] = gain[following]
                    admit(
                        values, offset + following, dq, following, design, reads, fit, flags, marks, w, lane
                    )
                following += 1
            busy += at[lane] >= 0
        if busy == 0:
            break
        solve.guess(design, fit, w, s)
        solve.forward(design, w, s)
        solve.backward(design, w, s)
        done = 0
        for lane in range(solve.PIECE):
            if at[lane] >= 0 and s[solve.WHICH + lane] >= F(0):
                drop(design, at[lane], marks, w, s, lane)
                flags[at[lane]] |= solve.JUMP
            elif at[lane] >= 0:
                done += 1
        if done == 0:
            continue
        solve.weigh(design, w, s)
        if fixsen:
            for lane in range(solve.PIECE):
                if at[lane] >= 0 and s[solve.WHICH + lane] < F(0):
                    ramp_weights(design, w, s, lane)
        solve.cost(design, w, s)
        for lane in range(solve.PIECE):
            if at[lane] >= 0 and s[solve.WHICH + lane] < F(0):
                emit(at[lane], lane, fit, fixsen, s, out, flags, count)
                at[lane] = -1


@inner
def ramp_weights(design: Any, w: Any, s: Any, lane: Any) -> None:
    """Weights of Fixsen et al. (2000, PASP 112, 1350) as weights of differences into T; the slope into MORE.

    Runs of good reads are lines of their own, put together by their read noise.
    """
    many = design.shape[1]
    total = 0.0
    i = 0
    while i < many:
        w[U(i) * solve.STRIDE + solve.T + lane] = F(0)
        e = i + 1
        if w[U(i) * solve.STRIDE + solve.USE + lane] > F(0):
            while (
                e < many
                and w[U(e) * solve.STRIDE + solve.USE + lane] > F(0)
                and design[solve.READ_LOW, e] != 0.0
            ):
                e += 1
            line_weights(i, e, design, w, s, lane)
            of_read = 0.0
            lower = 0.0
            for j in range(i, e):
                o = U(j) * solve.STRIDE
                of_read += w[o + solve.T + lane] * (
                    design[solve.READ, j] * w[o + solve.T + lane] + 2.0 * design[solve.READ_LOW, j] * lower
                )
                lower = w[o + solve.T + lane]
            total += 1.0 / of_read
            for j in range(i, e):
                w[U(j) * solve.STRIDE + solve.T + lane] /= F(of_read)
        i = e
    s[solve.MORE + lane] = F(0)
    for j in range(many):
        o = U(j) * solve.STRIDE
        w[o + solve.T + lane] = F(w[o + solve.T + lane] / total) if total > 0.0 else F(0)
        s[solve.MORE + lane] += w[o + solve.T + lane] * w[o + solve.D + lane]


@inner
def line_weights(i: Any, e: Any, design: Any, w: Any, s: Any, lane: Any) -> None:
    """Differences i to e - 1 in the slope of a line; reads are weighted by |distance from the middle|^p."""
    rise = 0.0
    for j in range(i, e):
        rise += w[U(j) * solve.STRIDE + solve.D + lane] * design[solve.STEP, j] * s[solve.GAIN + lane]
    light = max(rise, 0.0)
    ratio = light / math.sqrt(s[solve.NOISE + lane] * s[solve.GAIN + lane] ** 2 + light)
    power = 0.0
    for least, one_more in ((5.0, 0.4), (10.0, 1.0), (20.0, 3.0), (50.0, 6.0), (100.0, 10.0)):
        power = one_more if ratio >= least else power
    middle = (e - i) / 2.0
    sum0, sum1, sum2 = 0.0, 0.0, 0.0
    for turn in range(2):
        time, before = 0.0, 0.0
        for j in range(e - i + 1):
            v = abs((j - middle) / middle)
            v = v**power if power > 0.0 else 1.0
            if turn == 0:
                sum0 += v
                sum1 += v * time
                sum2 += v * time * time
            else:
                before += v * (time - sum1 / sum0) / (sum2 - sum1 * sum1 / sum0)
                if j < e - i:
                    w[U(i + j) * solve.STRIDE + solve.T + lane] = F(-before * design[solve.STEP, i + j])
            time += design[solve.STEP, i + j] if j < e - i else 0.0


@jit
def fit_pixels(
    values: Any, offset: Any, dq: Any, design: Any, reads: Any, fit: Any, table: Any, rn2: Any, gain: Any,
    fixsen: Any, out: Any, flags: Any, count: Any, marks: Any,
) -> None:  # fmt: skip
    """Slopes of pixels, with what is bad or a jump left out.

    values (reads, all pixels) uint16 or float32, adu, of which those from `offset` on are fitted; dq (reads,
    pixels) uint8 of reads, or of no reads; rn2, gain (pixels,) float32, adu2 of a single read and e-/adu;
    table (3, many) of `tabulate`; fixsen: weights of Fixsen et al. instead of the optimal; out (PLANES,
    pixels) float32: slope [adu/s], its variance and the parts of reading and of photons [adu2/s2], chi
    squared; flags (pixels,) uint8, bits added; count (pixels,) uint16 of differences, those of whole ramps at
    first; marks (reads, pixels) uint8 of reads, or of no reads: bits added.
    """
    w, s = np.zeros(design.shape[1] * int(solve.STRIDE), F), np.ones(int(solve.LINES), F)
    todo = np.ones(rn2.shape[0], np.uint8)
    for first in range(0, rn2.shape[0], solve.CHUNK):
        last = min(first + solve.CHUNK, rn2.shape[0])
        if not fixsen:
            sweep(values, offset, first, last, dq, design, reads, fit, table, rn2, gain, out, todo, w, s)
        mend(
            values, offset, first, last, dq, design, reads, fit, rn2, gain, todo, fixsen, out, flags, count,
            marks, w, s,
        )  # fmt: skip
