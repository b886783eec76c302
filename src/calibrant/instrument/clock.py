"""When each pixel of an array is read: outputs side by side, rows with overheads between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError


class Border(NamedTuple):
    """Reference pixels at the sides of an image: rows at the bottom and top, columns left and right."""

    bottom: int = 0
    top: int = 0
    left: int = 0
    right: int = 0

    def active(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of an image of that shape that see light."""
        return slice(self.bottom, shape[0] - self.top), slice(self.left, shape[1] - self.right)


@dataclass(frozen=True)
class Clock:
    """Clocking of an array whose outputs are blocks of columns, all sampled at the same ticks.

    Pixel ``j`` (in the order of readout) of row ``y`` is sampled at tick ``y (width + row_overhead) + j`` of
    its frame: the model of the full frame of the H2RG, ticks / frame = (512 + 12) (2048 + 1) + 1.
    Rows, columns and blocks are in the order of readout: row 0 and output 0 are read first. Images whose rows
    run elsewhere say so by `fast` and `slow`, and `raw` turns them.

    Attributes
    ----------
    rows, cols : int
        Size of the array, all outputs together, reference pixels included.
    outputs : int
        Blocks of equal width.
    pixel_time : float
        Seconds per tick.
    row_overhead : int
        Ticks after the last pixel of each row, in which no pixel is read.
    frame_overhead : tuple of int
        Rows, and ticks, after the last row of each frame.
    alternate : bool
        Every other output is read from its last column to its first; output 0 from its first.
    fast, slow : int
        Axis of the image along which pixels and rows follow each other: 1 columns, 2 rows, negative from high
        to low, as FASTAXIS and SLOWAXIS of headers say.

    Raises
    ------
    OptionError
        If the columns cannot be shared among the outputs, or a number cannot be.
    """

    rows: int = 2048
    cols: int = 2048
    outputs: int = 4
    pixel_time: float = 1e-5
    row_overhead: int = 12
    frame_overhead: tuple[int, int] = (1, 1)
    alternate: bool = True
    fast: int = 1
    slow: int = 2

    def __post_init__(self) -> None:
        if min(self.rows, self.cols, self.outputs) < 1 or self.cols % self.outputs:
            raise OptionError(
                "the clock cannot share the columns among the outputs",
                expected="a whole number of columns for each output",
                got=f"{self.rows} x {self.cols} pixels, {self.outputs} outputs",
            )
        if not self.pixel_time > 0 or min(self.row_overhead, *self.frame_overhead) < 0:
            raise OptionError(
                "the clock cannot run",
                expected="a pixel time above zero and overheads of zero or more",
                got=f"{self.pixel_time} s, {self.row_overhead}, {self.frame_overhead}",
            )
        if {abs(self.fast), abs(self.slow)} != {1, 2}:
            raise OptionError(
                "the clock needs two axes",
                expected="fast 1 or -1 and slow 2 or -2, or the other way round",
                got=f"fast {self.fast}, slow {self.slow}",
            )

    @property
    def width(self) -> int:
        """Columns of an output."""
        return self.cols // self.outputs

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        return (self.rows, self.cols) if abs(self.fast) == 1 else (self.cols, self.rows)

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

    @property
    def nyquist(self) -> float:
        """Highest frequency of the samples of an output, Hz."""
        return 0.5 / self.pixel_time

    @property
    def directions(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each output of a `raw` plane: the column that is read first, and the step to the next."""
        number = np.arange(self.outputs)
        back = (number % 2 == 1) & self.alternate
        return number * self.width + np.where(back, self.width - 1, 0), np.where(back, -1, 1)

    @cached_property
    def parity(self) -> NDArray[np.float32]:
        """1 for even and -1 for odd columns in the order of readout, (width,)."""
        return (1 - 2 * (np.arange(self.width) % 2)).astype(np.float32)

    def raw(self, image: NDArray[Any]) -> NDArray[Any]:
        """A view of an image, or of a stack of them, with rows and outputs in the order of readout.

        Parameters
        ----------
        image : array (..., *shape)

        Returns
        -------
        array (..., rows, cols)
        """
        plane = image if abs(self.fast) == 1 else image.swapaxes(-1, -2)
        return plane[..., :: 1 if self.slow > 0 else -1, :: 1 if self.fast > 0 else -1]

    def image(self, raw: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `raw`: a view of (..., rows, cols) as the image (..., *shape)."""
        plane = raw[..., :: 1 if self.slow > 0 else -1, :: 1 if self.fast > 0 else -1]
        return plane if abs(self.fast) == 1 else plane.swapaxes(-1, -2)

    def blocks(self, plane: NDArray[Any]) -> list[NDArray[Any]]:
        """Views of a `raw` plane (rows, cols): one per output, (rows, width), in the order of readout."""
        width = self.width
        views = [plane[:, first : first + width] for first in range(0, self.cols, width)]
        return [view[:, ::-1] if self.alternate and i % 2 else view for i, view in enumerate(views)]

    def output_of(self) -> NDArray[np.int16]:
        """Number of the output of each pixel of the image, from 0, of `shape`."""
        row = np.repeat(np.arange(self.outputs, dtype=np.int16), self.width)
        return self.image(np.broadcast_to(row, (self.rows, self.cols)))

    def pixel_times(self) -> NDArray[np.float64]:
        """Seconds from the start of a frame to the sample of each pixel of the image, of `shape`."""
        ticks = np.empty((self.rows, self.cols))
        starts = np.arange(self.rows)[:, np.newaxis] * self.row_ticks
        for block in self.blocks(ticks):
            block[:] = starts + np.arange(self.width)
        return self.image(ticks * self.pixel_time)

    def sampled(self, samples: NDArray[Any]) -> NDArray[Any]:
        """What of a stream of `frame_ticks` samples falls on pixels: a view of (rows, width)."""
        ticks = samples[: self.rows * self.row_ticks]
        return ticks.reshape(self.rows, self.row_ticks)[:, : self.width]
