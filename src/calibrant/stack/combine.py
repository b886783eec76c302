"""Combining frames: mean, median, sum and weighted mean, with rejection, errors and flags, band by band."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.stack.band import Band, Job, Task, reads, tile_width
from calibrant.stack.levels import MOST
from calibrant.stack.noise import Noise
from calibrant.stack.plan import Plan, plan_bands
from calibrant.stack.reject import Rejection
from calibrant.stack.request import DTYPES, PLANES, Request, prepare
from calibrant.stack.run import Runner, default_runner, parse_budget
from calibrant.stack.source import Source

__all__ = ["PLANES", "Combined", "Noise", "combine"]

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, eq=False)
class Combined:
    """What a combination gives; all planes (rows, cols). Planes that were not asked for are None.

    Attributes
    ----------
    data : ndarray
        float32, in the unit of the frames; NaN where there was no value.
    variance : ndarray or None
        float32, unit squared: variance of `data` as the scatter of the values shows it; NaN from one value.
    propagated : ndarray or None
        float32, unit squared: variance of `data` as the noise model has it.
    count, low, high : ndarray or None
        uint16: values used, rejected low, rejected high.
    dq : ndarray or None
        uint32 flags of the values used; NO_DATA where there was none.
    plan : Plan
        Bands and bytes of the work.
    zero, scale, weights : ndarray
        float64 (frames,): ``(value + zero) * scale`` was combined, with these weights.
    method : str
    variance_factor : ndarray
        float64 (frames + 1,) by count: variance of `data` times count over the sample variance of the values.
    spread : float
        Mean sample variance that the rejection leaves of pure noise, over what it was.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32] | None
    propagated: NDArray[np.float32] | None
    count: NDArray[np.uint16] | None
    low: NDArray[np.uint16] | None
    high: NDArray[np.uint16] | None
    dq: NDArray[np.uint32] | None
    plan: Plan
    zero: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    method: str
    variance_factor: NDArray[np.float64] = field(repr=False)
    spread: float = 1.0

    @property
    def scatter(self) -> NDArray[np.float32]:
        """Standard deviation of one frame, float32 (rows, cols), corrected for what the rejection cuts off.

        Raises
        ------
        OptionError
            For weighted means, and where variance or count were not asked for.
        """
        if self.variance is None or self.count is None or self.method == "weighted":
            raise OptionError("the scatter needs variance and count, and a method other than weighted")
        n = np.maximum(self.count, 1).astype(np.float32)
        one = self.variance / n if self.method == "sum" else self.variance * n
        factor = (self.variance_factor * self.spread).astype(np.float32)
        scatter: NDArray[np.float32] = np.sqrt(one / factor[self.count])
        return scatter


