"""Steps of level across the borders of amplifiers, and the levels of the amplifiers that explain them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibrant.instrument.sections import Section
from calibrant.stats import clipped_stats

F8 = NDArray[np.float64]
BLOCKS = 16  # along a border: the scatter of their steps is the sigma, whatever is correlated within them
FEWEST = 4  # blocks with a step, below which a border says nothing


@dataclass(frozen=True)
class Interface:
    """A border between two amplifiers, by their places in the list of windows.

    Attributes
    ----------
    one, other : int
        `other` lies to the right of, or above, `one`.
    step, sigma : float
        Level of `other` minus level of `one`, and its standard uncertainty; NaN if it was not measured.
    rows, total : int
        Rows (or columns) across the border with values on both sides, and all of them.
    used : bool
        Whether it takes part in the levels.
    """

    one: int
    other: int
    step: float
    sigma: float
    rows: int
    total: int
    used: bool = True


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of amplifiers, mean zero over those that are known.

    Attributes
    ----------
    values, sigma : array
        (amplifiers,), in the unit of the steps; NaN for an amplifier that no used border reaches.
    interfaces : tuple of Interface
        With those that were rejected marked.
    chi2 : float
        Of the closed loops, per degree of freedom; NaN without one.
    parts : int
        Groups of amplifiers that no border connects; each has a mean of its own.
    """

    values: F8
    sigma: F8
    interfaces: tuple[Interface, ...]
    chi2: float
    parts: int


def borders(windows: Sequence[Section]) -> Iterator[tuple[int, int, int, slice]]:
    """Pairs of windows that share a border: one, other, axis across it, and the stretch along it."""
    for i, one in enumerate(windows):
        for j, other in enumerate(windows):
            for axis in (0, 1):
                along = 1 - axis
                low = max(one[along].start, other[along].start)
                high = min(one[along].stop, other[along].stop)
                if one[axis].stop == other[axis].start and high > low:
                    yield i, j, axis, slice(low, high)


