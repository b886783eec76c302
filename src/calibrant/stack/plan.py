"""Plan: shapes, planes and a budget become row bands and a number of bytes, before the first pixel is
read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from calibrant.errors import BudgetError

READ = 1 << 18
"""Bytes of one frame that are best read at once: fewer cost calls, more leave the cache."""

BAND = 1 << 23
"""Bytes of raw numbers of all frames that a worker holds at most, however large the budget."""

IN_FLIGHT = 2
"""Finished bands per worker that may wait to be written."""


@dataclass(frozen=True)
class Plan:
    """Bands of full rows, and the bytes they need.

    Attributes
    ----------
    shape : tuple of int
        Rows, columns of the image.
    rows : int
        Rows per band.
    workers : int
        Bands under way at once.
    halo : int
        Rows read beyond each side of a band, for rejections that grow.
    bytes : int
        Projected peak of memory above what the process held before: outputs, and buffers of all workers.
    budget : int
        What was allowed.
    passes : int
        How often each byte of the inputs is read.
    """

    shape: tuple[int, int]
    rows: int
    workers: int
    halo: int
    bytes: int
    budget: int
    passes: int = 1

    def bands(self) -> Iterator[tuple[int, int]]:
        """First row and end row of every band."""
        for first in range(0, self.shape[0], self.rows):
            yield first, min(first + self.rows, self.shape[0])

    def __str__(self) -> str:
        return (
            f"{-(-self.shape[0] // self.rows)} bands of {self.rows} rows, {self.workers} at once, "
            f"{megabytes(self.bytes)} of {megabytes(self.budget)}"
        )


def plan_bands(
    shape: tuple[int, int],
    *,
    per_pixel_read: int,
    per_pixel_work: int,
    per_pixel_out: int,
    per_worker: int,
    fixed: int,
    budget: int,
    workers: int,
    halo: int = 0,
    passes: int = 1,
    one_frame: int = 0,
) -> Plan:
    """Choose rows per band and workers within a budget.

    Parameters
    ----------
    shape : tuple of int
        Rows, columns.
    per_pixel_read : int
        Bytes per pixel of what is read for one frame.
    per_pixel_work : int
        Bytes per pixel of a band that a worker holds (all frames).
    per_pixel_out : int
        Bytes per pixel of the planes that come out.
    per_worker : int
        Bytes of scratch that do not depend on the band.
    fixed : int
        Bytes that do not depend on the workers.
    budget, workers, halo, passes : int
        See `Plan`.
    one_frame : int
        Bytes of a pre-pass over single frames, per worker; never at the same time as the bands.

    Raises
    ------
    BudgetError
        If not even one row at a time fits; says both numbers.
    """
    rows, cols = shape
    band_row = cols * (per_pixel_work + IN_FLIGHT * per_pixel_out)
    out = rows * cols * per_pixel_out + fixed

    def need(count: int, hands: int) -> int:
        band = (count + 2 * halo) * cols * per_pixel_work + count * cols * IN_FLIGHT * per_pixel_out
        return out + hands * max(band + per_worker, one_frame)

    best = max(1, min(rows, READ // max(1, cols * per_pixel_read), BAND // max(1, band_row)))
    for hands in range(max(1, min(workers, -(-rows // best))), 0, -1):
        room = (budget - out) // hands - per_worker - 2 * halo * cols * per_pixel_work
        count = min(best, room // band_row)
        if count >= 1 and need(count, hands) <= budget:
            return Plan(shape, count, hands, halo, need(count, hands), budget, passes)
    least = need(1, 1)
    raise BudgetError(
        "the memory budget is too small for this combination, even row by row",
        where="budget",
        expected=f"at least {megabytes(least)}",
        got=exactly(budget),
        do="give a larger budget, ask for fewer planes or combine a section",
    )


def megabytes(size: int) -> str:
    """A size in words, rounded up to 0.1 MB."""
    return f"{-(-size // 100_000) / 10:.1f} MB"


def exactly(size: int) -> str:
    """A size in words as it was asked for: never rounded up to what would have been enough."""
    for unit, many in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= many:
            return f"{size / many:.6g} {unit}"
    return f"{size} bytes"