def combine(
    sources: Sequence[Source],
    *,
    method: str = "median",
    reject: Rejection | str = "none",
    scale: str | Sequence[float] | None = None,
    zero: str | Sequence[float] | None = None,
    weights: Sequence[float] | None = None,
    mask: NDArray[np.uint32] | None = None,
    limits: tuple[float | None, float | None] | None = None,
    noise: Sequence[Noise] | Noise | None = None,
    grow: float = 0,
    n_keep: int = 1,
    section: tuple[slice, slice] | None = None,
    budget: str | int = "512MB",
    runner: Runner | str | int | None = None,
    progress: Progress | None = None,
    planes: Sequence[str] = PLANES,
) -> Combined:
    """Combine frames into one, reading each byte once (twice with a scale or zero by name).

    Parameters
    ----------
    sources : sequence of Source
        Frames of one shape.
    method : str
        ``"median"``, ``"mean"``, ``"sum"`` (of the values kept) or ``"weighted"`` (mean).
    reject : Rejection or str
        See `calibrant.stack.reject`.
    scale, zero : str or sequence of float, optional
        ``(value + zero) * scale`` is combined. A name ("median", "mean", "mode") brings that statistic of
        every frame to the mean of all frames'. Shifts by name are those of the scaled frames, as in IRAF:
        with both, frames are scaled first, and then shifted to one level.
    weights : sequence of float, optional
        One per frame, for ``"weighted"``.
    mask : ndarray, optional
        uint32 (rows, cols): flags that hold for all frames.
    limits : tuple, optional
        Raw values below the first are flagged AD_FLOOR, those at or above the second SATURATED, and left out
        where better ones exist. None for no limit.
    noise : Noise or sequence of Noise, optional
        For the propagated variance and for `CCDClip`.
    grow : float
        Neighbours within this radius [pixels] of a rejected value are rejected in the same frame.
    n_keep : int
        Rejection leaves at least this many values (at least one, at most the number of frames); a step that
        would leave fewer is not taken.
    section : tuple of slice, optional
        Rows and columns for the statistics of `scale` and `zero`.
    budget : str or int
        Bytes above what the process holds already.
    runner : Runner, str or int, optional
        Where the bands are worked on; threads on all cores if not given. The result does not depend on it.
    progress : callable, optional
        Called with bands done, bands in all, and what is being done.
    planes : sequence of str
        Which planes to make.

    Returns
    -------
    Combined

    Raises
    ------
    SelectionError
        Without frames.
    ShapeError
        If a frame, mask or noise plane has another shape than the first frame; names it.
    OptionError
        If an option has no meaning here, or the rejection cannot act on so few frames.
    BudgetError
        If the budget is too small.
    """
    request = Request(
        method=method,
        reject=reject,
        scale=scale,
        zero=zero,
        weights=weights,
        mask=mask,
        limits=limits,
        noise=noise,
        grow=grow,
        n_keep=n_keep,
        section=section,
        planes=planes,
    )
    hands, allowed = default_runner(runner), parse_budget(budget)
    job = prepare(sources, request, hands)
    plan = _plan(job, allowed, hands.workers, request.passes)
    out = _run(job, plan, hands, progress)
    return Combined(
        **{name: out.get(name) for name in DTYPES if name != "data"},
        data=out["data"],
        plan=plan,
        zero=job.zero,
        scale=job.scale,
        weights=job.weights,
        method=method,
        variance_factor=job.factor,
        spread=job.spread,
    )


def _plan(job: Job, budget: int, workers: int, passes: int) -> Plan:
    shape = job.shape
    width = min(tile_width(job.frames, 2 if job.stays_u2 else 4), shape[0] * shape[1])
    out = sum(np.dtype(DTYPES[name]).itemsize for name in job.planes | {"data"})
    return plan_bands(
        shape,
        per_pixel_read=reads(job.sources),
        per_pixel_work=job.bytes_per_pixel(),
        per_pixel_out=out,
        per_worker=width * (job.frames * 4 + 64),
        fixed=0,
        budget=budget,
        workers=workers,
        halo=int(np.ceil(job.grow)),
        passes=passes,
        one_frame=min(MOST + shape[1], shape[0] * shape[1]) * 16 if passes > 1 else 0,
    )


def _run(job: Job, plan: Plan, runner: Runner, progress: Progress | None) -> dict[str, NDArray[Any]]:
    """Carry out the plan; this thread is the one writer of the planes."""
    # Zeroed memory costs nothing until it is written: flags and rejects stay there where all is well.
    out = {name: np.zeros(plan.shape, DTYPES[name]) for name in job.planes | {"data"}}
    bands = list(plan.bands())
    for done, band in enumerate(runner.map(Task(job, plan.halo), bands), 1):
        _write(out, band)
        if progress is not None:
            progress(done, len(bands), "combine")
    return out


def _write(out: dict[str, NDArray[Any]], band: Band) -> None:
    for name, plane in band.planes.items():
        if name not in ("dq", "low", "high") or plane.any():
            out[name][band.first : band.end] = plane
