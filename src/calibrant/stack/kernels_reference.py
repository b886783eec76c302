"""Kernels of levels: means of all good pixels of each read, and their noise about the mean of their row.

All kernels of this file call kernels of this file only: the cache of compiled code does not notice an edit
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb

Decorator = Callable[[Any], Any]

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy")


@jit
def steady(values: Any, lanes: Any, steps: Any, limits: Any, good: Any) -> None:
    """Take from `good` (rows, cols) what is not finite, or jumps between two reads.

    values (reads, rows, cols); lanes (cols,): lane of each column; steps (reads - 1, lanes): change of the
    level of a lane from read to read; limits (lanes,): distance from it that is a jump.
    """
    reads, rows, cols = values.shape
    for r in range(rows):
        for g in range(reads):
            for c in range(cols):
                x = float(values[g, r, c])
                if x - x != 0.0:  # not finite
                    good[r, c] = False
                elif g > 0:
                    change = x - float(values[g - 1, r, c]) - steps[g - 1, lanes[c]]
                    if abs(change) > limits[lanes[c]]:
                        good[r, c] = False


@jit
def gather(
    values: Any, lanes: Any, good: Any, place: Any, sums: Any, squares: Any, freedom: Any, regions: int
) -> None:
    """Sums of the values of each place and read, and squares of their changes about those of their row.

    values (reads, rows, cols); lanes (cols,); good (rows, cols); place (rows, cols): number of the group of
    pixels that one belongs to. Added to are sums (reads, places), squares (places,) of the changes between
    two reads less the mean change of the lane in its row, and freedom (places,), their degrees of freedom.
    Places below `regions` have a mean of their own: they are quieter than the others.
    """
    reads, rows, cols = values.shape
    many = 2 * (lanes.max() + 1)
    for r in range(rows):
        for g in range(reads):
            totals = [0.0] * many
            counts = [0] * many
            for c in range(cols):
                if good[r, c]:
                    x = float(values[g, r, c])
                    sums[g, place[r, c]] += x
                    if g > 0:
                        kind = 2 * lanes[c] + (place[r, c] >= regions)
                        totals[kind] += x - float(values[g - 1, r, c])
                        counts[kind] += 1
            if g == 0:
                continue
            for c in range(cols):
                kind = 2 * lanes[c] + (place[r, c] >= regions)
                n = counts[kind]
                if good[r, c] and n > 1:
                    change = float(values[g, r, c]) - float(values[g - 1, r, c]) - totals[kind] / n
                    squares[place[r, c]] += change * change
                    freedom[place[r, c]] += 1.0 - 1.0 / n
