"""Slopes of many integrations side by side, band by band of rows, with what bad pixels show in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._ramp_fit import Fit, refuse_inverse
from calibrant.effects._ramp_pattern import Pattern, design_of, pattern
from calibrant.effects._two_levels import EVIDENCE, two_levels
from calibrant.errors import OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.exposures.ramps import Ramp
from calibrant.frame import DQ
from calibrant.stats import MAD_TO_STD

F4 = NDArray[np.float32]
Plane = NDArray[Any]
Progress = Callable[[int, int, str], None]
THRESHOLDS = (20.25, 23.8)  # of chi squared, for one and two differences: as of ramps
UNUSABLE = np.uint8(DQ.DO_NOT_USE | DQ.SATURATED)
JUMP = np.uint8(DQ.JUMP_DET)
ODD = 5.0  # sigmas of the scatter of reads from where two levels are looked for
NEAR = 0.1  # relative: a gain nearer to the reciprocal of the detector's is taken for one
SAMPLE = 200_000  # values that tell the read noise


@dataclass(frozen=True)
class Facts:
    """What slopes need: e-/adu; adu, of a single read; adu."""

    gain: float
    read_noise: float
    saturation: float


@dataclass(frozen=True, eq=False)
class Band:
    """Some rows of all integrations, each plane (integrations, rows, cols).

    Attributes
    ----------
    rows : slice
    slope, variance : ndarray
        float32, adu/s, adu2/s2; NaN without a slope.
    jumps, early, late : ndarray
        uint16 reads with a jump: of all groups, of the beginning and of the end of the ramp.
    saturated : ndarray of bool
        From the first group on.
    first, change, bend : ndarray
        float32 adu: first good read; last less first one; change over the beginning less that of as many
        groups of the later half.
    levels : ndarray of bool
        The reads jump between two levels, down as well as up.
    """

    rows: slice
    slope: F4
    variance: F4
    jumps: NDArray[np.uint16]
    early: NDArray[np.uint16]
    late: NDArray[np.uint16]
    saturated: NDArray[np.bool_]
    first: F4
    change: F4
    bend: F4
    levels: NDArray[np.bool_]


NAMES = tuple(name for name in Band.__dataclass_fields__ if name != "rows")


def facts_of(
    exposures: Exposures,
    ramps: Sequence[Ramp],
    notes: list[str],
    *,
    gain: float | None = None,
    read_noise: float | None = None,
    saturation: float | None = None,
) -> Facts:
    """As given; else as header or instrument file say; the read noise else from the reads themselves.

    Raises
    ------
    OptionError
        If one has no meaning.
    """
    stated = exposures.instrument.nominal(exposures[0])
    if gain is None:
        gain = stated[0]
    if gain is None:
        gain = 1.0
        notes.append("the gain is not known: it was taken as 1 e-/adu, which only bright pixels notice")
    # The instrument file knows its detectors better than a header whose unit nobody states.
    own = exposures.instrument.detector(exposures[0].detector).gain
    refuse_inverse(float(gain), stated[0] if own is None else own, "the detector", NEAR)
    if read_noise is None:
        read_noise = scatter_of_reads(ramps[0])
    if saturation is None:
        saturation = stated[2]
    top = 65535.0 if ramps[0].dtype == np.uint16 else math.inf
    facts = Facts(float(gain), float(read_noise), min(top, math.inf if saturation is None else saturation))
    for name, value in (
        ("gain", facts.gain),
        ("read_noise", facts.read_noise),
        ("saturation", facts.saturation),
    ):
        if not value > 0:
            raise OptionError(f"the {name} must be positive", where=name, got=value)
    return facts


def scatter_of_reads(ramp: Ramp) -> float:
    """Robust noise of a single group, adu, from differences of groups in rows amid the image."""
    groups = min(ramp.shape[1], 12)
    middle = ramp.shape[2] // 2
    many = max(1, min(ramp.shape[2] // 4, SAMPLE // (groups * ramp.shape[3])))
    values = ramp.values(slice(middle, middle + many), integrations=slice(0, 1), groups=slice(0, groups))
    change = np.diff(np.asarray(values[0], np.float32), axis=0)
    # of the second difference, which no slope is in, the variance is six times that of a read
    bend = np.diff(change, axis=0) / math.sqrt(6.0) if groups > 2 else change / math.sqrt(2.0)
    bend = bend[np.isfinite(bend)]
    found = MAD_TO_STD * float(np.median(np.abs(bend - np.median(bend)))) if bend.size else 0.0
    return max(found, 0.3)  # adu: the digits of the converter


def pattern_of(ramp: Ramp, exposures: Exposures) -> Pattern:
    """When the groups of a ramp are read.

    Raises
    ------
    SelectionError
        If it has one group only.
    """
    known = ramp.exposure
    if ramp.shape[1] < 2:
        raise SelectionError(
            "a slope needs two groups", where=ramp.name, got=ramp.shape[1], do="give ramps of two or more"
        )
    frame_time = known.get("frame_time") or exposures.instrument.clock(known).frame_time
    nframes, skip = int(known.get("nframes") or 1), int(known.get("groupgap") or 0)
    return pattern(ramp.shape[1], float(frame_time), nframes, skip)


def bands(
    exposures: Exposures,
    ramps: Sequence[Ramp],
    facts: Facts,
    *,
    budget: int,
    progress: Progress | None = None,
    search: bool = True,
    early: float = 0.25,
) -> Iterator[Band]:
    """All ramps, band by band; each byte is read once.

    Parameters
    ----------
    early : float
        Part of the groups that is the beginning of a ramp, and its end.
    search : bool
        Whether two levels are looked for.
    """
    times = [pattern_of(ramp, exposures) for ramp in ramps]
    groups = max(ramp.shape[1] for ramp in ramps)
    total = sum(ramp.shape[0] for ramp in ramps)
    rows, cols = ramps[0].shape[2:]
    step = max(1, min(64, int(budget / cols / (35.0 * total + 40.0 * groups))))
    for start in range(0, rows, step):
        here = slice(start, min(start + step, rows))
        found = [
            _integration(ramp, number, here, times[k], facts, early if search else 0.0)
            for k, ramp in enumerate(ramps)
            for number in range(ramp.shape[0])
        ]
        yield Band(here, **{name: np.array([one[name] for one in found]) for name in NAMES})
        if progress is not None:
            progress(here.stop, rows, "slopes")


def _integration(
    ramp: Ramp, number: int, rows: slice, times: Pattern, facts: Facts, begin: float
) -> dict[str, Plane]:
    one = slice(number, number + 1)
    values = np.ascontiguousarray(ramp.values(rows, integrations=one)[0])
    flags = ramp.read_dq(rows, integrations=one)
    dq = None if flags is None else np.ascontiguousarray(flags[0])
    made, marks = _fitted(values, times, facts, dq)
    x = np.asarray(values, np.float32)
    bad = x >= np.float32(facts.saturation)
    if dq is not None:
        bad |= (dq & UNUSABLE) != 0
    saturated = bad[0] & ~np.isfinite(made["data"])
    x = np.where(bad, np.float32(np.nan), x)
    jumps = (marks & JUMP) != 0
    cut = max(1, int(begin * len(x)))
    early, late = (part.sum(axis=0, dtype=np.uint16) for part in (jumps[:cut], jumps[-cut:]))
    levels = np.zeros(x.shape[1:], bool)
    if begin and len(x) >= 6:
        levels = _two_levels(x, made["data"], times, facts)
    middle = len(x) // 2
    return {
        "slope": made["data"],
        "variance": made["variance"],
        "jumps": jumps.sum(axis=0, dtype=np.uint16),
        "early": early,
        "late": late,
        "saturated": saturated,
        "first": _ends(x, np.arange(len(x))),
        "change": _ends(x, np.arange(len(x))[::-1]) - _ends(x, np.arange(len(x))),
        "bend": x[min(cut, len(x) - 1)] - x[0] - (x[-1] - x[middle]) * (cut / max(len(x) - 1 - middle, 1)),
        "levels": levels,
    }


def _ends(x: F4, order: NDArray[np.intp]) -> F4:
    """The first finite read of each pixel in an order; NaN without any."""
    found: F4 = x[order[0]].copy()
    for group in order[1:]:
        lost = ~np.isfinite(found)
        if not lost.any():
            break
        found[lost] = x[group][lost]
    return found


def _fitted(
    values: Plane, times: Pattern, facts: Facts, dq: Plane | None
) -> tuple[dict[str, Plane], NDArray[np.uint8]]:
    """Slopes of one integration, and the reads with jumps."""
    from calibrant.stack import kernels_ramp_solve as kernels

    design, reads, unit = design_of(times)
    shape = values.shape[1:]
    marks = np.zeros(values.shape, np.uint8)
    gain, noise = (np.broadcast_to(np.float32(one), shape) for one in (facts.gain, facts.read_noise))
    fit = Fit(values, design, reads, unit, gain, noise, facts.saturation, THRESHOLDS, False, dq, marks)
    kernels.tabulate(fit.design, fit.limits(), fit.table)
    _, made = fit((0, shape[0]))
    return {name: made[name].reshape(shape) for name in ("data", "variance")}, marks


def _two_levels(x: F4, slope: F4, times: Pattern, facts: Facts) -> NDArray[np.bool_]:
    """Pixels whose reads about their slope jump between two levels, down as well as up."""
    found = np.zeros(slope.shape, bool)
    left = x - slope * np.asarray(times.mean, np.float32)[:, None, None]
    left -= left.mean(axis=0)
    n = len(x) - 2.0
    photons = np.clip(slope, 0, None) * np.float32(times.mean[-1] / facts.gain)
    scatter = (left**2).sum(axis=0) / (facts.read_noise**2 + photons)
    odd = np.isfinite(scatter) & (scatter > n + ODD * math.sqrt(2.0 * n))
    if odd.any():
        evidence, _, falls = two_levels(left[:, odd].astype(np.float64))
        found[odd] = (evidence > EVIDENCE) & (falls > 0)
    return found
