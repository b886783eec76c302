"""Kernels of pairs of frames: moments between limits, and sums of products over lags.

Rows are short enough for float32 sums that the compiler spreads over SIMD lanes; rows are added up in
float64. All kernels of this file call kernels of this file only: the cache of compiled code does not notice
an edit elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

Decorator = Callable[[Any], Any]

F = np.float32
PIECE = 512  # columns of one float32 sum: each lane adds some 64 numbers, and errs by a few 1e-7
LANES = {"reassoc", "nsz", "contract"}  # freedom to add in another order; NaN keep their meaning

PRODUCT, COUNT, FIRST, SECOND = range(4)  # sums over the pairs of a lag

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath=LANES)
inner: Decorator = nb.njit(
    nogil=True, error_model="numpy", fastmath=LANES, no_cpython_wrapper=True, no_cfunc_wrapper=True
)


@jit
def moments(values: Any, origin: Any, low: Any, high: Any) -> Any:
    """Count of the values from `low` to `high`, sum and sum of squares of their distance from `origin`.

    values (rows, cols) float32; NaN is outside of all limits.
    """
    count = 0
    total = 0.0
    squares = 0.0
    for r in range(values.shape[0]):
        row = values[r]
        for s in range(0, row.shape[0], PIECE):
            piece = row[s : s + PIECE]
            n: Any = F(0)
            x: Any = F(0)
            xx: Any = F(0)
            for k in range(piece.shape[0]):
                v = piece[k]
                inside = (v >= low) & (v <= high)
                d = v - origin if inside else F(0)
                n += F(1) if inside else F(0)
                x += d
                xx += d * d
            count += int(n)
            total += x
            squares += xx
    return count, total, squares


@inner
def lag_sums(a: Any, b: Any, wa: Any, wb: Any, sums: Any) -> None:
    """Add to `sums` what two pieces of rows give: products, pairs, and the values that met a good one."""
    for s in range(0, a.shape[0], PIECE):
        x = a[s : s + PIECE]
        y = b[s : s + PIECE]
        wx = wa[s : s + PIECE]
        wy = wb[s : s + PIECE]
        product: Any = F(0)
        count: Any = F(0)
        first: Any = F(0)
        second: Any = F(0)
        for k in range(x.shape[0]):
            product += x[k] * y[k]
            count += wx[k] * wy[k]
            first += x[k] * wy[k]
            second += wx[k] * y[k]
        sums[PRODUCT] += product
        sums[COUNT] += count
        sums[FIRST] += first
        sums[SECOND] += second


@jit
def correlate(values: Any, weights: Any, firsts: Any, forward: Any, backward: Any) -> None:
    """Sums over all pairs of pixels at lags (i, j) and (i, -j) whose first is in one of the first rows.

    values (rows, cols) float32, 0 where masked; weights (rows, cols) float32, 1 good, 0 masked; firsts: how
    many rows the first of a pair may be in; forward, backward (lags, lags, 4) float64, added to: product,
    count, sum of the first and of the second of a pair. For i = 0 or j = 0 both directions are one, and
    `backward` is left alone.
    """
    rows, cols = values.shape
    lags = forward.shape[0]
    for r in range(min(rows, firsts)):
        for i in range(min(lags, rows - r)):
            for j in range(min(lags, cols)):
                lag_sums(
                    values[r, : cols - j],
                    values[r + i, j:],
                    weights[r, : cols - j],
                    weights[r + i, j:],
                    forward[i, j],
                )
                if i > 0 and j > 0:
                    lag_sums(
                        values[r, j:],
                        values[r + i, : cols - j],
                        weights[r, j:],
                        weights[r + i, : cols - j],
                        backward[i, j],
                    )
