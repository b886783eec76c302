"""Levels: one statistic per frame, in a pass before the combination, so that frames can be brought
together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.frame import DQ
from calibrant.stack.run import Runner
from calibrant.stack.source import Source, decode
from calibrant.stats import mode

MOST = 1 << 20
"""Values that a statistic is taken of; of larger sections only every second, third, ... row is read."""

STATISTICS: dict[str, Callable[[NDArray[Any]], float]] = {
    "median": lambda values: float(np.median(values)),
    "mean": lambda values: float(np.mean(values, dtype=np.float64)),
    "mode": lambda values: float(mode(values)),
}


@dataclass(frozen=True, eq=False)
class Level:
    """Takes the statistic of one frame; called with the frame's number."""

    sources: tuple[Source, ...]
    statistic: str
    floor: float
    ceiling: float
    section: tuple[slice, slice] | None
    uses_blas = False

    def __call__(self, frame: int) -> float:
        """The statistic of the usable values of a frame; NaN if there are none."""
        source = self.sources[frame]
        rows, cols = source.shape
        down, across = self.section or (slice(None), slice(None))
        wanted = range(*down.indices(rows))
        step = max(1, -(-len(wanted) * len(range(*across.indices(cols))) // MOST))
        pieces = [self._row(source, row, across) for row in wanted[::step]] if step > 1 else [
            self._rows(source, down, across)
        ]  # fmt: skip
        values = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
        return STATISTICS[self.statistic](values) if values.size else np.nan

    def _row(self, source: Source, row: int, across: slice) -> NDArray[Any]:
        return self._rows(source, slice(row, row + 1), across)

    def _rows(self, source: Source, down: slice, across: slice) -> NDArray[Any]:
        first, end, step = down.indices(source.shape[0])
        raw = np.empty((max(0, end - first), source.shape[1]), np.dtype(source.encoding.dtype))
        dq = np.zeros(raw.shape, np.uint32) if source.has_dq else None
        source.read_into(slice(first, end), raw, dq)
        values = decode(raw, source.encoding)[::step, across]
        good = np.isfinite(values)
        if np.isfinite(self.floor) or np.isfinite(self.ceiling):
            good &= (values >= self.floor) & (values < self.ceiling)
        if dq is not None:
            good &= (dq[::step, across] & ~np.uint32(int(DQ.NO_SAT_CHECK))) == 0
        chosen: NDArray[Any] = values[good]
        return chosen


def frame_levels(
    sources: Sequence[Source],
    statistic: str,
    *,
    limits: tuple[float | None, float | None] | None,
    section: tuple[slice, slice] | None,
    runner: Runner,
) -> NDArray[np.float64]:
    """One statistic of every frame, float64 (frames,), in raw units.

    Raises
    ------
    OptionError
        If there is no such statistic.
    ShapeError
        If the section holds no pixel.
    SelectionError
        If a frame has no usable value; names it.
    """
    if statistic not in STATISTICS:
        raise OptionError(
            "there is no such statistic", got=repr(statistic), do=f"use {', '.join(STATISTICS)}"
        )
    if section is not None:
        rows, cols = (
            len(range(*part.indices(size))) for part, size in zip(section, sources[0].shape, strict=True)
        )
        if rows * cols == 0:
            raise ShapeError("the section holds no pixel", where="section", got=section)
    low, high = limits or (None, None)
    task = Level(
        tuple(sources), statistic, -np.inf if low is None else low, np.inf if high is None else high, section
    )
    levels = np.array(list(runner.map(task, range(len(sources)))), np.float64)
    for source, level in zip(sources, levels, strict=True):
        if not np.isfinite(level):
            raise SelectionError(
                "the frame has no usable value to take a level of", where=source.name, do="leave it out"
            )
    return levels
