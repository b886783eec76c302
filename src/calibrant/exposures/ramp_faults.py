"""What is wrong with the numbers of a ramp: groups without any, wrapped counters, saturation throughout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.exposures.ramp_seen import ranges, wrapped
from calibrant.exposures.ramps import Ramp
from calibrant.frame import DQ

BUDGET = 16_000_000  # bytes
USELESS = np.uint8(DQ.SATURATED | DQ.DO_NOT_USE)


def faults(ramp: Ramp, budget: int = BUDGET) -> tuple[str, ...]:
    """Sentences about a ramp that name its file, made of all its numbers in one pass; none if all is well.

    Told are groups in which no pixel has a number, pixels whose counter wrapped around, pixels that are
    saturated in all groups of an integration, and what `Ramp.remarks` knows.

    Parameters
    ----------
    budget : int
        Bytes for the rows that are read at once.

    Raises
    ------
    FileError
        If the file ends early.
    """
    numbers = np.zeros(ramp.shape[:2], np.int64)
    around, lost = 0, np.zeros(ramp.integrations, np.int64)
    for rows in ramp.bands(budget, itemsize=2 * ramp.dtype.itemsize + 3):
        values, flags = ramp.values(rows), ramp.read_dq(rows)
        numbers += np.isfinite(values).sum(axis=(2, 3))
        if values.dtype != np.uint16:  # of those, the ramp itself knows
            around += int(wrapped(values)[:, -1:].any(axis=(0, 1)).sum())
        lost += _saturated(ramp, values, flags)
    around += ramp.seen.wraps
    told = [*ramp.remarks]
    told += (f"{ramp.name}: {sentence}" for sentence in _sentences(ramp, numbers, around, lost))
    return tuple(told)


def _saturated(ramp: Ramp, values: NDArray[Any], flags: NDArray[np.uint8] | None) -> NDArray[np.int64]:
    """Pixels of each integration that no group can be used of."""
    top = ramp.exposure.saturation
    full = np.zeros(values.shape, np.bool_) if top is None else values >= top
    if flags is not None:
        full |= flags & USELESS != 0
    return np.asarray(full.all(axis=1).sum(axis=(1, 2)), np.int64)


def _sentences(ramp: Ramp, numbers: NDArray[np.int64], around: int, lost: NDArray[np.int64]) -> Iterator[str]:
    pixels = ramp.shape[2] * ramp.shape[3]
    for integration, counts in enumerate(numbers):
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            word = "group" if len(empty) == 1 else "groups"
            yield f"integration {integration} has no number in {word} {ranges(empty)}"
    if around:
        falls = "they fall by more than 32768 from one group to the next"
        yield f"{around} of {pixels} pixels wrap around: {falls}"
    for integration, count in enumerate(lost):
        if count:
            part = "all" if count == pixels else f"{count} of {pixels}"
            yield f"{part} pixels are saturated in all groups of integration {integration}"
