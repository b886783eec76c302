"""Kernels of ramps that solve: slope, chi squared and weights of the differences of many pixels in lanes.

Differences are divided by their time step; their covariance is ``rn2 (R + y P)``, tridiagonal, with
``y = slope / (gain rn2)``. `design` (DESIGN fields, differences) and `reads` (READS fields, reads) float64
hold what all pixels share, with times in units of the mean step.

Scratch is one flat array `w` of the differences and one `s` of the pixels, in rows of a fixed number of lanes
that are addressed by unsigned offsets; what a loop over differences does to a row is a function of its own
where it runs backwards. Only so can the compiler tell that rows do not overlap; else it does without lanes,
at a fifth of the speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

Decorator = Callable[[Any], Any]

F, U = np.float32, np.uint64
PIECE = U(128)  # pixels worked on together: their scratch stays in the near cache
CHUNK = 1 << 14  # pixels swept before those among them that need it are mended: reads are near still

FIRST, STEP, READ, READ_LOW, PHOTON, PHOTON_LOW, PAIR = range(7)
"""Of a difference: earlier read, time step, diagonal and lower neighbour of R and P (0: a new ramp), and 1
if a jump may lie in the group that it shares with the difference before."""
START, AHEAD = range(2)
"""Of a read: 1 if a ramp begins, and how much of the step that led to it the last frame of its average lies
beyond its mean."""
FULL, ONE, TWO, WRAP, UNIT, TABLE = range(6)
"""Of the fit: saturation [adu], chi squared that one and two differences must be worth to be dropped, fall
that is a wrapped counter [adu], time unit [s], and the `y` at the middle of the table."""
SLOPE, VARIANCE, READ_VAR, PHOTON_VAR, CHI2, PLANES = range(6)
OF_READ, OF_PHOTON, BIAS = range(3)  # of the table
NO_SLOPE, SATURATED, JUMP = 1, 2, 4  # bits of calibrant.frame.DQ
BAD, ANY = 1 | 2, 1 | 2 | 4  # bits of a read that must not be used; of one that leaves a difference out
NEVER = 1e30  # no chi squared is worth that

D, USE, INV, Z, T, LOW, LEFT, STRIDE = (U(row) * PIECE for row in range(8))
"""Scratch of a difference: itself, and 1 if it is used; 1 / D, z and t of C = L D L', L z = d - guess and
L t = 1, which become the diagonal of C^-1, C^-1 residual and C^-1 1; the lower neighbour of L; what is left
of the inverse variance of an offset of it beside the slope."""
(GUESS, STEPS, MANY, Y, NOISE, GAIN, TOTAL, CROSS, SQUARE, PER, MORE, BEST, WHICH, ONCE, TWICE, DOUBT,
 LINES) = (U(row) * PIECE for row in range(17))  # fmt: skip
"""Scratch of a pixel: guess of the slope, time and number of differences in use, y, read variance and gain;
sums t t / D, t z / D, z z / D; 1 / total, slope less guess; the best fall of chi squared beyond what it must
be, its difference (twice its number, and one for a pair), what it must be; doubt whether it is whole."""
SAFE = {"reassoc", "nsz", "contract"}  # freedom to add in another order; NaN keep their meaning

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath=SAFE)
inner: Decorator = nb.njit(
    nogil=True, error_model="numpy", fastmath=SAFE, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


@inner
def guess(design: Any, fit: Any, w: Any, s: Any) -> None:
    """Means of the differences in use by their time, and what dropping one or two of them must be worth."""
    one, two, never = F(fit[ONE]), F(fit[TWO]), F(NEVER)
    for k in range(PIECE):
        s[GUESS + k] = F(0)
        s[STEPS + k] = F(0)
        s[MANY + k] = F(0)
    for i in range(design.shape[1]):
        step, o = F(design[STEP, i]), U(i) * STRIDE
        for k in range(PIECE):
            s[GUESS + k] += w[o + D + k] * step
            s[STEPS + k] += w[o + USE + k] * step
            s[MANY + k] += w[o + USE + k]
    for k in range(PIECE):
        s[GUESS + k] = s[GUESS + k] / s[STEPS + k] if s[STEPS + k] > F(0) else F(0)
        s[ONCE + k] = one if s[MANY + k] > F(2) else never
        s[TWICE + k] = two if s[MANY + k] > F(3) else never
    for k in range(PIECE):
        light = s[GUESS + k] if s[GUESS + k] > F(0) else F(0)
        s[Y + k] = light / (s[GAIN + k] * s[NOISE + k])


@inner
def forward(design: Any, w: Any, s: Any) -> None:
    """C = L D L', and the sums that the slope and chi squared are made of."""
    read, photon = F(design[READ, 0]), F(design[PHOTON, 0])
    for k in range(PIECE):
        w[INV + k] = w[USE + k] / (read + s[Y + k] * photon)
        w[Z + k] = (w[D + k] - s[GUESS + k]) * w[USE + k]
        w[T + k] = w[USE + k]
        s[TOTAL + k] = w[INV + k]
        s[CROSS + k] = w[INV + k] * w[Z + k]
        s[SQUARE + k] = w[INV + k] * w[Z + k] * w[Z + k]
    for i in range(1, design.shape[1]):
        read, photon = F(design[READ, i]), F(design[PHOTON, i])
        read_low, photon_low = F(design[READ_LOW, i]), F(design[PHOTON_LOW, i])
        o = U(i) * STRIDE
        p = o - STRIDE
        for k in range(PIECE):
            use = w[o + USE + k]
            beta = (read_low + s[Y + k] * photon_low) * use
            lo = beta * w[p + INV + k]
            w[o + LOW + k] = lo
            w[o + INV + k] = use / (read + s[Y + k] * photon - beta * lo)
            w[o + Z + k] = (w[o + D + k] - s[GUESS + k]) * use - lo * w[p + Z + k]
            w[o + T + k] = use - lo * w[p + T + k]
        for k in range(PIECE):
            iv, z, t = w[o + INV + k], w[o + Z + k], w[o + T + k]
            s[TOTAL + k] += t * t * iv
            s[CROSS + k] += t * z * iv
            s[SQUARE + k] += z * z * iv
    for k in range(PIECE):
        s[PER + k] = F(1) / s[TOTAL + k] if s[TOTAL + k] > F(0) else F(0)
    for k in range(PIECE):
        s[MORE + k] = s[CROSS + k] * s[PER + k]
    for k in range(PIECE):
        s[SQUARE + k] = (s[SQUARE + k] - s[CROSS + k] * s[MORE + k]) / s[NOISE + k]


