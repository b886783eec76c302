"""When each pixel of a frame is read: outputs side by side, rows with overheads between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError


@dataclass(frozen=True)
class Clock:
    """The times of the pixels of one read. All outputs are read at the same moments, row after row.

    Attributes
    ----------
    rows, cols : int
        Of one output; outputs lie side by side.
    outputs : int
    pixel_time : float
        Seconds between pixels: one tick.
    row_overhead : int
        Ticks after each row in which no pixel is read.
    frame_overhead : int
        Ticks after the last row.
    alternating : bool
        Whether every other output is read from right to left; the first is read from left to right.
    """

    rows: int
    cols: int
    outputs: int = 4
    pixel_time: float = 1e-5
    row_overhead: int = 12
    frame_overhead: int = 0
    alternating: bool = True

    def __post_init__(self) -> None:
        if min(self.rows, self.cols, self.outputs) < 1 or not self.pixel_time > 0:
            raise OptionError(
                "a clock needs rows, columns, outputs and the time of a pixel",
                where="one_over_f",
                expected="numbers above 0",
                got=f"{self.rows} x {self.cols}, {self.outputs} outputs, {self.pixel_time:g} s",
            )

    @property
    def row_ticks(self) -> int:
        """Ticks from row to row."""
        return self.cols + self.row_overhead

    @property
    def frame_ticks(self) -> int:
        """Ticks from read to read."""
        return self.rows * self.row_ticks + self.frame_overhead

    @property
    def frame_time(self) -> float:
        """Seconds from read to read."""
        return self.frame_ticks * self.pixel_time

    @property
    def row_frequency(self) -> float:
        """Rows in a second [Hz]."""
        return 1 / (self.row_ticks * self.pixel_time)

    @property
    def nyquist(self) -> float:
        """Highest frequency of the samples of an output [Hz]."""
        return 0.5 / self.pixel_time

    @property
    def directions(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each output: the column that is read first, and the step to the next."""
        number = np.arange(self.outputs)
        back = (number % 2 == 1) & self.alternating
        return number * self.cols + np.where(back, self.cols - 1, 0), np.where(back, -1, 1)
