"""Numbers of whole outputs from a map of read noise: clipped means and histograms, in one pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._ramp_noise_boxes import limits_of
from calibrant.product import Quantity

NAME = "read_noise"
BINS = 120  # of a histogram
LOWEST, HIGHEST = 0.3, 10.0  # its ends in units of the middle
SOME = 65_536  # pixels of each output that are looked at for limits
Part = tuple[float, float, float]


def census(
    noise: NDArray[np.float32],
    good: NDArray[np.bool_],
    outputs: NDArray[np.int16],
    border: NDArray[np.bool_],
) -> tuple[list[Quantity], dict[str, NDArray[Any]]]:
    """Means of all good pixels, of each output and of reference pixels, and a histogram of each output.

    Parameters
    ----------
    noise, good, outputs, border : ndarray
        (rows, cols); outputs from 0, and `border` the reference pixels.
    """
    from calibrant.stack import kernels_read_noise as kernels

    many = max(int(outputs[0].max()), int(outputs[:, 0].max())) + 1
    group = np.where(good, outputs, np.int16(-1))
    group[border] = many
    group, flat = group.ravel(), noise.ravel()
    some = slice(None, None, max(1, flat.size // (many * SOME)) | 1)
    limits = np.full((many + 1, 4), np.nan)
    for number in range(many):
        limits[number, :2] = limits_of(flat[some][group[some] == number])[1:]
    limits[many, :2] = limits_of(noise[border])[1:]
    middle = limits_of(flat[some][(group[some] >= 0) & (group[some] < many)])[0]
    limits[:, 2:] = np.array([LOWEST, HIGHEST]) * (middle if middle > 0 else 1.0)
    sums, counts = np.zeros((many + 1, 3)), np.zeros((many + 1, BINS), np.int64)
    kernels.census(flat, group, limits, BINS, sums, counts)
    edges = np.geomspace(limits[0, 2], limits[0, 3], BINS + 1)
    return list(_levels([_part(*one) for one in zip(sums, limits, strict=True)], bool(border.any()))), {
        "output": np.repeat(np.arange(1, many + 1, dtype=np.int32), BINS),
        "low": np.tile(edges[:-1], many),
        "high": np.tile(edges[1:], many),
        "pixels": counts[:many].ravel(),
    }


def _levels(parts: list[Part], border: bool) -> list[Quantity]:
    """Of all pixels, of each output, of reference pixels, and how these compare."""
    *outputs, reference = parts
    found = [_level(NAME, _joined(outputs), "")]
    if len(outputs) > 1:
        found += [_level(NAME, part, str(number)) for number, part in enumerate(outputs, 1)]
    if border:
        own = _level("read_noise_reference", reference, "")
        ratio = own.value / found[0].value if found[0].value else math.nan
        errors = [(one.sigma or 0.0) / one.value if one.value else math.nan for one in (own, found[0])]
        found += [own, Quantity("reference_ratio", ratio, ratio * math.hypot(*errors))]
    return found


def _part(sums: NDArray[np.float64], limits: NDArray[np.float64]) -> Part:
    """Count, mean and variance."""
    n = float(sums[0])
    if n == 0:
        return 0.0, math.nan, math.nan
    mean = float(sums[1]) / n
    return n, mean + 0.5 * float(limits[0] + limits[1]), max(float(sums[2]) / n - mean**2, 0.0)


def _joined(parts: list[Part]) -> Part:
    """Of several groups together."""
    known = np.array([part for part in parts if part[0] > 0])
    if not known.size:
        return 0.0, math.nan, math.nan
    n, mean, variance = known.T
    middle = float((n * mean).sum() / n.sum())
    return float(n.sum()), middle, float((n * (variance + (mean - middle) ** 2)).sum() / n.sum())


def _level(name: str, part: Part, place: str) -> Quantity:
    n, mean, variance = part
    return Quantity(name, mean, math.sqrt(variance / n) if n else math.nan, "adu", place)
