"""What campaigns show side by side: per cent changes of pixels, and levels of gaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._campaign_fit import Stack
from calibrant.instrument.slices import SliceMap
from calibrant.stats import mad_std

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]
MEDIAN = math.sqrt(math.pi / 2)  # sigma of a median over that of a mean


def change(stack: Stack, one: int, other: int, unstable: float) -> tuple[F8, F8, Bools]:
    """Per cent by which `other` lies above `one`, its sigma, and where it cannot be said; (rows, cols) each.

    sigma = 100 |b/a| sqrt((sb/b)^2 + (sa/a)^2), written so that b may be 0; ratios whose denominator is not
    `unstable` of its sigmas from 0 are NaN.
    """
    a, b = stack.values[one], stack.values[other]
    with np.errstate(invalid="ignore", divide="ignore"):
        near_zero = np.abs(a) < unstable * np.sqrt(stack.variance[one])
        bad = near_zero | ~stack.good[one] | ~stack.good[other]
        value = np.where(bad, np.nan, 100 * (b / a - 1))
        variance = (stack.variance[other] + (b / a) ** 2 * stack.variance[one]) / a**2
    return value, np.where(bad, np.nan, 100 * np.sqrt(variance)), near_zero


def edges(slices: SliceMap, width: float) -> Bools:
    """Pixels of slices at most `width` columns from the border of theirs; wavelength along the rows."""
    found = np.zeros(slices.shape, bool)
    for number in slices.numbers:
        place = slices.within(number)
        with np.errstate(invalid="ignore"):
            columns = np.minimum(place, 1 - place) * np.isfinite(place).sum(axis=1)[:, None]
            found |= columns < width
    return found


def change_table(
    stack: Stack, slices: SliceMap, reference: int, border: Bools, unstable: float
) -> tuple[dict[str, NDArray[Any]], dict[str, F8]]:
    """Table ``change`` of slices, edges and cores apart, and the planes of change and sigma by name."""
    rows: list[tuple[Any, ...]] = []
    planes: dict[str, F8] = {}
    for k, name in enumerate(stack.names):
        if k == reference:
            continue
        value, sigma, near_zero = change(stack, reference, k, unstable)
        planes[f"change_{name}"], planes[f"sigma_{name}"] = value, sigma
        for number in slices.numbers:
            own = slices.ids == number
            for part, here in (("core", own & ~border), ("edge", own & border)):
                good = here & np.isfinite(value)
                seen, masked = value[good], int((here & near_zero).sum())
                low, high = np.percentile(seen, (1, 99)) if seen.size else (math.nan, math.nan)
                rows.append((str(number), name, part, *_median(seen), low, high, int(good.sum()), masked))
    names = ("slice", "campaign", "part", "median", "sigma", "low", "high", "pixels", "unstable")
    return _columns(names, rows), planes


def gap_table(stack: Stack, slices: SliceMap, light: F8) -> dict[str, NDArray[Any]]:
    """Table ``gaps``: the level of each gap as it is, and without what the slices beside it spill into it.

    The second is NaN where only light that is not mapped, such as of another band, is beside the gap.
    """
    numbers = slices.gap_numbers()
    known = _beside(numbers, slices.ids > 0) | ~_beside(numbers, slices.ids < 0)
    rows: list[tuple[Any, ...]] = []
    for number in range(1, int(numbers.max(initial=0)) + 1):
        for k, name in enumerate(stack.names):
            here = (numbers == number) & stack.good[k]
            if not here.any():
                continue
            values, spilled = stack.values[k][here], light[k][here]
            clean = _median(values - spilled) if known[number] else (math.nan, math.nan)
            rows.append((number, name, *_median(values), *clean, int(here.sum())))
    return _columns(("gap", "campaign", "level", "sigma", "background", "background_sigma", "pixels"), rows)


def _beside(numbers: NDArray[np.int32], lit: Bools) -> Bools:
    """By number, whether a gap has such a pixel next to it, across."""
    made = np.zeros(int(numbers.max(initial=0)) + 1, bool)
    made[numbers[:, 1:][lit[:, :-1]]] = made[numbers[:, :-1][lit[:, 1:]]] = True
    return made


def _median(values: F8) -> tuple[float, float]:
    if not values.size:
        return math.nan, math.nan
    return float(np.median(values)), MEDIAN * float(mad_std(values)) / math.sqrt(values.size)


def _columns(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
