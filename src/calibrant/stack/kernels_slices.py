"""Kernel of slices: normal equations of light x illumination x structure, pixel by pixel.

``value = gain S(along - dispersion) E(across - edge) P(across - structure) + pedestal``; of the hundreds of
parameters a pixel knows sixteen, so that its products are few. S and P are cubic B-splines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np

Decorator = Callable[[Any], Any]

jit: Decorator = nb.njit(nogil=True, cache=True, error_model="numpy", fastmath={"nsz", "contract"})
inner: Decorator = nb.njit(
    nogil=True, error_model="numpy", fastmath={"nsz", "contract"}, no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
)  # fmt: skip
ROOT = 1 / math.sqrt(2.0)
BELL = 1 / math.sqrt(2.0 * math.pi)
GAIN, EDGE, STRUCTURE, DISPERSION, PEDESTAL, OWN = range(6)
"""Of a campaign: parameters of its own, and their number."""
EDGES, SPLINE = 3, 4  # left edge, right edge, blur; splines that are not 0 at a place
FEW = EDGES + OWN


@inner
def cubic(place: float, count: int, values: Any, slopes: Any) -> int:
    """Cubic B-splines on whole numbers: the first of four; their values and slopes."""
    first = min(max(math.floor(place), 0), count - SPLINE)
    x = min(max(place - first, 0.0), 1.0)
    y = 1 - x
    values[0], values[3] = y * y * y / 6, x * x * x / 6
    values[1], values[2] = (3 * x - 6) * x * x / 6 + 2 / 3, (3 * y - 6) * y * y / 6 + 2 / 3
    slopes[0], slopes[3] = -y * y / 2, x * x / 2
    slopes[1], slopes[2] = (3 * x - 4) * x / 2, -(3 * y - 4) * y / 2
    return int(first)


@inner
def lit(edges: Any, place: float, slopes: Any) -> float:
    """A slice with blurred edges, and its derivatives by left edge, right edge and blur."""
    one, other = (place - edges[0]) / edges[2], (place - edges[1]) / edges[2]
    left, right = (
        math.exp(-0.5 * one * one) * BELL / edges[2],
        math.exp(-0.5 * other * other) * BELL / edges[2],
    )
    slopes[0], slopes[1], slopes[2] = -left, right, other * right - one * left
    return 0.5 * (math.erf(one * ROOT) - math.erf(other * ROOT))


@inner
def add(a: int, b: int, off: float, by: Any, from_s: Any, from_p: Any, sums: Any) -> None:
    """Products of a pixel's derivatives; loops of fixed length over neighbours in memory."""
    band, cross, cross_p, rest, rest_p, near, gradient, gradient_s, gradient_p = sums
    for i in range(FEW):
        gradient[i] += by[i] * off
        for j in range(i, FEW):
            rest[i, j] += by[i] * by[j]
    for i in range(SPLINE):
        gradient_p[b + i] += from_p[i] * off
        for j in range(FEW):
            rest_p[b + i, j] += from_p[i] * by[j]
        for j in range(i, SPLINE):
            near[b + i, j - i] += from_p[i] * from_p[j]
    for i in range(SPLINE):
        gradient_s[a + i] += from_s[i] * off
        for j in range(FEW):
            cross[a + i, j] += from_s[i] * by[j]
        for j in range(SPLINE):
            cross_p[a + i, b + j] += from_s[i] * from_p[j]
        for j in range(i, SPLINE):
            band[a + i, j - i] += from_s[i] * from_s[j]


@jit
def equations(
    across: Any, along: Any, values: Any, weights: Any, own: Any, edges: Any, structure: Any, spectrum: Any,
    sums: Any, light: Any,
) -> float:  # fmt: skip
    """Add the pixels of one campaign to the normal equations; the sum of squared residuals.

    Parameters
    ----------
    across, along, values, weights : ndarray
        float64, (n,): columns from the middle of the slice; place among the splines of the spectrum; value;
        1 / sigma, 0 for pixels that are left out.
    own : ndarray
        float64, (7,): of this campaign, then the first knot of the structure, and its knots per column.
    edges, structure, spectrum : ndarray
        float64, (3,), (s,), (m,).
    sums : tuple of ndarray
        float64. Of the spectrum with itself, (m, 4), upper diagonals; with `edges` and `own`, (m, 8); with
        the structure, (m, s). Of edges and own with themselves, (8, 8), upper half; of the structure with
        them, (s, 8), and with itself, (s, 4), as of the spectrum. Gradients by edges and own, (8,), spectrum
        and structure.
    light : ndarray
        float64, (n,), set: the model without its pedestal, also of pixels that are left out.
    """
    from_s, slope_s, from_p, slope_p = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    borders, by = np.empty(EDGES), np.empty(FEW)
    total, per_knot = 0.0, own[OWN + 1]
    for n in range(across.size):
        a = cubic(along[n] - own[DISPERSION], spectrum.size, from_s, slope_s)
        b = cubic((across[n] - own[STRUCTURE] - own[OWN]) * per_knot, structure.size, from_p, slope_p)
        level, climb, within, within_climb = 0.0, 0.0, 0.0, 0.0
        for i in range(SPLINE):
            level += from_s[i] * spectrum[a + i]
            climb += slope_s[i] * spectrum[a + i]
            within += from_p[i] * structure[b + i]
            within_climb += slope_p[i] * structure[b + i]
        seen = lit(edges, across[n] - own[EDGE], borders)
        light[n] = own[GAIN] * level * seen * within
        weight = weights[n]
        if weight == 0.0:
            continue
        off = (values[n] - light[n] - own[PEDESTAL]) * weight
        total += off * off
        strong = weight * own[GAIN]
        for i in range(EDGES):
            by[i] = strong * level * within * borders[i]
        by[EDGES + GAIN] = weight * level * seen * within
        by[EDGES + EDGE] = by[0] + by[1]  # both edges together
        by[EDGES + STRUCTURE] = -strong * level * seen * within_climb * per_knot
        by[EDGES + DISPERSION] = -strong * climb * seen * within
        by[EDGES + PEDESTAL] = weight
        for i in range(SPLINE):
            from_s[i] *= strong * seen * within
            from_p[i] *= strong * level * seen
        add(a, b, off, by, from_s, from_p, sums)
    return total
