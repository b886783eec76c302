"""Images: a frame or array as a picture with its grey scale, flags, marks and sky coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np
from astropy.wcs import WCS
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.files.sky import solution
from calibrant.frame import Exposure, Frame
from calibrant.report.plots.canvas import TEXT, Box, heading, heading_height, page, wrapped
from calibrant.report.plots.drawing import (
    BELOW,
    LEGEND_ROW,
    LONGEST,
    Picture,
    draw,
    image_size,
    legend,
    legend_entries,
    legend_rows,
)
from calibrant.report.plots.look import Limits, Look
from calibrant.report.plots.pixels import Shown, shown
from calibrant.report.plots.sky import required

WIDE, TALL = 8.6, 7.4
"""Room for a single image, inches."""


def image(
    frame: Frame | NDArray[Any],
    *,
    stretch: str = "linear",
    limits: Limits = "zscale",
    low: float | None = None,
    high: float | None = None,
    cmap: str = "gray",
    colorbar: bool = True,
    title: str | None = None,
    dq: bool | int = False,
    sky: bool | str = "auto",
    mark: tuple[float, float] | Sequence[tuple[float, float]] = (),
) -> Figure:
    """Draw a frame: row 0 at the bottom, every detector pixel as it is, purple where there is no data.

    Parameters
    ----------
    frame : Frame or array
        (rows, cols), or a cube, of which the first plane is drawn. An array has no unit, flags or header.
    stretch : str
        ``linear``, ``log``, ``sqrt`` or ``asinh``, between the limits.
    limits : str or (float, float)
        Values shown as black and white. ``zscale``: as IRAF finds them; ``percentile``: `low` and `high` in
        percent (0.5 and 99.5); ``median``: median plus `low` and `high` standard deviations (-2 and +5);
        ``minmax``; or two numbers in the unit of the frame. Pixels without data or flagged DO_NOT_USE do not
        count.
    low, high : float, optional
        Of ``percentile`` and ``median``.
    cmap : str
        A Matplotlib colour map.
    colorbar : bool
    title : str, optional
        Instead of the frame's name; ``""`` for none.
    dq : bool or int
        Paint flagged pixels over the image, in colours by class; a number of `DQ` bits paints those alone.
    sky : bool or "auto"
        Grid of right ascension and declination. "auto" draws it if the header has a solution that fits.
    mark : (row, col), or several
        Pixels to be circled; counted from 0, row first.

    Returns
    -------
    Figure
        120 pixels per inch; an image that fits has a whole number of pixels of the page to each of its own.

    Raises
    ------
    ShapeError
        If there are no rows and columns.
    OptionError
        For an option without meaning here.
    HeaderError
        If `sky` is True and the header has no usable celestial coordinates.
    """
    look = Look(limits, stretch, low, high, cmap)
    what = shown(frame)
    rows, cols = what.values.shape
    facts = frame_facts(frame.exposure) if isinstance(frame, Frame) else ()
    picture = Picture(
        what,
        look,
        title=_title(frame) if title is None else title,
        facts=(*facts, *size_facts(what)),
        flags=_bits(dq),
        wcs=_coordinates(frame, sky, (rows, cols)),
        mark=marks_of(mark, (rows, cols)),
        colorbar=colorbar,
        quantity="" if isinstance(frame, Frame) else "value",
    )
    return _single(picture)


def flags(frame: Frame, *, title: str | None = None, sky: bool | str = "auto") -> Figure:
    """Draw the flags of a frame alone: classes of flags in their colours on white, purple without data.

    Parameters
    ----------
    frame : Frame
        With its dq, uint32 (rows, cols).
    title, sky : str, bool
        As of `image`.

    Returns
    -------
    Figure
        Its legend counts the pixels of each class.

    Raises
    ------
    OptionError
        If the frame has no dq.
    """
    if frame.dq is None:
        raise OptionError("there are no flags to draw", where=frame.name)
    dq = np.asarray(shown(frame).dq)
    bare = replace(frame, data=np.zeros(dq.shape, np.uint8), dq=dq, variance=None, systematic=None, extra={})
    picture = Picture(
        shown(bare),
        Look((0.0, 1.0), cmap="gray_r"),
        title=_title(frame) if title is None else title,
        facts=(*frame_facts(frame.exposure), *size_facts(shown(bare)), *(() if dq.any() else ("no flags",))),
        flags=_bits(True),
        wcs=_coordinates(frame, sky, (dq.shape[0], dq.shape[1])),
        colorbar=False,
    )
    return _single(picture)


def _title(frame: Frame | NDArray[Any]) -> str:
    return PurePath(frame.name).name if isinstance(frame, Frame) else ""


def frame_facts(exposure: Exposure) -> tuple[str, ...]:
    """An exposure in short words: kind, object, time, temperature, filter, binning, start."""
    seconds = exposure.duration
    facts = [
        exposure.kind if exposure.kind != "unknown" else "",
        exposure.object or "",
        f"{seconds:g} s" if seconds is not None else "",
        f"{exposure.temperature:.1f} °C".replace("-", "−") if exposure.temperature is not None else "",
        exposure.filter or "",
        f"binned {exposure.binning[0]} × {exposure.binning[1]}" if exposure.binning != (1, 1) else "",
        (exposure.time or "")[:19].replace("T", " "),
    ]
    return tuple(fact for fact in facts if fact)


def size_facts(what: Shown) -> tuple[str, ...]:
    """Size of the image, which plane of a cube it is, and whether its pixels are drawn square."""
    rows, cols = what.values.shape
    long = max(rows / cols, cols / rows) > LONGEST
    facts = (f"{rows} × {cols}", what.note, "pixels not drawn square" if long else "")
    return tuple(fact for fact in facts if fact)


def _bits(dq: bool | int) -> int:
    if isinstance(dq, bool):
        return 0xFFFFFFFF if dq else 0
    if not 0 <= int(dq) <= 0xFFFFFFFF:
        raise OptionError("flags are 32 bits", where="dq", expected="a sum of DQ bits", got=dq)
    return int(dq)


def _coordinates(frame: Frame | NDArray[Any], sky: bool | str, shape: tuple[int, int]) -> WCS | None:
    if sky not in (True, False, "auto"):
        raise OptionError(
            "sky has no such choice", where="sky", expected='True, False or "auto"', got=repr(sky)
        )
    header = frame.header if isinstance(frame, Frame) else None
    if sky is True:
        return required(header, shape, frame.name if isinstance(frame, Frame) else "array")
    return solution(header, shape) if sky else None


def marks_of(mark: Any, shape: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """One pair or several as a tuple of pairs, all inside the image."""
    try:
        pairs = np.asarray(mark, float).reshape(-1, 2)
    except (TypeError, ValueError):
        raise OptionError("a mark is a row and a column", where="mark", got=repr(mark)) from None
    rows, cols = shape
    for row, col in pairs:
        if not (-0.5 <= row <= rows - 0.5 and -0.5 <= col <= cols - 0.5):
            raise OptionError(
                "the mark lies outside the image",
                where="mark",
                expected=f"rows 0 to {rows - 1}, columns 0 to {cols - 1}",
                got=(float(row), float(col)),
            )
    return tuple((float(row), float(col)) for row, col in pairs)


def _single(picture: Picture) -> Figure:
    width, height = image_size(picture.shape, WIDE, TALL)
    text = max(width + picture.right + picture.left - 0.3, 4.6)
    lines = wrapped(picture.facts, text, TEXT)
    key = legend_entries(picture)
    above = heading_height(picture.title, lines) + (0.12 if picture.wcs is None else 0.2)
    beneath = BELOW + LEGEND_ROW * legend_rows(key, text) + (0.06 if key else 0.0)
    whole = max(picture.left + width + picture.right, text + 0.3)
    figure = page(whole, beneath + height + above)
    shift = (whole - picture.left - width - picture.right) / 2
    box = Box(picture.left + shift, beneath, width, height)
    draw(figure, box, picture)
    heading(figure, Box(0.15, beneath + height, text, above - 0.08), picture.title, lines)
    if key:
        legend(figure, key, Box(0.15, 0.0, text, beneath - BELOW))
    return figure
