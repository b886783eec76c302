"""Drawing: one picture into its place on a page: pixels, flags, marks, colour bar, legend of colours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.wcs import WCS
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from calibrant.frame import DQ
from calibrant.report.plots.canvas import DPI, FAINT, INK, SMALL, TEXT, Box, count_pixels, dress
from calibrant.report.plots.look import NO_DATA_COLOUR, Look, colour_map, display_limits, norm, ticks
from calibrant.report.plots.pixels import (
    FLAG_CLASSES,
    RAISED,
    FlagClass,
    Shown,
    block_mean,
    block_or,
    flag_classes,
    unit_text,
)
from calibrant.report.plots.sky import sky_axes

LEFT, RIGHT, BELOW = 0.72, 1.05, 0.52
"""Inches for the row numbers, the colour bar and the column numbers."""
SKY_LEFT = 1.12
LEGEND_ROW = 0.2
LARGEST = 4096
"""Pixels per side above which blocks are averaged before Matplotlib sees the image."""
CROWDED = 0.1
"""Share of the picture that flags may take when they are drawn larger than their pixels."""
LONGEST = 6.0
"""Ratio of the sides up to which pixels are drawn square."""


@dataclass(frozen=True, eq=False)
class Picture:
    """All that one image on a page needs.

    Attributes
    ----------
    shown : Shown
    look : Look
    title : str
    facts : tuple of str
        Short facts beneath the title.
    flags : int
        Bits of `DQ` to paint over the image; 0 for none.
    wcs : WCS or None
        Draws the grid of sky coordinates.
    mark : tuple of (row, col)
        Pixels to be circled.
    colorbar : bool
    quantity : str
        What the colour bar shows.
    """

    shown: Shown
    look: Look = field(default_factory=Look)
    title: str = ""
    facts: tuple[str, ...] = ()
    flags: int = 0
    wcs: WCS | None = None
    mark: tuple[tuple[float, float], ...] = ()
    colorbar: bool = True
    quantity: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        rows, cols = self.shown.values.shape
        return rows, cols

    @property
    def left(self) -> float:
        """Inches to the left of the image."""
        return LEFT if self.wcs is None else SKY_LEFT

    @property
    def right(self) -> float:
        """Inches to the right of the image."""
        return RIGHT if self.colorbar else 0.2


def image_size(shape: tuple[int, int], wide: float, tall: float) -> tuple[float, float]:
    """Width and height in inches of an image within the room given.

    A whole number of pixels of the page to each pixel of the image, or the reverse, wherever that does not
    cost too much of the room: so no pixel is cut or doubled. Images longer than `LONGEST` to one are not
    drawn with square pixels.
    """
    rows, cols = shape
    ratio = cols / rows
    if ratio > LONGEST or ratio < 1 / LONGEST:
        return (wide, wide / LONGEST) if ratio > 1 else (tall / LONGEST, tall)
    scale = min(wide * DPI / cols, tall * DPI / rows)
    whole, enough = (float(int(scale)), 0.5) if scale >= 1 else (1 / -(-1 // scale), 0.8)
    scale = whole if whole >= enough * scale else scale
    return cols * scale / DPI, rows * scale / DPI


def draw(figure: Figure, box: Box, picture: Picture) -> Axes:
    """Draw the image itself and its colour bar into `figure`; `box` is the image's own rectangle."""
    if picture.wcs is None:
        axes = figure.add_axes(box.on(figure))
        dress(axes, "column [pixel]", "row [pixel]")
        count_pixels(axes, picture.shape, box.width, box.height)
    else:
        axes = sky_axes(figure, box, picture.wcs)
    scale = norm(limits_of(picture), picture.look.stretch)
    factor = -(-max(picture.shape) // LARGEST)
    values = np.ma.masked_array(picture.shown.values, picture.shown.blank)
    axes.imshow(
        values if factor == 1 else _reduced(picture.shown, factor),
        norm=scale,
        cmap=colour_map(picture.look.cmap),
        origin="lower",
        aspect="auto",
        extent=_extent(picture.shape, factor),
        # Nearest for pixels that are drawn larger than they are, mean over an area for those drawn smaller;
        # in the values, not in the colours, so that a lone hot pixel stays white.
        interpolation="auto",
        interpolation_stage="data",
    )
    axes.set_xlim(-0.5, picture.shape[1] - 0.5)
    axes.set_ylim(-0.5, picture.shape[0] - 0.5)
    if picture.flags and picture.shown.dq is not None:
        _paint_flags(axes, box, picture)
    _circle(axes, picture.mark)
    if picture.shown.good.size == 0:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color="white")
    if picture.colorbar:
        _bar(figure, box, scale, picture)
    return axes


