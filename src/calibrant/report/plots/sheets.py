"""Sheets: what pictures of measurements share: parts of tables, styles of many curves, panels with a key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from calibrant.errors import SelectionError
from calibrant.product import Product
from calibrant.report.plots.canvas import (
    CURVES,
    FAINT,
    INK,
    SMALL,
    TEXT,
    Box,
    heading,
    heading_height,
    page,
    text_width,
    wrapped,
)
from calibrant.report.plots.panels import product_title, quantity_text
from calibrant.report.plots.pixels import RAISED, unit_text

WIDE, TALL, LOW = 6.4, 3.5, 1.5
"""Inches of a panel: its width, the height of a main one and of one with residuals."""
LEFT, RIGHT, BELOW, GAP = 0.95, 0.25, 0.56, 0.12
KEY_LINE, KEY_HANDLE = 0.17, 0.5
"""Inches of the key: height of a line, and width of what stands before its word."""
MARKERS, DASHES = "os^Dv<>", ("-", "--", ":", "-.")
Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Style:
    """Colour, marker and line of one curve among many; empty is none."""

    colour: str
    marker: str = ""
    line: str = ""

    def entry(self, text: str) -> Line2D:
        """A line of a key."""
        return Line2D(
            [], [], color=self.colour, marker=self.marker, linestyle=self.line or "none", markersize=4.5,
            linewidth=1.1, label=text,
        )  # fmt: skip


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A colour for each of seven names, then the same colours with another marker and line."""
    return {
        name: Style(CURVES[i % 7], MARKERS[i // 7 % 7], DASHES[i // 7 % 4]) for i, name in enumerate(names)
    }


def table_of(product: Product, name: str, *columns: str) -> Columns:
    """A table of a product that has these columns.

    Raises
    ------
    SelectionError
        If the product has no such table, or the table no such column.
    """
    found = product.tables.get(name)
    if found is None:
        raise SelectionError(
            f"the {product.kind} has no table {name!r}", got=", ".join(product.tables) or "no tables"
        )
    missing = [column for column in columns if column not in found]
    if missing:
        raise SelectionError(
            f"the table {name!r} of the {product.kind} has no column {missing[0]!r}", got=", ".join(found)
        )
    return found


def has(product: Product, table: str, column: str) -> bool:
    """Whether a column of a table has a number."""
    values = product.tables.get(table, {}).get(column)
    return values is not None and bool(np.isfinite(np.asarray(values, np.float64)).any())


def parts(table: Columns, by: str = "amplifier") -> dict[str, Columns]:
    """The rows of a table for each value of a column, in their order."""
    words = np.asarray(table[by]).astype(str)
    return {
        name: {column: np.asarray(values)[words == name] for column, values in table.items()}
        for name in dict.fromkeys(words.tolist())
    }


def drawable(product: Product, table: str, *columns: str, by: str = "amplifier") -> dict[str, Columns]:
    """The parts of a table whose first column has a number.

    Raises
    ------
    SelectionError
        If there is no such table or column, or no number in it.
    """
    several = parts(table_of(product, table, by, *columns), by)
    found = {name: rows for name, rows in several.items() if np.isfinite(rows[columns[0]]).any()}
    if not found:
        raise SelectionError(
            f"the table {table!r} of the {product.kind} holds nothing to draw", expected=f"a {columns[0]}"
        )
    return found


def absent(product: Product, table: str, found: Mapping[str, Columns], by: str = "amplifier") -> str:
    """Which parts of a table are not drawn, as a fact; empty if all are."""
    lost = [name for name in parts(product.tables[table], by) if name not in found]
    return f"nothing of {', '.join(lost)}" if lost else ""


def hollow(found: Mapping[str, Columns], column: str) -> str:
    """How many points of a column are left out of the fit, as a fact; empty if none is."""
    out = sum(int(np.sum(~rows["used"].astype(bool) & np.isfinite(rows[column]))) for rows in found.values())
    return f"hollow: left out of the fit ({out})" if out else ""


def scaled(values: ArrayLike, unit: str) -> tuple[float, str]:
    """What to divide values by so that they read easily, and the unit that they then have.

    Returns
    -------
    divisor : float
        A power of ten; 1 between a thousandth and a million.
    unit : str
        As it stands on an axis: ``10⁻⁶/e⁻``.
    """
    size = np.abs(np.asarray(values, np.float64))
    largest = float(np.max(size[np.isfinite(size)], initial=0.0))
    power = 0 if largest == 0 or 1e-3 <= largest < 1e6 else math.floor(math.log10(largest))
    text = unit_text(unit)
    if power == 0:
        return 1.0, text
    ten = "10" + str(power).translate(RAISED)
    return 10.0**power, ten + text[1:] if text.startswith("1/") else f"{ten} {text}".strip()


def short(value: float) -> str:
    """Four digits, no power of ten below a million, and a true minus sign."""
    text = f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.4g}"
    return text.replace("-", "−")


def typical(product: Product, name: str) -> float:
    """Median of a quantity over the places that have a number; NaN if none has."""
    values = [q.value for q in product.quantities if q.name == name and math.isfinite(q.value)]
    return float(np.median(values)) if values else math.nan


def with_unit(number: str, unit: str) -> str:
    """A number and the unit that `scaled` gave: ``−3.06×10⁻⁶/e⁻``."""
    return f"{number}×{unit}" if unit.startswith("10") else f"{number} {unit}".rstrip()


def typical_facts(product: Product, *names: str) -> tuple[str, ...]:
    """``median gain 1.395 e⁻/ADU`` of each quantity that has a number; one alone with its error."""
    told = []
    for name in names:
        own = [q for q in product.quantities if q.name == name and math.isfinite(q.value)]
        if own:
            size, unit = scaled([typical(product, name)], own[0].unit)
            number = with_unit(short(typical(product, name) / size), unit)
            words = f"median {name.replace('_', ' ')} {number}"
            told.append(words if len(own) > 1 else quantity_text(own[0]))
    return tuple(told)


def titled(product: Product, what: str) -> str:
    """``Gain of 43 frames, detector 0: what``."""
    detector = str(product.keys.get("detector", ""))
    whose = f"{product_title(replace(product, planes={}))}{f', detector {detector}' if detector else ''}"
    return f"{whose}: {what}"


def headed(title: str, facts: Sequence[str], wide: float, tall: float, key: float = 0.0) -> Figure:
    """An empty page with a title and facts above `tall` inches of room, and `key` inches between.

    Empty facts are left out.
    """
    lines = wrapped(tuple(fact for fact in facts if fact), wide - 0.3, TEXT)
    above = heading_height(title, lines) + 0.12 + key
    figure = page(wide, tall + above)
    heading(figure, Box(0.15, 0.0, wide - 0.3, tall + above - 0.08), title, lines)
    return figure


def sheet(
    title: str, facts: Sequence[str] = (), heights: Sequence[float] = (TALL,), key: Sequence[Line2D] = ()
) -> tuple[Figure, list[Axes]]:
    """A page of panels that share their x axis, with a title, facts, and a key at the right.

    Parameters
    ----------
    title : str
    facts : sequence of str
        Empty ones are left out.
    heights : sequence of float
        Inches of each panel, from the top.
    key : sequence of Line2D
        Its entries.

    Returns
    -------
    figure : Figure
    axes : list of Axes
        From the top; only the last one has numbers below.
    """
    tall = sum(heights) + GAP * (len(heights) - 1)
    columns = -(-len(key) // int(tall / KEY_LINE))
    longest = max((text_width(str(entry.get_label()), SMALL) for entry in key), default=0.0)
    wide = LEFT + WIDE + RIGHT + columns * (longest + KEY_HANDLE)
    figure = headed(title, facts, wide, BELOW + tall)
    axes: list[Axes] = []
    for index in range(len(heights)):
        bottom = BELOW + sum(heights[index + 1 :]) + GAP * (len(heights) - 1 - index)
        box = Box(LEFT, bottom, WIDE, heights[index])
        axes.append(figure.add_axes(box.on(figure), sharex=axes[0] if axes else None))
    if key:
        _key(figure, key, columns, BELOW + tall)
    return figure, axes


def _key(figure: Figure, key: Sequence[Line2D], columns: int, top: float) -> None:
    wide, tall = figure.get_size_inches()
    figure.legend(
        handles=list(key), loc="upper left", bbox_to_anchor=((LEFT + WIDE + 0.08) / wide, top / tall),
        ncols=columns, fontsize=SMALL, labelcolor=INK, frameon=False, borderaxespad=0.0, borderpad=0.1,
        handlelength=1.9, labelspacing=0.28, columnspacing=0.8,
    )  # fmt: skip


def charts(
    title: str,
    facts: Sequence[str],
    shape: tuple[int, int],
    size: tuple[float, float] = (4.0, 3.0),
    gap: tuple[float, float] = (0.85, 0.75),
) -> tuple[Figure, list[list[Axes]]]:
    """A page of charts in rows and columns, each with axes of its own, a title and facts above all.

    Parameters
    ----------
    title : str
    facts : sequence of str
        Empty ones are left out.
    shape : (int, int)
        Rows, columns.
    size, gap : (float, float)
        Inches: width and height of a chart, and what lies between them across and down.

    Returns
    -------
    figure : Figure
    axes : list of list of Axes
        Row by row from the top.
    """
    (rows, cols), (width, height), (across, down) = shape, size, gap
    tall = BELOW + rows * height + (rows - 1) * down
    # Charts have titles of their own.
    figure = headed(title, facts, LEFT + cols * width + (cols - 1) * across + RIGHT, tall, KEY_LINE)
    steps = [
        [Box(LEFT + c * (width + across), tall - height - r * (height + down), width, height)
         for c in range(cols)]
        for r in range(rows)
    ]  # fmt: skip
    return figure, [[figure.add_axes(box.on(figure)) for box in row] for row in steps]


def hide_numbers(axes: Sequence[Axes]) -> None:
    """No numbers between panels that share their x axis."""
    for one in axes[:-1]:
        one.tick_params(labelbottom=False)


def points(axes: Axes, x: NDArray[Any], y: NDArray[Any], style: Style, used: NDArray[Any]) -> None:
    """Points of one curve: full where they are used, hollow where not."""
    for at, fill in ((used, "full"), (~used, "none")):
        axes.plot(
            x[at], y[at], marker=style.marker, linestyle="none", markersize=3.6, color=style.colour,
            fillstyle=fill, markeredgewidth=0.8,
        )  # fmt: skip


def residual_lines(axes: Axes, most: float) -> None:
    """A line at zero, dashed ones at three sigma, and a range that holds the largest residual."""
    axes.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    for level in (-3.0, 3.0):
        axes.axhline(level, color=FAINT, linewidth=0.7, linestyle="--", zorder=1)
    reach = max(4.0, 1.12 * most)
    axes.set_ylim(-reach, reach)
