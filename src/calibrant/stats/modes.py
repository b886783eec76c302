"""The most frequent value."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.stats.values import finite_values, some_values


def half_sample_mode(a: NDArray[Any]) -> float:
    """Mode by the half-sample method: again and again the narrowest half of the values.

    Parameters
    ----------
    a : ndarray
        Any shape and unit; NaN and infinities are left out.

    Returns
    -------
    float
        In the unit of `a`. Hardly moved by outliers on one side, but as noisy as n^(-1/3).

    Raises
    ------
    OptionError
        If `a` has no finite value.

    Notes
    -----
    Bickel & Fruehwirth 2006, Comput. Stat. Data Anal. 50, 3500. Of equally narrow halves the middle one is
    taken.
    """
    x = np.sort(some_values(finite_values(a, None), "the mode")).astype(np.float64)
    while x.size > 3:
        half = (x.size + 1) // 2
        widths = x[half - 1 :] - x[: x.size - half + 1]
        narrowest = np.flatnonzero(widths == widths.min())
        start = int(narrowest[narrowest.size // 2])
        x = x[start : start + half]
    if x.size == 3:
        left, right = x[1] - x[0], x[2] - x[1]
        x = x if left == right else (x[:2] if left < right else x[1:])
    return float(x.mean())


def mode(a: NDArray[Any], *, method: Literal["histogram", "half-sample"] = "histogram") -> float:
    """The most frequent value: the sky of an image, the level of a flat.

    Parameters
    ----------
    a : ndarray
        Any shape and unit; NaN and infinities are left out.
    method : str
        ``histogram``: the vertex of a parabola through the logarithm of the counts around the peak;
        ``half-sample``: see `half_sample_mode`.

    Returns
    -------
    float
        In the unit of `a`.

    Raises
    ------
    OptionError
        If `method` is unknown or `a` has no finite value.
    """
    if method == "half-sample":
        return half_sample_mode(a)
    if method != "histogram":
        raise OptionError("unknown method", where="method", expected="histogram or half-sample", got=method)
    values = some_values(finite_values(a, None), "the mode")
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    width = 2.0 * (high - low) / values.size ** (1 / 3)  # Freedman & Diaconis 1981
    if width == 0.0:
        return float(middle)
    if values.dtype.kind in "iu":
        width = max(1.0, float(round(width)))  # whole numbers per bin, or the counts beat with the bins
    first = math.floor(middle - 4.0 * (high - low)) - 0.5
    edges = first + width * np.arange(math.ceil((8.0 * (high - low) + 2.0) / width) + 1)
    counts = np.histogram(values, edges)[0]
    return _peak(0.5 * (edges[:-1] + edges[1:]), counts)


def _peak(x: NDArray[np.float64], counts: NDArray[Any]) -> float:
    """Vertex of a parabola through log(counts), over the bins with more than half of the peak."""
    smooth = np.convolve(counts, np.ones(3) / 3, "same")
    top = int(smooth.argmax())
    below = np.flatnonzero(smooth < 0.5 * smooth[top])
    left, right = below[below < top], below[below > top]
    start = int(left[-1]) + 1 if left.size else 0
    stop = int(right[0]) if right.size else x.size
    near, weight = x[start:stop] - x[top], counts[start:stop]
    if np.count_nonzero(weight) < 3:
        return float(x[top])
    logs = np.log(np.maximum(weight, 1))
    # The variance of log(n) is 1/n: weights sqrt(n), which also leaves empty bins out.
    curve = np.polynomial.Polynomial.fit(near, logs, 2, w=np.sqrt(weight)).convert().coef
    if curve.size < 3 or curve[2] >= 0:
        return float(x[top])
    vertex = -0.5 * curve[1] / curve[2]
    return float(x[top] + min(max(vertex, near[0]), near[-1]))
