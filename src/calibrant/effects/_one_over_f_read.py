"""Differences of groups of ramps in the order of readout, with the reference columns of their rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._one_over_f_response import Sampling
from calibrant.exposures.ramps import Ramp
from calibrant.frame import DQ, Exposure
from calibrant.instrument.clock import Border, Clock
from calibrant.stats import MAD_TO_STD

LOST = np.uint8(DQ.DO_NOT_USE | DQ.SATURATED)
JUMPED = np.uint8(LOST | DQ.JUMP_DET)
BAD = np.uint32(DQ.DO_NOT_USE | DQ.DEAD | DQ.HOT | DQ.RC | DQ.TELEGRAPH | DQ.OTHER_BAD_PIXEL)
FAR = 6.0  # sigmas beyond which a reference pixel does not count in the mean of its row
LEAST = 0.5  # of the pixels must be numbers, or the difference is left out

F4 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Difference:
    """Two groups of a ramp, (rows, cols) in the order of readout.

    Attributes
    ----------
    flagged : array of bool or None
        Pixels that cannot be used in this difference.
    streams : array of float32
        (streams, rows inside the border), adu: what `streams` makes of the second less the first.
    """

    first: NDArray[Any]
    second: NDArray[Any]
    flagged: NDArray[np.bool_] | None
    streams: F4


def sampling_of(exposure: Exposure) -> Sampling:
    """Reads that a group averages, and that are dropped between two groups."""
    return Sampling(int(exposure.get("nframes") or 1), int(exposure.get("groupgap") or 0))


def raw_border(clock: Clock, border: Border) -> Border:
    """The border of an image as that of its plane in the order of readout."""
    inside = np.zeros(clock.shape, np.bool_)
    inside[border.active((clock.shape[0], clock.shape[1]))] = True
    raw = clock.raw(inside)
    rows, cols = np.flatnonzero(raw.any(axis=1)), np.flatnonzero(raw.any(axis=0))
    if rows.size == 0 or cols.size == 0:
        return border
    return Border(
        int(rows[0]), raw.shape[0] - 1 - int(rows[-1]), int(cols[0]), raw.shape[1] - 1 - int(cols[-1])
    )


def stream_names(border: Border) -> tuple[str, ...]:
    """Sides of a plane in the order of readout that have a reference pixel in each row."""
    return tuple(name for name, cols in (("left", border.left), ("right", border.right)) if cols)


def streams(plane: NDArray[Any], border: Border) -> F4:
    """Mean of the reference pixels of each row less the median of the side, (streams, rows inside), adu.

    Pixels that are far off or no numbers do not count; rows without any take the median.

    Parameters
    ----------
    plane : array (rows, cols)
        In the order of readout.
    border : Border
        Of it.
    """
    lines = slice(border.bottom, plane.shape[0] - border.top)
    found = np.zeros((len(stream_names(border)), lines.stop - lines.start), np.float32)
    sides = [plane[lines, : border.left], plane[lines, plane.shape[1] - border.right :]]
    for row, values in zip(found, (side for side in sides if side.shape[1]), strict=True):
        fine = np.isfinite(values)
        if not fine.any():
            continue
        off = np.where(fine, values - np.median(values[fine]), 0).astype(np.float32)
        width = FAR * MAD_TO_STD * float(np.median(np.abs(off[fine])))
        fine &= np.abs(off) <= (width if width > 0 else np.inf)
        row[:] = (off * fine).sum(axis=1) / np.maximum(fine.sum(axis=1), 1)
    return found


def good_pixels(ramps: list[Ramp], clock: Clock, more: list[NDArray[Any]]) -> NDArray[np.bool_]:
    """Pixels that no ramp, and no further plane of flags, calls bad, in the order of readout."""
    good = np.ones(clock.shape, np.bool_)
    for ramp in ramps:
        flags = ramp.dq()
        if flags is not None:
            good &= (flags & BAD) == 0
    for flags in more:
        if flags.shape == good.shape:
            good &= (flags.astype(np.uint32) & BAD) == 0
    return np.ascontiguousarray(clock.raw(good))


def differences(ramp: Ramp, clock: Clock, border: Border) -> Iterator[Difference | None]:
    """Independent differences of a ramp, second less first, fourth less third; None for one without pixels.

    Parameters
    ----------
    ramp : Ramp
    clock : Clock
    border : Border
        Of planes in the order of readout.
    """
    for integration in range(ramp.integrations):
        one = slice(integration, integration + 1)
        for group in range(0, ramp.groups - 1, 2):
            two = slice(group, group + 2)
            first, second = _turned(clock, ramp.values(integrations=one, groups=two)[0])
            flags = ramp.read_dq(integrations=one, groups=two)
            yield _difference(first, second, None if flags is None else _turned(clock, flags[0]), border)


def _turned(clock: Clock, planes: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(clock.raw(planes))


def _difference(
    first: NDArray[Any], second: NDArray[Any], flags: NDArray[Any] | None, border: Border
) -> Difference | None:
    flagged = None
    if flags is not None and flags.any():
        flagged = ((flags[0] & LOST) | (flags[1] & JUMPED)) != 0
    if first.dtype == np.uint16:
        full = np.iinfo(np.uint16).max
        ends = (second == full) | (second == 0) | (first == 0)
        if ends.any():
            flagged = ends if flagged is None else flagged | ends
        known = 1.0
    else:
        known = float(np.isfinite(first[::8, ::8] + second[::8, ::8]).mean())
    if known * (1.0 if flagged is None else 1 - float(flagged.mean())) < LEAST:
        return None
    return Difference(first, second, flagged, _side_changes(first, second, border))


def _side_changes(first: NDArray[Any], second: NDArray[Any], border: Border) -> F4:
    """Streams of the difference; only the columns of the border are subtracted."""
    left, right = border.left, border.right
    sides = [
        plane[:, np.r_[:left, plane.shape[1] - right : plane.shape[1]]].astype(np.float32)
        for plane in (first, second)
    ]
    return streams(sides[1] - sides[0], border)
