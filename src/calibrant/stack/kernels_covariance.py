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
def two_lags(x: Any, wx: Any, y: Any, wy: Any, sums: Any) -> None:
    """Add to `sums` (2, 4) what `x` gives with `y` and with its right neighbours; y is longer by one.

    Two lags at a time share what is loaded of `x`: loads, not sums, are what such loops wait for.
    """
    near = y[: x.shape[0]]
    far = y[1:]
    w_near = wy[: x.shape[0]]
    w_far = wy[1:]
    product: Any = F(0)
    count: Any = F(0)
    first: Any = F(0)
    second: Any = F(0)
    far_product: Any = F(0)
    far_count: Any = F(0)
    far_first: Any = F(0)
    far_second: Any = F(0)
    for k in range(x.shape[0]):
        product += x[k] * near[k]
        count += wx[k] * w_near[k]
        first += x[k] * w_near[k]
        second += wx[k] * near[k]
        far_product += x[k] * far[k]
        far_count += wx[k] * w_far[k]
        far_first += x[k] * w_far[k]
        far_second += wx[k] * far[k]
    sums[0, PRODUCT] += product
    sums[0, COUNT] += count
    sums[0, FIRST] += first
    sums[0, SECOND] += second
    sums[1, PRODUCT] += far_product
    sums[1, COUNT] += far_count
    sums[1, FIRST] += far_first
    sums[1, SECOND] += far_second


@jit
def correlate(values: Any, weights: Any, firsts: Any, forward: Any, backward: Any) -> None:
    """Sums over all pairs of pixels at lags (i, j) and (i, -j) of which one is in one of the first rows.

    values (rows, cols + lags + 1) float32, 0 where masked and in the last lags + 1 columns; weights, of the
    same shape, float32, 1 good, else 0; firsts: how many rows the upper one of a pair may be in; forward,
    backward (lags, lags, 4) float64, lags even, added to: product, count, sums of the first and of the second
    of a pair. `backward` is left alone for i = 0, and repeats `forward` for j = 0.
    """
    rows = values.shape[0]
    lags = forward.shape[0]
    cols = values.shape[1] - lags - 1
    for r in range(min(rows, firsts)):
        for i in range(min(lags, rows - r)):
            for s in range(0, cols, PIECE):
                e = min(s + PIECE, cols)
                for j in range(0, lags, 2):
                    two_lags(
                        values[r, s:e],
                        weights[r, s:e],
                        values[r + i, s + j : e + j + 1],
                        weights[r + i, s + j : e + j + 1],
                        forward[i, j : j + 2],
                    )
                    if i > 0:
                        two_lags(
                            values[r + i, s:e],
                            weights[r + i, s:e],
                            values[r, s + j : e + j + 1],
                            weights[r, s + j : e + j + 1],
                            backward[i, j : j + 2],
                        )
