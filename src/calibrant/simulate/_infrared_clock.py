"""How the outputs of an infrared array are clocked: which pixel is sampled when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError


@dataclass(frozen=True)
class Clock:
    """Clocking of an array whose outputs are blocks of columns, all sampled at the same ticks.

    Pixel ``j`` (in the order of readout) of row ``y`` is sampled at tick ``y (width + row_overhead) + j`` of
    its frame: the model of the full frame of the H2RG, ticks / frame = (512 + 12) (2048 + 1) + 1.

    Attributes
    ----------
    rows, cols : int
        Size of the array, reference pixels included.
    outputs : int
        Blocks of equal width.
    pixel_time : float
        Seconds per tick.
    row_overhead : int
        Ticks after the last pixel of each row.
    frame_overhead : tuple of int
        Rows, and ticks, after the last row of each frame.
    alternate : bool
        Every other output is read from its right edge leftwards.
    """

    rows: int = 2048
    cols: int = 2048
    outputs: int = 4
    pixel_time: float = 1e-5
    row_overhead: int = 12
    frame_overhead: tuple[int, int] = (1, 1)
    alternate: bool = True

    def __post_init__(self) -> None:
        if min(self.rows, self.cols, self.outputs) < 1 or self.cols % self.outputs:
            raise OptionError(
                "the columns cannot be shared among the outputs",
                expected="a whole number of columns for each output",
                got=f"{self.rows} x {self.cols} pixels, {self.outputs} outputs",
            )
        if self.pixel_time <= 0 or min(self.row_overhead, *self.frame_overhead) < 0:
            raise OptionError(
                "the clock cannot run",
                expected="a pixel time above zero and overheads of zero or more",
                got=f"{self.pixel_time} s, {self.row_overhead}, {self.frame_overhead}",
            )

    @property
    def width(self) -> int:
        """Columns of an output."""
        return self.cols // self.outputs

    @property
    def row_ticks(self) -> int:
        """Ticks from the start of a row to that of the next."""
        return self.width + self.row_overhead

    @property
    def frame_ticks(self) -> int:
        """Ticks from the start of a frame to that of the next."""
        rows, ticks = self.frame_overhead
        return self.row_ticks * (self.rows + rows) + ticks

    @property
    def frame_time(self) -> float:
        """Seconds from frame to frame."""
        return self.frame_ticks * self.pixel_time

    @property
    def row_frequency(self) -> float:
        """Rows per second, Hz."""
        return 1.0 / (self.row_ticks * self.pixel_time)

    @cached_property
    def parity(self) -> NDArray[np.float32]:
        """1 for even and -1 for odd columns in the order of readout, (width,)."""
        return (1 - 2 * (np.arange(self.width) % 2)).astype(np.float32)

    def blocks(self, plane: NDArray[Any]) -> list[NDArray[Any]]:
        """Views of a plane of (rows, cols): one per output, (rows, width), in the order of readout."""
        width = self.width
        views = [plane[:, first : first + width] for first in range(0, self.cols, width)]
        return [view[:, ::-1] if self.alternate and i % 2 else view for i, view in enumerate(views)]

    def sampled(self, samples: NDArray[Any]) -> NDArray[Any]:
        """What of a stream of `frame_ticks` samples falls on pixels: a view of (rows, width)."""
        ticks = samples[: self.rows * self.row_ticks]
        return ticks.reshape(self.rows, self.row_ticks)[:, : self.width]
