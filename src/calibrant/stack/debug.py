"""The story of one pixel: what became of each of its values at every stage of a combination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibrant.errors import OptionError
from calibrant.frame import DQ
from calibrant.stack.band import Band, Job, Task
from calibrant.stack.request import Request, prepare
from calibrant.stack.run import Serial
from calibrant.stack.source import Source, decode

FEW = 8
"""Iterations that are told one by one."""


@dataclass(frozen=True)
class Value:
    """What became of one frame's value.

    Attributes
    ----------
    frame : str
        Name of the frame.
    stored : float
        As the file holds it.
    raw : float
        Decoded; adu or whatever the frame's unit is.
    flags : int
        Bits of `calibrant.frame.DQ`: its own, the mask's, and those of the limits.
    combined : float
        After zero and scale, as it went into the rejection; NaN if it was left out before.
    fate : str
        ``used``, ``rejected in round 2``, ``rejected by growing``, or why it was left out.
    """

    frame: str
    stored: float
    raw: float
    flags: int
    combined: float
    fate: str


@dataclass(frozen=True)
class PixelStory:
    """All values of one pixel, and what came of them. Printed, it is a table.

    Attributes
    ----------
    row, col : int
    values : tuple of Value
        In the order of the frames.
    rounds : tuple of tuple
        For each round of the rejection: values kept, their median, their standard deviation.
    result : mapping
        The pixel in every plane that was made.
    how : str
        Method and rejection in words.
    """

    row: int
    col: int
    values: tuple[Value, ...]
    rounds: tuple[tuple[int, float, float], ...]
    result: dict[str, float]
    how: str

    def __str__(self) -> str:
        width = max([5, *(len(value.frame) for value in self.values)])
        lines = [
            f"pixel ({self.row}, {self.col}): {self.how}",
            f"{'frame':{width}}  {'stored':>12}  {'raw':>12}  {'combined':>12}  fate",
        ]
        for value in self.values:
            flags = f" [{', '.join(DQ.names(value.flags))}]" if value.flags else ""
            lines.append(
                f"{value.frame:{width}}  {value.stored:12.6g}  {value.raw:12.6g}  {value.combined:12.6g}"
                f"  {value.fate}{flags}"
            )
        for number, (count, median, deviation) in enumerate(self.rounds):
            when = "before rejection" if number == 0 else f"after round {number}"
            lines.append(f"{when}: {count} values, median {median:.6g}, standard deviation {deviation:.6g}")
        lines.append("result: " + ", ".join(f"{name} {_word(name, x)}" for name, x in self.result.items()))
        return "\n".join(lines)


def _word(name: str, value: float) -> str:
    if name == "dq":
        return ", ".join(DQ.names(int(value))) or "good"
    return f"{value:.6g}"


def debug_pixel(sources: Sequence[Source], row: int, col: int, **options: Any) -> PixelStory:
    """Tell what `combine` does to one pixel, using the same kernels on that row.

    Parameters
    ----------
    sources : sequence of Source
        Frames of one shape.
    row, col : int
        The pixel, from 0.
    **options
        As of `calibrant.stack.combine.combine`.

    Returns
    -------
    PixelStory
        To be printed, or looked into.

    Raises
    ------
    OptionError
        If the pixel lies outside the frames; else as `combine`.
    """
    for name in ("budget", "runner", "progress"):  # of the whole image, not of one pixel
        options.pop(name, None)
    job = prepare(sources, Request(**options), Serial())
    rows, cols = job.shape
    if not (0 <= row < rows and 0 <= col < cols):
        raise OptionError(
            "the pixel lies outside", where=f"({row}, {col})", expected=f"rows x cols {rows, cols}"
        )
    stages = _stages(job, row)
    admitted = stages[0][:, col]
    story = [
        _value(job, i, row, col, admitted, [stage[i, col] for stage in stages]) for i in range(job.frames)
    ]
    return PixelStory(
        row=row,
        col=col,
        values=tuple(story),
        rounds=tuple(_summary(stage[:, col]) for stage in stages),
        result=_result(Task(job, int(np.ceil(job.grow)))((row, row + 1)), col),
        how=f"{job.method} with {job.reject if job.reject.name != 'none' else 'no rejection'}",
    )


def _stages(job: Job, row: int) -> list[Any]:
    """Values of the row (frames, cols) before rejection, after each round of it, and after growing."""
    halo = int(np.ceil(job.grow))
    stages = [Task(replace(job, grow=0), halo).values(row, rejected=False)]
    rounds = getattr(job.reject, "iterations", 1) or FEW
    if job.reject.name != "none":
        for done in range(1, min(rounds, FEW) + 1):
            shorter: Any = job.reject
            if hasattr(shorter, "iterations"):
                shorter = replace(shorter, iterations=done)
            stages.append(Task(replace(job, grow=0, reject=shorter), halo).values(row))
            if np.array_equal(stages[-1], stages[-2]):
                stages.pop()
                break
        final = Task(job, halo).values(row)
        if not np.array_equal(final, stages[-1]):
            stages.append(final)
    return stages


def _value(job: Job, i: int, row: int, col: int, admitted: Any, course: list[float]) -> Value:
    source = job.sources[i]
    raw = np.empty((1, source.shape[1]), np.dtype(source.encoding.dtype))
    dq = np.zeros(raw.shape, np.uint32) if source.has_dq else None
    source.read_into(slice(row, row + 1), raw, dq)
    value = float(decode(raw[:, col : col + 1], source.encoding)[0, 0])
    flags = 0 if dq is None else int(dq[0, col])
    flags |= 0 if job.mask is None else int(job.mask[row, col])
    flags |= int(DQ.SATURATED) if value >= job.ceiling else 0
    flags |= int(DQ.AD_FLOOR) if value < job.floor else 0
    went_in = float(admitted[i]) if np.isfinite(admitted[i]) else np.nan
    return Value(source.name, float(raw[0, col]), value, flags, went_in, _fate(job, value, flags, course))


def _fate(job: Job, value: float, flags: int, course: list[float]) -> str:
    if not np.isfinite(course[0]):
        return "no value" if not np.isfinite(value) else f"left out: {', '.join(DQ.names(flags))}"
    for number, now in enumerate(course[1:], 1):
        if not np.isfinite(now):
            grown = bool(job.grow) and number == len(course) - 1
            return "rejected by growing" if grown else f"rejected in round {number}"
    return "used"


def _summary(values: Any) -> tuple[int, float, float]:
    kept = values[np.isfinite(values)].astype(float)
    if not kept.size:
        return 0, np.nan, np.nan
    return kept.size, float(np.median(kept)), float(np.std(kept, ddof=1)) if kept.size > 1 else np.nan


def _result(band: Band, col: int) -> dict[str, float]:
    names = ("data", "variance", "propagated", "count", "low", "high", "dq")
    return {name: float(band.planes[name][0, col]) for name in names if name in band.planes}
