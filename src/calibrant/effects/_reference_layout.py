"""Which reference pixels an image has: their sides, outputs and parities of columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.instrument.clock import Border, Clock

Ints = NDArray[np.intp]
SIDES = ("bottom", "top", "left", "right")
PARITIES = ("even", "odd")


@dataclass(frozen=True)
class Region:
    """Reference pixels of one side, output (from 1) and parity of columns in the order of readout."""

    side: str
    output: int
    parity: str

    @property
    def name(self) -> str:
        """As the place of a quantity: ``bottom 1 even``."""
        return f"{self.side} {self.output} {self.parity}"


@dataclass(frozen=True, eq=False)
class Layout:
    """The pixels of an image by region.

    Attributes
    ----------
    clock : Clock
    border : Border
        Rows and columns of reference pixels of the image.
    lane : ndarray
        (rows, cols) int16: 2 (output - 1) + parity.
    region : ndarray
        (rows, cols) int16: number of the region; -1 for a pixel that sees light.
    regions : tuple of Region
    """

    clock: Clock
    border: Border
    lane: NDArray[np.int16]
    region: NDArray[np.int16]
    regions: tuple[Region, ...]

    @property
    def lanes(self) -> int:
        """How many there are: two of each output."""
        return 2 * self.clock.outputs

    @cached_property
    def pixels(self) -> tuple[Ints, Ints]:
        """Rows and columns of the reference pixels, row after row."""
        rows, cols = np.nonzero(self.region >= 0)
        return rows, cols

    @cached_property
    def region_of(self) -> NDArray[np.int16]:
        """Region of each of `pixels`."""
        return self.region[self.pixels]

    @cached_property
    def sizes(self) -> Ints:
        """Pixels of each region."""
        return np.bincount(self.region_of, minlength=len(self.regions))

    def along(self, side: str) -> bool:
        """Whether a side is read by all outputs (as rows), not by the first or the last alone."""
        return (side in SIDES[:2]) == (abs(self.clock.fast) == 1)


def layout(clock: Clock, border: Border, where: str = "") -> Layout:
    """The regions of an image; corners belong to the sides that all outputs read.

    Raises
    ------
    SelectionError
        If no pixel of the image is a reference pixel, or all are.
    """
    shape = clock.shape
    if max(border) == 0:
        raise SelectionError(
            "this image has no reference pixels",
            where=where or None,
            expected="rows or columns of them at one side or more",
            do="take frames of the full array, or of a subarray that reaches its edge",
        )
    rows, cols = border.active((shape[0], shape[1]))
    if rows.stop <= rows.start or cols.stop <= cols.start:
        raise SelectionError(
            "all pixels of this image would be reference pixels", where=where or None, got=border
        )
    raw = np.empty((clock.rows, clock.cols), np.int16)
    for number, block in enumerate(clock.blocks(raw)):
        block[:] = 2 * number + np.arange(clock.width) % 2
    lane = np.ascontiguousarray(clock.image(raw))
    side = _sides(shape, border, whole_rows=abs(clock.fast) == 1)
    code = np.where(side >= 0, side * 2 * clock.outputs + lane, -1)
    known = np.unique(code[code >= 0])
    regions = tuple(_region(int(one), clock.outputs) for one in known)
    region = np.where(code >= 0, np.searchsorted(known, code), -1).astype(np.int16)
    return Layout(clock, border, lane, region, regions)


def _sides(shape: tuple[int, ...], border: Border, *, whole_rows: bool) -> NDArray[Any]:
    """Number of the side of each pixel, -1 inside."""
    side = np.full(shape, -1)
    rows, cols = border.active((shape[0], shape[1]))
    columns = ((np.s_[:, : cols.start], 2), (np.s_[:, cols.stop :], 3))
    lines = ((np.s_[: rows.start], 0), (np.s_[rows.stop :], 1))
    for place, number in (*columns, *lines) if whole_rows else (*lines, *columns):
        side[place] = number
    return side


def _region(code: int, outputs: int) -> Region:
    side, lane = divmod(code, 2 * outputs)
    return Region(SIDES[side], lane // 2 + 1, PARITIES[lane % 2])
