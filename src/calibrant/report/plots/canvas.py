"""Canvas: figures whose parts are placed in inches, and the one helper that writes them."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MultipleLocator

from calibrant.errors import OptionError
from calibrant.files.atomic import atomic_write

DPI = 120
FAMILY = "DejaVu Sans"
"""Comes with Matplotlib, so every page looks the same everywhere."""
INK, FAINT, RULE = "#1A1A1A", "#5A5A5A", "#DADADA"
CURVES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of Okabe and Ito, dark ones first: told apart with every kind of colour vision."""
TITLE, TEXT, SMALL = 11.0, 9.0, 8.0
"""Sizes of type in points."""
KEY_COLUMNS, KEY_ROW = 2, 0.19
"""Legends of curves: columns, and inches per line."""
WRITTEN = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}


@dataclass(frozen=True)
class Box:
    """A rectangle on the page, in inches from the lower left corner."""

    left: float
    bottom: float
    width: float
    height: float

    def on(self, figure: Figure) -> tuple[float, float, float, float]:
        """The rectangle as fractions of a figure, moved to whole pixels so that image pixels are not cut."""
        wide, tall = figure.get_size_inches()
        pixels = [round(side * DPI) / DPI for side in (self.left, self.bottom, self.width, self.height)]
        return pixels[0] / wide, pixels[1] / tall, pixels[2] / wide, pixels[3] / tall


def page(width: float, height: float) -> Figure:
    """An empty white figure of whole pixels, with its own canvas: no global state, no pyplot."""
    size = (math.ceil(width * DPI) / DPI, math.ceil(height * DPI) / DPI)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, xlabel: str = "", ylabel: str = "", *, grid: bool = False) -> None:
    """Give axes the sizes, colours and ticks of the house; the user's own style leaves them as they are."""
    axes.set_facecolor("white")
    axes.set_xlabel(xlabel, fontsize=TEXT, color=INK)
    axes.set_ylabel(ylabel, fontsize=TEXT, color=INK)
    axes.minorticks_off()
    axes.tick_params(
        labelsize=SMALL,
        labelcolor=INK,
        color=FAINT,
        width=0.7,
        length=3,
        direction="out",
        top=False,
        right=False,
    )
    for spine in axes.spines.values():
        spine.set_color(FAINT)
        spine.set_linewidth(0.7)
    axes.grid(False)
    if grid:
        axes.grid(True, color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def count_pixels(axes: Axes, shape: tuple[int, int], width: float, height: float) -> None:
    """Ticks on whole pixels, 0.55 inches apart or more; the same step both ways where pixels are square."""
    rows, cols = shape
    steps = [_step(size * 0.55 / side) for size, side in ((cols, width), (rows, height))]
    if abs(width / cols - height / rows) < 0.02 * width / cols and min(rows, cols) > 2 * max(steps):
        steps = [max(steps)] * 2
    axes.xaxis.set_major_locator(MultipleLocator(steps[0]))
    axes.yaxis.set_major_locator(MultipleLocator(steps[1]))


def _step(least: float) -> int:
    """The first of 1, 2, 5, 10, 20, 50 ... that is not below `least`."""
    power = 10 ** max(0, math.floor(math.log10(least)))
    return int(next(n * power for n in (1, 2, 5, 10) if n * power >= least))


def shortened(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """`text` with some of its middle left out if it would be longer than `width` inches."""
    keep = len(text)
    short = text
    while keep > 4 and text_width(short, size, bold) > width:
        keep = min(keep - 1, int(keep * width / text_width(short, size, bold)))
        tail = keep // 3
        short = f"{text[: keep - tail]}…{text[len(text) - tail :]}"
    return short


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Inches that a line of text takes in type of `size` points."""
    font = FontProperties(family=FAMILY, size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / 72


def wrapped(parts: tuple[str, ...], width: float, size: float) -> list[str]:
    """Facts joined by dots into lines that fit `width` inches; a fact is never broken."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]} · {part}" if lines else ""
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(shortened(part, width, size))
    return lines


def write(
    figure: Figure, x: float, y: float, text: str, size: float, colour: str = INK, *, bold: bool = False
) -> None:
    """Text whose upper left corner is at `x` and `y` inches; a dollar sign in a file's name is no formula."""
    wide, tall = figure.get_size_inches()
    figure.text(
        x / wide, y / tall, text, fontsize=size, family=FAMILY, color=colour,
        weight="bold" if bold else "normal", ha="left", va="top", parse_math=False,
    )  # fmt: skip


def heading(figure: Figure, box: Box, title: str, lines: list[str]) -> None:
    """A title and lines of facts, set downwards from the upper left corner of `box`."""
    top = box.bottom + box.height
    if title:
        write(figure, box.left, top, shortened(title, box.width, TITLE, bold=True), TITLE, bold=True)
        top -= TITLE * 1.45 / 72
    for i, line in enumerate(lines):
        write(figure, box.left, top - i * TEXT * 1.4 / 72, line, TEXT, FAINT)


def heading_height(title: str, lines: list[str]) -> float:
    """Inches that a title with lines of facts takes."""
    return ((TITLE * 1.45 if title else 0.0) + len(lines) * TEXT * 1.4 + 4) / 72


def key_rows(curves: int) -> int:
    """Lines of a legend of curves above their axes."""
    return -(-curves // KEY_COLUMNS)


def key_above(axes: Axes, columns: int = KEY_COLUMNS) -> None:
    """The legend of the curves above the axes, where it hides none of them."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, fontsize=SMALL, labelcolor=INK,
        frameon=False, borderaxespad=0.1, borderpad=0.1, handlelength=2.6, labelspacing=0.3,
    )  # fmt: skip


def encode(figure: Figure, form: str = "png", dpi: float = DPI) -> bytes:
    """The figure as the bytes of a PNG or JPEG file."""
    target = io.BytesIO()
    # No version or date in the file: the same figure gives the same bytes.
    extra: dict[str, Any] = (
        {"metadata": {"Software": None}} if form == "png" else {"pil_kwargs": {"quality": 92}}
    )
    figure.savefig(target, format=form, dpi=dpi, facecolor="white", **extra)
    return target.getvalue()


def save(figure: Figure, path: str | PathLike[str], dpi: float = DPI, *, overwrite: bool = False) -> Path:
    """Write a figure as PNG or JPEG, all of it or nothing.

    Parameters
    ----------
    figure : Figure
    path : path
        Ends in ``.png``, ``.jpg`` or ``.jpeg``.
    dpi : float
        Pixels per inch.
    overwrite : bool
        Whether a file that is there already may be replaced.

    Returns
    -------
    path : Path

    Raises
    ------
    OptionError
        For another ending, or a dpi that is not positive.
    OutputExistsError, WriteError
        As of every writer of the house.
    """
    target = Path(path)
    form = WRITTEN.get(target.suffix.lower())
    if form is None:
        raise OptionError(
            "a picture is written as PNG or JPEG", where=path, expected=", ".join(WRITTEN), got=target.suffix
        )
    if not 10 <= dpi <= 1200:
        raise OptionError("the resolution has no meaning", where="dpi", expected="10 to 1200", got=dpi)
    content = encode(figure, form, dpi)
    with atomic_write(target, overwrite=overwrite) as file:
        file.write(content)
    return target
