"""Kernels of spectra: differences of reads laid out in the order of time, and sums of cross products.

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
LANES = {"reassoc", "nsz", "contract"}  # freedom to add in another order; NaN keep their meaning

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath=LANES)


@jit
def lay(
    first: Any,
    second: Any,
    good: Any,
    start: Any,
    step: Any,
    levels: Any,
    cols: int,
    out: Any,
    means: Any,
    counts: Any,
) -> None:
    """Second less first read, each output in the order of time; what is not good takes the mean of its row.

    first, second (rows, cols) of any number type; good (rows, cols) bool; start, step (outputs,) the column
    that an output reads first and the next one from it, `cols` of them; levels (outputs, 2): the level
    that is subtracted, and the distance from it beyond which a value is not good.

    out (outputs, rows, ticks) float32: columns are written, ticks beyond them are left alone. means
    (outputs, rows, 2) float32: mean of the row, and that of even less odd columns. counts (outputs,): good
    values are added.
    """
    outputs, rows = means.shape[0], means.shape[1]
    for i in range(outputs):
        level, limit = F(levels[i, 0]), F(levels[i, 1])
        for r in range(rows):
            line = out[i, r]
            total: Any = F(0)
            n: Any = F(0)
            at = start[i]
            for c in range(cols):
                x = F(second[r, at]) - F(first[r, at]) - level
                fine = good[r, at] and abs(x) <= limit
                total += x if fine else F(0)
                n += F(1) if fine else F(0)
                line[c] = x if fine else F(np.nan)
                at += step[i]
            mean = total / n if n > F(0) else F(0)
            turn: Any = F(0)
            for c in range(0, cols - 1, 2):
                x = line[c] if line[c] == line[c] else mean
                y = line[c + 1] if line[c + 1] == line[c + 1] else mean
                line[c] = x
                line[c + 1] = y
                turn += x - y
            if cols % 2:
                line[cols - 1] = line[cols - 1] if line[cols - 1] == line[cols - 1] else mean
                turn += line[cols - 1]
            means[i, r, 0] = mean
            means[i, r, 1] = turn / F(cols)
            counts[i] += int(n)


@jit
def cross(spectra: Any, sums: Any) -> None:
    """Add the products of each stream and the conjugates of itself and later ones, over all segments.

    spectra (streams, segments, 2, frequencies) float32, real and imaginary parts; sums (pairs, 2,
    frequencies) float32, pairs in the order of the upper triangle.
    """
    streams, segments = spectra.shape[0], spectra.shape[1]
    for s in range(segments):
        pair = 0
        for i in range(streams):
            a, b = spectra[i, s, 0], spectra[i, s, 1]
            for j in range(i, streams):
                c, d = spectra[j, s, 0], spectra[j, s, 1]
                real, imaginary = sums[pair, 0], sums[pair, 1]
                for k in range(a.shape[0]):
                    real[k] += a[k] * c[k] + b[k] * d[k]
                    imaginary[k] += b[k] * c[k] - a[k] * d[k]
                pair += 1
