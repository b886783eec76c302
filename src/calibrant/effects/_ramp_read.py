"""Ramps of files as one stack of reads, of which only those rows are read that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._ramp_pattern import Pattern, design_of
from calibrant.exposures.ramps import Ramp
from calibrant.frame import DQ
from calibrant.instrument.clock import Border

Plane = NDArray[Any]
EDGE = np.uint32(DQ.REFERENCE_PIXEL | DQ.NON_SCIENCE)


@dataclass(frozen=True, eq=False)
class Reads:
    """All reads of all ramps, one after the other: ``reads[:, rows]`` is read from the files then.

    Attributes
    ----------
    ramps : sequence of Ramp
        Of one size.
    flags : bool
        Whether it is their flags that are read, uint8; 0 where a ramp has none.
    """

    ramps: Sequence[Ramp]
    flags: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint16 where all ramps are that, else float32; uint8 of flags."""
        whole = all(ramp.dtype == np.uint16 for ramp in self.ramps)
        return np.dtype(np.uint8 if self.flags else np.uint16 if whole else np.float32)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Reads, rows, columns."""
        many = sum(ramp.integrations * ramp.groups for ramp in self.ramps)
        return many, *self.ramps[0].shape[2:]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: tuple[slice, slice]) -> Plane:
        """Some rows of all reads, (reads, rows, cols); the first slice is that of all."""
        rows = at[1]
        found = np.empty((len(self), len(range(self.shape[1])[rows]), self.shape[2]), self.dtype)
        begin = 0
        for ramp in self.ramps:
            end = begin + ramp.integrations * ramp.groups
            part = found[begin:end].reshape(ramp.integrations, ramp.groups, *found.shape[1:])
            if self.flags:
                flags = ramp.read_dq(rows)
                part[...] = 0 if flags is None else flags
            elif ramp.dtype == found.dtype:
                ramp.values(rows, out=part)
            else:
                part[...] = ramp.values(rows)
            begin = end
        return found


def flags_of(ramps: Sequence[Ramp]) -> Reads | None:
    """Flags of all reads; None where no ramp has any."""
    return Reads(ramps, flags=True) if any(ramp.has_read_dq for ramp in ramps) else None


def design_of_ramps(
    ramps: Sequence[Ramp], times: Sequence[Pattern]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The design of ramps one after the other, which may have different numbers of groups."""
    unit = design_of(times[0])[2]
    designs, reads, before = [], [], 0
    for ramp, one in zip(ramps, times, strict=True):
        design, read, _ = design_of(one, ramp.integrations)
        design[0] += before
        before += read.shape[1]
        designs.append(design)
        reads.append(read)
    return np.concatenate(designs, axis=1), np.concatenate(reads, axis=1), unit


def flags_of_pixels(ramps: Sequence[Ramp], border: Border) -> NDArray[np.uint32]:
    """What the files say of the pixels, and which of them are reference pixels, (rows, cols)."""
    shape = ramps[0].shape[2], ramps[0].shape[3]
    dq = np.full(shape, EDGE)
    dq[border.active(shape)] = 0
    for ramp in ramps:
        flags = ramp.dq()
        if flags is not None:
            dq |= flags
    return dq