@inner
def last_row(w: Any, s: Any, o: Any) -> None:
    """C^-1 of the residuals and of ones, of the last difference."""
    for k in range(PIECE):
        iv, t = w[o + INV + k], w[o + T + k]
        w[o + Z + k] = (w[o + Z + k] - s[MORE + k] * t) * iv
        w[o + T + k] = t * iv


@inner
def row_before(w: Any, s: Any, o: Any) -> None:
    """The same of an earlier difference, and the diagonal of C^-1."""
    n = o + STRIDE
    for k in range(PIECE):
        lo = w[n + LOW + k]
        iv, t = w[o + INV + k], w[o + T + k]
        w[o + Z + k] = (w[o + Z + k] - s[MORE + k] * t) * iv - lo * w[n + Z + k]
        w[o + T + k] = t * iv - lo * w[n + T + k]
        w[o + INV + k] = iv + lo * lo * w[n + INV + k]


@inner
def without_one(w: Any, s: Any, o: Any, number: Any) -> None:
    """Fall of chi squared if the difference is left out."""
    for k in range(PIECE):
        left = w[o + INV + k] - w[o + T + k] * w[o + T + k] * s[PER + k]
        w[o + LEFT + k] = left
        fall = w[o + Z + k] * w[o + Z + k] / (left * s[NOISE + k]) - s[ONCE + k] if left > F(0) else F(0)
        s[WHICH + k] = number if fall > s[BEST + k] else s[WHICH + k]
        s[BEST + k] = fall if fall > s[BEST + k] else s[BEST + k]


@inner
def without_two(w: Any, s: Any, o: Any, number: Any) -> None:
    """Fall of chi squared if the difference and the next are left out."""
    n = o + STRIDE
    for k in range(PIECE):
        z, after = w[o + Z + k], w[n + Z + k]
        left, right = w[o + LEFT + k], w[n + LEFT + k]
        c = -w[n + LOW + k] * w[n + INV + k] - w[o + T + k] * w[n + T + k] * s[PER + k]
        below = (left * right - c * c) * s[NOISE + k]
        fall = z * z * right - F(2) * z * after * c + after * after * left
        fall = fall / below - s[TWICE + k] if below > F(0) else F(0)
        s[WHICH + k] = number if fall > s[BEST + k] else s[WHICH + k]
        s[BEST + k] = fall if fall > s[BEST + k] else s[BEST + k]