def limits_of(picture: Picture) -> tuple[float, float]:
    """The values that are drawn black and white."""
    what = picture.shown
    good = what.good
    plane = what.values
    if picture.look.limits == "zscale" and good.size < plane.size:
        plane = np.where(_untrusted(what), np.nan, plane.astype(np.float64))
    return display_limits(plane, good, picture.look)


def _untrusted(what: Shown) -> NDArray[np.bool_]:
    if what.dq is None:
        return what.blank
    bad = what.blank | ((what.dq & np.uint32(DQ.DO_NOT_USE)) != 0)
    return what.blank if bad.all() else bad


def _extent(shape: tuple[int, int], factor: int) -> tuple[float, float, float, float]:
    """Edges of an image in its own pixels, whose last blocks may reach beyond it."""
    rows, cols = (-(-size // factor) * factor for size in shape)
    return (-0.5, cols - 0.5, -0.5, rows - 0.5)


def _reduced(what: Shown, factor: int) -> NDArray[Any]:
    """Blocks of a very large image averaged; an odd rest at the edge is filled up with its last pixels."""
    pad = [(0, -size % factor) for size in what.values.shape]
    values, blank = np.pad(what.values, pad, mode="edge"), np.pad(what.blank, pad, mode="edge")
    return np.ma.masked_invalid(block_mean(values, blank, factor))


def _paint_flags(axes: Axes, box: Box, picture: Picture) -> None:
    """Flags over the image, each at least one pixel of the page, and two where they are few enough."""
    dq = picture.shown.dq
    assert dq is not None
    rows, cols = picture.shape
    visible = np.where(picture.shown.blank, np.uint32(0), dq & np.uint32(picture.flags))
    per_pixel = max(cols / (box.width * DPI), rows / (box.height * DPI))
    factor = max(1, math.ceil(2 * per_pixel - 1e-6))
    blocks = block_or(visible, factor)
    if np.count_nonzero(blocks) > CROWDED * blocks.size:
        factor = max(1, math.ceil(per_pixel - 1e-6))
        blocks = block_or(visible, factor)
    index, _ = flag_classes(blocks, picture.flags)
    colours = np.zeros((*index.shape, 4), np.float32)
    for place, kind in enumerate(FLAG_CLASSES):
        colours[index == place] = (*to_rgb(kind.colour), 1.0)
    extent = _extent(picture.shape, factor)
    axes.imshow(colours, origin="lower", aspect="auto", extent=extent, interpolation="nearest")
    axes.set_xlim(-0.5, cols - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)


def _circle(axes: Axes, marks: tuple[tuple[float, float], ...]) -> None:
    for row, col in marks:
        # Two rings, dark and light, are seen on every grey.
        for colour, thick in (("black", 3.0), ("#F0E442", 1.4)):
            axes.plot(
                [col],
                [row],
                "o",
                markersize=13,
                fillstyle="none",
                markeredgecolor=colour,
                markeredgewidth=thick,
            )
        beyond = col > sum(axes.get_xlim()) / 2  # then the words go left: at the right is the colour bar
        axes.annotate(
            f"({row:g}, {col:g})",
            (col, row),
            xytext=(-10 if beyond else 10, 8),
            ha="right" if beyond else "left",
            textcoords="offset points",
            fontsize=SMALL,
            color="black",
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "#F0E442", "edgecolor": "none", "alpha": 0.9},
            annotation_clip=False,
        )


def _bar(figure: Figure, box: Box, scale: Normalize, picture: Picture) -> None:
    """Colour bar to the right of the image, as high as it, with pointed ends where values lie outside."""
    place = Box(box.left + box.width + 0.12, box.bottom, 0.15, box.height)
    axes = figure.add_axes(place.on(figure))
    good = picture.shown.good
    lower = good.size > 0 and bool(good.min() < scale.vmin)
    upper = good.size > 0 and bool(good.max() > scale.vmax)
    extend = ("both" if upper else "min") if lower else ("max" if upper else "neither")
    bar = figure.colorbar(
        ScalarMappable(scale, colour_map(picture.look.cmap)),
        cax=axes,
        extend=extend,
        extendfrac=min(0.05, 0.1 / box.height),
    )
    places, texts, exponent = ticks(scale, max(4, min(9, round(box.height * 2))))
    bar.set_ticks(places, labels=texts)
    bar.ax.minorticks_off()
    bar.ax.grid(False)
    bar.ax.tick_params(labelsize=SMALL, labelcolor=INK, color=FAINT, width=0.7, length=3)
    bar.outline.set_edgecolor(FAINT)
    bar.outline.set_linewidth(0.7)
    bar.set_label(_bar_label(picture, exponent), fontsize=TEXT, color=INK)


def _bar_label(picture: Picture, exponent: int) -> str:
    unit = unit_text(picture.shown.unit)
    power = "" if exponent == 0 else "10" + str(exponent).translate(RAISED)
    scaled = " ".join(part for part in (power, unit) if part)
    name = picture.quantity or ("signal" if unit else "relative value")
    return f"{name} [{scaled}]" if scaled else name


def legend_entries(picture: Picture) -> list[tuple[str, str]]:
    """Colour and words for all that is painted in colour: classes of flags, and pixels without data."""
    what = picture.shown
    found: tuple[tuple[FlagClass, int], ...] = ()
    if picture.flags and what.dq is not None:
        _, found = flag_classes(np.where(what.blank, np.uint32(0), what.dq), picture.flags)
    entries = [(kind.colour, f"{kind.name}: {_count(n)}") for kind, n in found]
    empty = int(what.blank.sum())
    return entries + ([(NO_DATA_COLOUR, f"no data: {_count(empty)}")] if empty else [])


def _count(n: int) -> str:
    return f"{n:,}".replace(",", "\u2009")


def _per_row(entries: list[tuple[str, str]], width: float) -> int:
    longest = max(len(text) for _, text in entries)
    return max(1, min(len(entries), int(width / (0.35 + longest * SMALL * 0.56 / 72))))


def legend_rows(entries: list[tuple[str, str]], width: float) -> int:
    """Lines that a legend takes in `width` inches."""
    return -(-len(entries) // _per_row(entries, width)) if entries else 0


def legend(figure: Figure, entries: list[tuple[str, str]], across: Box) -> None:
    """What the colours mean, centred in the width of `across` and hanging from its upper side."""
    wide, tall = figure.get_size_inches()
    figure.legend(
        handles=[
            Patch(facecolor=colour, edgecolor=FAINT, linewidth=0.5, label=text) for colour, text in entries
        ],
        loc="upper center",
        bbox_to_anchor=((across.left + across.width / 2) / wide, (across.bottom + across.height) / tall),
        ncols=_per_row(entries, across.width),
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        handlelength=1.1,
        columnspacing=1.2,
        borderaxespad=0.1,
        borderpad=0.1,
        labelspacing=0.3,
    )
