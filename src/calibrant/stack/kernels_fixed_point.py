"""Kernels of fixed points over an image: charge that a potential moves between pixels.

Rows `first` up to `last` of whole images are worked on, so that bands may go to threads: each writes its own.
At the border of the image nothing flows, and neighbours beyond it are the pixels at the border themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

Decorator = Callable[[Any], Any]

F = np.float32
jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy")
inner: Decorator = nb.njit(nogil=True, error_model="numpy", inline="always")


@inner
def _at_border(before: Any, here: Any, there: Any, after: Any) -> Any:
    """Density at the border between `here` and `there`, of four pixels in line that hold its integrals."""
    return (F(7.0) * (here + there) - before - after) * F(1.0 / 12.0)


@jit
def conserving(light: Any, potential: Any, charge: Any, out: Any, first: Any, last: Any) -> Any:
    """``out = charge + div(light * grad(potential))`` by what crosses each border.

    What leaves a pixel enters its neighbour: the sum over the image is that of `charge`.

    Parameters
    ----------
    light, potential, charge, out : (rows, cols) float32
        `out` may not be `light`.
    first, last : int
        Rows to work on.

    Returns
    -------
    tuple of float
        Sums over the rows of |out - light| and |out - charge|.
    """
    rows, cols = light.shape
    changed, moved = 0.0, 0.0
    for r in range(first, last):
        up, down = max(r - 1, 0), min(r + 1, rows - 1)
        up2, down2 = max(r - 2, 0), min(r + 2, rows - 1)
        for c in range(cols):
            left, right = max(c - 1, 0), min(c + 1, cols - 1)
            left2, right2 = max(c - 2, 0), min(c + 2, cols - 1)
            here, level = light[r, c], potential[r, c]
            flow = _at_border(light[up, c], here, light[down, c], light[down2, c]) * (
                potential[down, c] - level
            )
            flow -= _at_border(light[up2, c], light[up, c], here, light[down, c]) * (level - potential[up, c])
            flow += _at_border(light[r, left], here, light[r, right], light[r, right2]) * (
                potential[r, right] - level
            )
            flow -= _at_border(light[r, left2], light[r, left], here, light[r, right]) * (
                level - potential[r, left]
            )
            value = charge[r, c] + flow
            changed += abs(value - light[r, c])
            moved += abs(value - charge[r, c])
            out[r, c] = value
    return changed, moved


@jit
def differential(light: Any, potential: Any, charge: Any, out: Any, first: Any, last: Any) -> Any:
    """``out = charge + grad(light).grad(potential) + light * laplacian(potential)``.

    Gradients are central differences, the Laplacian has five points. Parameters and sums as of `conserving`.
    """
    rows, cols = light.shape
    changed, moved = 0.0, 0.0
    quarter, four = F(0.25), F(4.0)
    for r in range(first, last):
        up, down = max(r - 1, 0), min(r + 1, rows - 1)
        for c in range(cols):
            left, right = max(c - 1, 0), min(c + 1, cols - 1)
            north, south, west, east = (
                potential[down, c],
                potential[up, c],
                potential[r, left],
                potential[r, right],
            )
            flow = quarter * (light[down, c] - light[up, c]) * (north - south)
            flow += quarter * (light[r, right] - light[r, left]) * (east - west)
            flow += light[r, c] * (north + south + west + east - four * potential[r, c])
            value = charge[r, c] + flow
            changed += abs(value - light[r, c])
            moved += abs(value - charge[r, c])
            out[r, c] = value
    return changed, moved