@inner
def backward(design: Any, w: Any, s: Any) -> None:
    """C^-1 of the residuals and of ones, and what chi squared falls at most by leaving out one or two."""
    many = design.shape[1]
    for k in range(PIECE):
        s[BEST + k] = F(0)
        s[WHICH + k] = F(-1)
    last_row(w, s, U(many - 1) * STRIDE)
    without_one(w, s, U(many - 1) * STRIDE, F(2 * many - 2))
    for i in range(many - 2, -1, -1):
        row_before(w, s, U(i) * STRIDE)
        without_one(w, s, U(i) * STRIDE, F(2 * i))
        if design[PAIR, i + 1] != 0.0:
            without_two(w, s, U(i) * STRIDE, F(2 * i + 1))


@inner
def whole_ramps(design: Any, w: Any) -> None:
    """All differences are in use."""
    w[:] = F(0)
    for i in range(design.shape[1]):
        for k in range(PIECE):
            w[U(i) * STRIDE + USE + k] = F(1)


@inner
def weigh(design: Any, w: Any, s: Any) -> None:
    """C^-1 1 becomes weights that sum to 1."""
    for i in range(design.shape[1]):
        o = U(i) * STRIDE
        for k in range(PIECE):
            w[o + T + k] *= s[PER + k]


@inner
def cost(design: Any, w: Any, s: Any) -> None:
    """Of weights in T: w' R w into CROSS, w' P w into TOTAL, and the bias times the gain into BEST.

    The bias is that of Brandt (2024, PASP 136, 045004), c' C dw/dy, of weights that follow a guess c' d of
    these differences. With C w = 1 / total and dw/dy = w (1' C^-1 P w) - C^-1 P w it is w' P w - c' P w.
    """
    for k in range(PIECE):
        s[CROSS + k] = F(design[READ, 0]) * w[T + k] * w[T + k]
        s[TOTAL + k] = F(design[PHOTON, 0]) * w[T + k] * w[T + k]
        s[BEST + k] = F(design[STEP, 0] * design[PHOTON, 0]) * w[USE + k] * w[T + k]
    for i in range(1, design.shape[1]):
        read, read_low = F(design[READ, i]), F(design[READ_LOW, i])
        photon, photon_low = F(design[PHOTON, i]), F(design[PHOTON_LOW, i])
        step, step_low = F(design[STEP, i]), F(design[STEP, i - 1])
        o = U(i) * STRIDE
        p = o - STRIDE
        for k in range(PIECE):
            weight, lower = w[o + T + k], w[p + T + k]
            s[CROSS + k] += weight * (read * weight + F(2) * read_low * lower)
            s[TOTAL + k] += weight * (photon * weight + F(2) * photon_low * lower)
            s[BEST + k] += step * w[o + USE + k] * (photon * weight + photon_low * lower)
            s[BEST + k] += step_low * w[p + USE + k] * photon_low * weight
    for k in range(PIECE):
        s[BEST + k] = s[TOTAL + k] - (s[BEST + k] / s[STEPS + k] if s[STEPS + k] > F(0) else F(0))


@jit
def tabulate(design: Any, fit: Any, table: Any) -> None:
    """Variances per read variance and per slope / gain, and the bias times the gain, of whole ramps.

    table (3, many) float32, overwritten, for equal steps of y / (y + middle), to infinity.
    """
    w, s = np.zeros(design.shape[1] * int(STRIDE), F), np.ones(int(LINES), F)
    whole_ramps(design, w)
    for a in range(0, table.shape[1], int(PIECE)):
        guess(design, fit, w, s)
        for k in range(PIECE):
            part = min((a + int(k)) / (table.shape[1] - 1), 1.0 - 1e-9)
            s[Y + k] = F(fit[TABLE] * part / (1.0 - part))
        forward(design, w, s)
        backward(design, w, s)
        weigh(design, w, s)
        cost(design, w, s)
        part_of = table[:, a : a + int(PIECE)]
        for k in range(U(part_of.shape[1])):
            part_of[OF_READ, k] = s[CROSS + k]
            part_of[OF_PHOTON, k] = s[TOTAL + k]
            part_of[BIAS, k] = s[BEST + k]
