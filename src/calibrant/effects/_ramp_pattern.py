"""When the reads of a ramp are taken, and the covariance of their differences that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError, SelectionError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pattern:
    """Times of the groups of one ramp; a group is the average of frames, or a single read.

    Attributes
    ----------
    mean : ndarray
        (groups,) mean time of the frames of a group since the reset, s.
    tau : ndarray
        (groups,) time whose photon noise the average has: ``sum((2 N + 1 - 2 k) t_k) / N^2``, s.
    frames : ndarray
        (groups,) frames averaged, N.
    span : ndarray
        (groups,) from the mean to the last frame, s.
    """

    mean: Array
    tau: Array
    frames: Array
    span: Array

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.mean)


def pattern_of(read_times: Sequence[Sequence[float] | float]) -> Pattern:
    """The pattern of groups whose frames are read at these times.

    Parameters
    ----------
    read_times : sequence
        For each group its time, or the times of the frames that it averages, s since the reset.

    Raises
    ------
    OptionError
        If times do not increase.
    SelectionError
        If there are fewer than two groups.
    """
    groups = [np.atleast_1d(np.asarray(times, np.float64)) for times in read_times]
    if len(groups) < 2:
        raise SelectionError(
            "a slope needs two groups", got=len(groups), do="give ramps of two groups or more"
        )
    every = np.concatenate(groups)
    if not (np.isfinite(every).all() and (np.diff(every) > 0).all()):
        raise OptionError("times of reads must be finite and increase", where="read_times", got=every[:8])
    tau = [((2 * len(t) + 1 - 2 * np.arange(1, len(t) + 1)) * t).sum() / len(t) ** 2 for t in groups]
    mean = np.array([t.mean() for t in groups])
    last = np.array([t[-1] for t in groups])
    return Pattern(mean, np.array(tau), np.array([float(len(t)) for t in groups]), last - mean)


def pattern(groups: int, frame_time: float, nframes: int = 1, skip: int = 0) -> Pattern:
    """The pattern of an array read every `frame_time` seconds.

    Parameters
    ----------
    groups : int
    frame_time : float
        s.
    nframes : int
        Frames averaged to a group.
    skip : int
        Frames dropped between two groups.

    Raises
    ------
    OptionError
        If a number has no meaning.
    SelectionError
        If there are fewer than two groups.
    """
    if not (np.isfinite(frame_time) and frame_time > 0) or nframes < 1 or skip < 0:
        raise OptionError(
            "a read pattern needs a frame time, frames per group and skipped frames",
            expected="frame_time > 0 s, nframes >= 1, skip >= 0",
            got=(frame_time, nframes, skip),
        )
    first = np.arange(groups)[:, None] * (nframes + skip)
    return pattern_of(list((first + np.arange(nframes) + 1) * float(frame_time)))


def design_of(one: Pattern, ramps: int = 1) -> tuple[Array, Array, float]:
    """What the kernels need: fields of the differences, fields of the reads, and the unit of time.

    The covariance of differences of averaged groups is that of Brandt (2024, PASP 136, 045004): differences
    ``d_i = (r_(i+1) - r_i) / dt_i`` have ``sigma^2 R + a P / gain`` with
    ``R_ii = (1/N_i + 1/N_(i+1)) / dt_i^2``, ``R_i,i-1 = -1 / (N_i dt_i dt_(i-1))``,
    ``P_ii = (tau_i + tau_(i+1) - 2 t_i) / dt_i^2`` and ``P_i,i-1 = (t_i - tau_i) / (dt_i dt_(i-1))``.

    Parameters
    ----------
    one : Pattern
    ramps : int
        Ramps (integrations) of a pixel, one after the other; no difference crosses a reset.
    """
    steps = np.diff(one.mean)
    unit = float(steps.mean())
    dt, mean, tau, n = steps / unit, one.mean / unit, one.tau / unit, one.frames
    many = len(dt)
    fields = np.zeros((7, many))
    fields[0], fields[1] = np.arange(many), dt
    fields[2] = (1 / n[:-1] + 1 / n[1:]) / dt**2
    fields[4] = (tau[:-1] + tau[1:] - 2 * mean[:-1]) / dt**2
    fields[3, 1:] = -1 / n[1:-1] / (dt[1:] * dt[:-1])
    fields[5, 1:] = (mean[1:-1] - tau[1:-1]) / (dt[1:] * dt[:-1])
    fields[6, 1:] = n[1:-1] > 1  # a jump between single reads is in one difference
    reads = np.zeros((2, one.groups))
    reads[0, 0] = 1.0
    reads[1, 1:] = one.span[1:] / unit / dt
    design, every = np.tile(fields, ramps), np.tile(reads, ramps)
    design[0] += np.repeat(np.arange(ramps) * one.groups, many)
    return design, every, unit