def interfaces(
    image: NDArray[np.floating],
    windows: Sequence[Section],
    *,
    width: int = 64,
    skip: int = 5,
    gradient: bool = True,
) -> tuple[Interface, ...]:
    """The steps across all borders.

    Strips on either side are compared row by row; `BLOCKS` blocks of rows give as many steps, whose clipped
    mean and scatter are the result.

    Parameters
    ----------
    image : array
        (rows, cols), float; NaN where a pixel does not count.
    windows : sequence of Section
        The amplifiers, ascending slices.
    width, skip : int
        Pixels of a strip, and those next to the border that are left out; narrower in small amplifiers.
    gradient : bool
        Whether a slope that runs through both strips is taken off.

    Returns
    -------
    tuple of Interface
        In the unit of `image`.
    """
    found = []
    for one, other, axis, along in borders(windows):
        across = image if axis == 1 else image.T
        border = windows[one][axis].stop
        room = min(w[axis].stop - w[axis].start for w in (windows[one], windows[other]))
        gap = min(skip, room // 16)
        wide = max(1, min(width, room // 4, across.shape[1] // 16 or 1))
        left = across[along, border - gap - wide : border - gap].astype(np.float64)
        right = across[along, border + gap : border + gap + wide].astype(np.float64)
        step, sigma, rows = _step(left, right, gap, gradient)
        found.append(Interface(one, other, step, sigma, rows, along.stop - along.start, math.isfinite(step)))
    return tuple(found)


def _step(left: F8, right: F8, gap: int, gradient: bool) -> tuple[float, float, int]:
    """Step, sigma, rows with values on both sides; the strips are (rows, width)."""
    good = np.isfinite(left).any(axis=1) & np.isfinite(right).any(axis=1)
    blocks = [block for block in np.array_split(np.arange(len(left)), BLOCKS) if block.size]
    steps = [_block_step(left[b], right[b], gap, gradient) for b in blocks]
    values = np.array([step for step in steps if math.isfinite(step)])
    if values.size < min(FEWEST, len(blocks)) or values.size < 2 or 2 * good.sum() < good.size:
        return math.nan, math.nan, int(good.sum())
    # Sixteen normal values seldom pass 3.5 sigma; a block with a bright source does.
    kept = clipped_stats(values, sigma=3.5)
    spread = max(kept.std, 1e-12 * max(1.0, abs(kept.median)))
    return kept.mean, spread / math.sqrt(max(1, kept.n - 1)), int(good.sum())


def _block_step(left: F8, right: F8, gap: int, gradient: bool) -> float:
    """Median over rows of the difference of strip means, less the slope that both strips share."""
    known = [np.isfinite(side) for side in (left, right)]
    both = known[0].any(axis=1) & known[1].any(axis=1)
    if 2 * both.sum() < both.size or not both.any():
        return math.nan
    left, right = left[both], right[both]
    width = left.shape[1]
    mean = np.mean if all(side.all() for side in known) else np.nanmean
    step = float(clipped_stats(mean(right, axis=1) - mean(left, axis=1), sigma=3.0).mean)
    if not gradient or width < 3:
        return step
    place = np.arange(width) - 0.5 * (width - 1)
    profiles = [_column_means(side) for side in (left, right)]
    known = [np.isfinite(profile) for profile in profiles]
    squares = sum(float((place[k] ** 2).sum()) for k in known)
    slope = sum(float(place[k] @ (p[k] - p[k].mean())) for p, k in zip(profiles, known, strict=True))
    return step - slope / squares * (width + 2 * gap) if squares > 0 else math.nan


def _column_means(side: F8) -> F8:
    count = np.isfinite(side).sum(axis=0)
    return np.where(count > 0, np.nansum(side, axis=0) / np.maximum(count, 1), np.nan)


def solve(steps: Sequence[Interface], n: int, *, limit: float = 5.0, largest: float = math.inf) -> Levels:
    """Levels by weighted least squares on the graph of the amplifiers, each connected part of mean zero.

    Minimises ``sum(((level[other] - level[one] - step) / sigma)**2)`` by the pseudo-inverse of the weighted
    Laplacian. The border that disagrees most with the others is left out as long as one is more than `limit`
    sigmas off (scaled by the scatter of all) and its amplifiers stay connected without it.

    Parameters
    ----------
    steps : sequence of Interface
    n : int
        Number of amplifiers.
    limit : float
        Sigmas.
    largest : float
        Steps larger than this, in their unit, are not believed.

    Returns
    -------
    Levels
        Uncertainties are those of the steps, scaled up by the root of chi2 where loops do not close.
    """
    current = [replace(s, used=s.used and math.isfinite(s.step) and abs(s.step) <= largest) for s in steps]
    while (worst := _worst(current, n, limit)) is not None:
        current[worst] = replace(current[worst], used=False)
    values, covariance, chi2, parts = _least_squares(current, n)
    scale = max(1.0, chi2) if math.isfinite(chi2) else 1.0
    sigma = np.sqrt(np.clip(np.diag(covariance), 0.0, None) * scale)
    reached = np.zeros(n, bool)
    for step in current:
        if step.used:
            reached[[step.one, step.other]] = True
    return Levels(
        np.where(reached, values, np.nan), np.where(reached, sigma, np.nan), tuple(current), chi2, parts
    )


def _least_squares(steps: Sequence[Interface], n: int) -> tuple[F8, F8, float, int]:
    used = [step for step in steps if step.used]
    laplacian, right = np.zeros((n, n)), np.zeros(n)
    for step in used:
        weight = step.sigma**-2
        laplacian[[step.one, step.other], [step.one, step.other]] += weight
        laplacian[[step.one, step.other], [step.other, step.one]] -= weight
        right[step.other] += weight * step.step
        right[step.one] -= weight * step.step
    covariance = np.asarray(np.linalg.pinv(laplacian, hermitian=True), np.float64)
    values = covariance @ right
    groups = _groups(used, n)
    touched = {i for step in used for i in (step.one, step.other)}
    parts = len({groups[i] for i in touched})
    freedom = len(used) - (len(touched) - parts)
    residuals = [(values[s.other] - values[s.one] - s.step) / s.sigma for s in used]
    chi2 = float(np.sum(np.square(residuals))) / freedom if freedom > 0 else math.nan
    return values, covariance, chi2, parts


def _worst(steps: Sequence[Interface], n: int, limit: float) -> int | None:
    """The used border farthest from what the others say without it, if it is beyond the limit."""
    found, most = None, limit
    for index, step in enumerate(steps):
        if not step.used:
            continue
        others = [*steps[:index], *steps[index + 1 :]]
        groups = _groups([s for s in others if s.used], n)
        if groups[step.one] != groups[step.other]:
            continue  # the only connection of its amplifiers
        values, covariance, chi2, _ = _least_squares(others, n)
        i, j = step.one, step.other
        predicted = covariance[i, i] + covariance[j, j] - 2.0 * covariance[i, j]
        scale = max(1.0, chi2) if math.isfinite(chi2) else 1.0
        pull = abs(values[j] - values[i] - step.step) / math.sqrt(scale * (predicted + step.sigma**2))
        if pull > most:
            found, most = index, pull
    return found


def _groups(steps: Sequence[Interface], n: int) -> list[int]:
    """Number of the connected part of each amplifier."""
    group = list(range(n))
    for step in steps:
        old, new = group[step.other], group[step.one]
        group = [new if g == old else g for g in group]
    return group
