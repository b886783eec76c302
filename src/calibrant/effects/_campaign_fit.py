"""The joint model of all slices: each in turn, with the light of its neighbours taken off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from calibrant.effects._campaign_model import PASSES, Fitted, solve, start
from calibrant.effects._campaign_strips import Strip, strip
from calibrant.effects.common import Progress
from calibrant.errors import SelectionError
from calibrant.instrument.slices import SliceMap
from calibrant.stats import mad_std

BIN = 0.25  # columns, of the profiles that give first shifts
CORE = 0.85  # of a slice: where its edges do not shape the profile
NEAR = 1.0  # columns, of slices from all together
LIT = 5.0  # sigmas of a pixel: a slice that is darker has nothing to compare
SHARE = 0.3  # of a slice's pixels that must be good
F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Stack:
    """All campaigns, wavelength along the rows; (campaigns, rows, cols), float64."""

    values: F8
    variance: F8
    good: Bools
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Slice:
    """A slice and what the joint model found of it."""

    strip: Strip
    fit: Fitted


def fitted(
    stack: Stack,
    slices: SliceMap,
    reference: int,
    reach: float,
    notes: list[str],
    progress: Progress | None = None,
) -> tuple[list[Slice], F8]:
    """The slices that can be compared, and the light of all slices, (campaigns, rows, cols).

    Raises
    ------
    SelectionError
        If no slice can be compared.
    """
    strips = list(_usable(stack, slices, notes))
    if not strips:
        raise SelectionError(
            "no slice has light in all campaigns", got="; ".join(notes), do="give lit frames, and their map"
        )
    with threadpool_limits(1):  # matrices are small: threads cost more than they give
        return _in_turn(stack, strips, reference, reach, progress)


def _in_turn(
    stack: Stack,
    strips: list[Strip],
    reference: int,
    reach: float,
    progress: Progress | None,
) -> tuple[list[Slice], F8]:
    light = np.zeros(stack.values.shape)
    found: dict[int, Slice] = {}
    shifts = profile_shifts(stack, strips, reference, reach)
    for number, goal in enumerate(PASSES):  # what one slice spills into a gap is pedestal to the next
        for count, one in enumerate(strips):
            before = found.get(one.number)
            own = before.fit.light if before else np.zeros((len(stack.names), len(one.row)))
            at = (slice(None), one.row, one.col)
            values, variance, good = stack.values[at] - (light[at] - own), stack.variance[at], stack.good[at]
            if before is None:
                state = start(one, values, good, shifts[count], reference)
            else:
                state = before.fit.state
            fit = solve(one, values, variance, good, state, reference, goal)
            light[at] += fit.light - own
            found[one.number] = Slice(one, fit)
            if progress is not None:
                progress(number * len(strips) + count + 1, len(PASSES) * len(strips), "joint model")
    return list(found.values()), light


def _usable(stack: Stack, slices: SliceMap, notes: list[str]) -> Iterator[Strip]:
    for number in slices.numbers:
        one = strip(slices, number)
        at = (slice(None), one.row[one.inside], one.col[one.inside])
        for name, good, values, variance in zip(
            stack.names, stack.good[at], stack.values[at], stack.variance[at], strict=True
        ):
            if good.mean() < SHARE:
                notes.append(f"slice {number}: hardly any good pixel in {name}, left out")
                break
            if np.median(values[good]) < LIT * np.sqrt(np.median(variance[good])):
                notes.append(f"slice {number}: no light in {name}, left out")
                break
        else:
            yield one


def profile_shifts(stack: Stack, strips: list[Strip], reference: int, reach: float) -> F8:
    """Columns by which structure lies to the right of the reference's, (slices, campaigns); from profiles.

    The profile is the mean over rows of a pixel's part of the mean of its row; the shift is that of the best
    correlation, within `reach`, near the best of all slices together: structure that repeats itself within a
    slice does so at another distance in the next one.
    """
    steps = np.arange(-round(reach / BIN), round(reach / BIN) + 1)
    alike = np.zeros((len(strips), len(stack.names), len(steps)))
    for n, one in enumerate(strips):
        at = (slice(None), one.row, one.col)
        across = one.across[one.inside]
        half = CORE * (across.max() - across.min()) / 2
        profiles = [_profile(one, *seen, half) for seen in zip(stack.values[at], stack.good[at], strict=True)]
        for k, profile in enumerate(profiles):
            alike[n, k] = [_alike(profile, profiles[reference], int(step)) for step in steps]
    best = steps[alike.sum(axis=0).argmax(axis=1)]
    near = np.abs(steps - best[:, None]) <= round(NEAR / BIN)
    shifts: F8 = BIN * steps[np.where(near, alike, -np.inf).argmax(axis=2)]
    shifts[:, reference] = 0.0
    return shifts


def _profile(strip: Strip, values: F8, used: Bools, half: float) -> F8:
    here = used & strip.inside & (np.abs(strip.across) < half)
    count = np.bincount(strip.row[here], minlength=strip.rows)
    mean = np.bincount(strip.row[here], values[here], strip.rows) / np.maximum(count, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = values[here] / mean[strip.row[here]]
    place = np.round((strip.across[here] + half) / BIN).astype(np.int64)
    bins = round(2 * half / BIN) + 1
    sane = np.isfinite(relative) & (np.abs(relative) < 10)
    total = np.bincount(place[sane], relative[sane], bins)[:bins]
    number = np.bincount(place[sane], minlength=bins)[:bins]
    known = np.flatnonzero(number)
    profile: F8 = np.interp(np.arange(bins), known, total[known] / number[known])
    return profile


def _alike(one: F8, other: F8, step: int) -> float:
    """Correlation of a profile with another that is moved by `step` bins."""
    n = len(one) - abs(step)
    a, b = (one[step:], other[:n]) if step >= 0 else (one[:n], other[-step:])
    if n < len(one) // 3 or a.std() == 0 or b.std() == 0:
        return -1.0
    return float(np.corrcoef(a, b)[0, 1])


def noise(values: F8, good: Bools) -> float:
    """Variance of a frame that does not state its own: from neighbours along the dispersion."""
    pairs = good[2:] & good[1:-1] & good[:-2]
    rest = (values[2:] - 2 * values[1:-1] + values[:-2])[pairs]
    return float(mad_std(rest)) ** 2 / 6 if rest.size else 1.0
