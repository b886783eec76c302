"""How an array that is read up the ramp is clocked, as an instrument file and a header say it together."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from calibrant.errors import ConfigError, HeaderError, OptionError
from calibrant.frame import Exposure
from calibrant.instrument.clock import Border, Clock
from calibrant.instrument.rules import Model

Count = Annotated[int, Field(ge=1)]
Some = Annotated[int, Field(ge=0)]
MOST_OVERHEAD = 0.1  # of a frame: a frame time that leaves more of it unread is not that of this clock
SIDES = ("bottom", "top", "left", "right")


class ReadoutRules(Model):
    """The clock of an array and its reference pixels, where headers do not say otherwise.

    Attributes
    ----------
    shape : list of int
        Rows, columns of the whole detector, of which a smaller image is a window; any size if not given.
    outputs : int
        Of the whole detector; a window has one, if it is narrower and its header does not say.
    pixel_time : float
        Seconds per tick.
    row_overhead : int
        Ticks after each row.
    frame_overhead, window_overhead : list of int
        Rows, and ticks, after a frame read by several outputs, or by one. The frame time of a header counts
        before them, where it leaves time for overheads at all.
    alternate : bool
        Every other output is read backwards.
    border : int
        Reference pixels at each edge of the detector.
    fast, slow : int
        Axes of the readout, where the header does not say them: 1 columns, 2 rows, negative backwards.
    """

    shape: tuple[Count, Count] | None = None
    outputs: Count = 4
    pixel_time: Annotated[float, Field(gt=0)] = 1e-5
    row_overhead: Some = 12
    frame_overhead: tuple[Some, Some] = (1, 1)
    window_overhead: tuple[Some, Some] = (2, 0)
    alternate: bool = True
    border: Some = 4
    fast: int = 1
    slow: int = 2

    def clock(self, exposure: Exposure) -> Clock:
        """The clock of an exposure, from its facts ``outputs, fastaxis, slowaxis, frame_time``.

        Raises
        ------
        HeaderError
            If what the header says cannot be.
        """
        height, width = _image(exposure)
        fast, slow = _axis(exposure, "fastaxis", self.fast), _axis(exposure, "slowaxis", self.slow)
        rows, cols = (height, width) if abs(fast) == 1 else (width, height)
        outputs = self._outputs(exposure, cols)
        overhead = self.frame_overhead if outputs > 1 else self.window_overhead
        try:
            clock = Clock(
                rows, cols, outputs, self.pixel_time, self.row_overhead, overhead, self.alternate, fast, slow
            )
        except OptionError as error:
            raise HeaderError(
                f"the header and the readout of the instrument do not agree: {error.what}",
                where=exposure.path,
                expected=error.expected,
                got=error.got,
            ) from None
        return _with_frame_time(clock, exposure.keys.get("frame_time"))

    def reference(self, exposure: Exposure) -> Border:
        """Reference pixels at the sides of the image of an exposure; 0 where a window has none.

        What its facts ``border_bottom, border_top, border_left, border_right`` say counts first, then where
        its first pixel lies on the detector (``substrt1, substrt2``, from 1). A window of unknown place has
        none.
        """
        stated = [exposure.keys.get(f"border_{side}") for side in SIDES]
        if None not in stated:
            return Border(*(int(number) for number in stated))  # type: ignore[arg-type]
        rows, cols = _image(exposure)
        whole = self.shape or (rows, cols)
        first_col, first_row = exposure.keys.get("substrt1"), exposure.keys.get("substrt2")
        if first_col is None or first_row is None:
            return Border(*[self.border] * 4) if whole == (rows, cols) else Border()
        bottom, left = int(first_row) - 1, int(first_col) - 1
        far = whole[0] - bottom - rows, whole[1] - left - cols
        return Border(*(max(self.border - max(gap, 0), 0) for gap in (bottom, far[0], left, far[1])))

    def _outputs(self, exposure: Exposure, cols: int) -> int:
        stated = exposure.keys.get("outputs")
        if stated is not None:
            return int(stated)
        whole = self.shape is None or cols == self.shape[1]
        return self.outputs if whole and cols % self.outputs == 0 else 1


def no_readout(instrument: str) -> ConfigError:
    """What is said where an instrument file has no clock."""
    return ConfigError(
        f"the instrument {instrument} does not say how its pixels are clocked",
        do="add a table [readout] to its file",
    )


def _image(exposure: Exposure) -> tuple[int, int]:
    if len(exposure.shape) < 2:
        raise HeaderError("the header states no image size", where=exposure.path, got=exposure.shape)
    return exposure.shape[-2], exposure.shape[-1]


def _axis(exposure: Exposure, key: str, default: int) -> int:
    stated: Any = exposure.keys.get(key)
    return default if stated is None else int(stated)


def _with_frame_time(clock: Clock, frame_time: float | None) -> Clock:
    """The clock with the overhead of a frame that its stated time leaves."""
    if frame_time is None:
        return clock
    ticks = round(float(frame_time) / clock.pixel_time) - clock.rows * clock.row_ticks
    # The time of one row is left over in any clock: small windows have overheads larger than a tenth.
    most = max(MOST_OVERHEAD * clock.rows * clock.row_ticks, 8 * clock.row_ticks)
    if not 0 <= ticks <= most:
        return clock
    rows, rest = divmod(ticks, clock.row_ticks)
    return Clock(
        clock.rows, clock.cols, clock.outputs, clock.pixel_time, clock.row_overhead, (rows, rest),
        clock.alternate, clock.fast, clock.slow,
    )  # fmt: skip
