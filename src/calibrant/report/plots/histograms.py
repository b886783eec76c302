"""Histograms of the pixels of one or more frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrant.errors import OptionError, SelectionError, UnitError
from calibrant.frame import Frame
from calibrant.report.plots.canvas import (
    CURVES,
    KEY_ROW,
    SMALL,
    Box,
    dress,
    heading,
    heading_height,
    key_above,
    key_rows,
    page,
    shortened,
)
from calibrant.report.plots.pixels import label, shown, unit_text

WIDE, TALL = 7.2, 3.9
LEFT, BELOW = 0.8, 0.55
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
"""Curves differ in their dashes as well as in their colours."""
Pixels = Frame | NDArray[Any]


def histogram(
    frames: Pixels | Sequence[Pixels] | Mapping[str, Pixels],
    *,
    bins: int = 200,
    span: tuple[float, float] | None = None,
    log: bool = True,
    title: str = "",
) -> Figure:
    """Numbers of pixels by value, one curve for each frame.

    Pixels without data or flagged DO_NOT_USE do not count. Whole numbers get bins of whole numbers, so that
    no bin holds one value more than its neighbour.

    Parameters
    ----------
    frames : Frame or array, several of them, or a mapping of names to them
        All in one unit.
    bins : int
        At most so many.
    span : (float, float), optional
        Lowest and highest value; unless given, the middle 99.9 % of each frame. The legend says how many
        pixels lie outside.
    log : bool
        Logarithmic numbers of pixels.
    title : str

    Raises
    ------
    SelectionError
        If there is no frame.
    UnitError
        If units differ.
    OptionError
        If `bins` or `span` have no meaning.
    """
    named = _named(frames)
    planes = [shown(frame) for _, frame in named]
    units = {plane.unit for plane in planes}
    if len(units) > 1:
        raise UnitError("histograms on one axis need one unit", got=", ".join(sorted(map(_said, units))))
    values = [plane.good for plane in planes]
    edges = bin_edges(values, bins, span)
    above = key_rows(len(named)) * KEY_ROW + 0.08 + (heading_height(title, []) + 0.08 if title else 0.05)
    figure = page(LEFT + WIDE + 0.25, BELOW + TALL + above)
    axes = figure.add_axes(Box(LEFT, BELOW, WIDE, TALL).on(figure))
    unit = planes[0].unit
    name = "signal" if unit_text(unit) else "value"
    dress(axes, label(name, unit), "pixels per bin", grid=True)
    for i, ((text, _), one) in enumerate(zip(named, values, strict=True)):
        _curve(axes, text, one, edges, i)
    _finish(axes, edges, log)
    heading(figure, Box(0.15, 0, WIDE + 0.6, BELOW + TALL + above - 0.08), title, [])
    return figure


def _said(unit: str | None) -> str:
    return unit_text(unit) or "no unit"


def _named(frames: Any) -> list[tuple[str, Pixels]]:
    if isinstance(frames, Mapping):
        pairs = [(str(name), frame) for name, frame in frames.items()]
    else:
        alone = isinstance(frames, Frame) or (isinstance(frames, np.ndarray) and frames.ndim > 1)
        listed = [frames] if alone else list(frames)
        pairs = [(_name(frame, i, len(listed)), frame) for i, frame in enumerate(listed)]
    if not pairs:
        raise SelectionError("there is nothing to count", expected="one frame or more", got=0)
    return pairs


def _name(frame: Pixels, index: int, count: int) -> str:
    if isinstance(frame, Frame) and (frame.exposure.path or frame.exposure.identifier):
        return PurePath(frame.name).name
    return "pixels" if count == 1 else f"frame {index}"


def bin_edges(
    values: Sequence[NDArray[Any]], bins: int = 200, span: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Edges of bins that suit all of the values.

    Parameters
    ----------
    values : sequence of array
        1-D each, finite.
    bins : int
        At most so many.
    span : (float, float), optional
        Unless given, from the 0.05th to the 99.95th percentile of each, and all of them together.

    Returns
    -------
    edges : array
        Increasing, at half numbers if all values are whole.

    Raises
    ------
    OptionError
    """
    if not 1 <= bins <= 100_000:
        raise OptionError("the number of bins has no meaning", where="bins", expected="1 to 100000", got=bins)
    filled = [one for one in values if one.size]
    if span is None:
        ends = [np.percentile(one, (0.05, 99.95)) for one in filled] or [np.array([0.0, 1.0])]
        low, high = float(min(e[0] for e in ends)), float(max(e[1] for e in ends))
    else:
        low, high = float(span[0]), float(span[1])
        if not (np.isfinite([low, high]).all() and low < high):
            raise OptionError("a span needs two numbers", where="span", expected="low < high", got=span)
    if all(_whole(one) for one in filled) and max(abs(low), abs(high)) < 1e12:
        low, high = np.floor(low), np.ceil(high)
        width = -(-(high - low + 1) // bins)
        return np.asarray(np.arange(low - 0.5, high + width, width), np.float64)
    room = 0.0 if span is not None else max((high - low) * 0.02, 1e-6 * max(abs(low), abs(high)), 1e-30)
    return np.linspace(low - room, high + room, bins + 1)


def _whole(values: NDArray[Any]) -> bool:
    """Whether values are counts: of an integer type, or whole in a sample of them."""
    if values.dtype.kind in "iu":
        return True
    sample = values[:: max(1, values.size // 10_000)]
    return bool(np.all(sample == np.rint(sample)))


def _curve(axes: Axes, text: str, values: NDArray[Any], edges: NDArray[np.float64], index: int) -> None:
    counts, _ = np.histogram(values, edges)
    outside = values.size - int(counts.sum())
    told = f" ({outside:,} outside)".replace(",", "\u2009") if outside else ""
    axes.stairs(
        counts,
        edges,
        baseline=None,
        color=CURVES[index % len(CURVES)],
        linestyle=DASHES[index % len(DASHES)],
        linewidth=1.4,
        label=shortened(text, 2.2, SMALL) + told,
    )


def _finish(axes: Axes, edges: NDArray[np.float64], log: bool) -> None:
    axes.set_xlim(edges[0], edges[-1])
    if log:
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(bottom=0.5)
    axes.ticklabel_format(axis="x", useOffset=False)
    key_above(axes)
