"""Tables as lines of text: for a terminal of some width, or for a pipe."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence

GAP = "  "
NARROWEST = 20  # a column of words is not folded below this width; a line that is too long is the lesser evil


def lines(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], width: int | None = None
) -> Iterator[str]:
    """Heads, a rule, and one line per row; if `width` is too narrow, long cells go on in the next line.

    Parameters
    ----------
    rows : sequence of mapping
        Column -> value.
    columns : sequence of str
        In order.
    width : int, optional
        Of the terminal; None lets lines be as long as they are.
    """
    cells = [[text(row.get(column)) for column in columns] for row in rows]
    right = [all(isinstance(row.get(column), (int, float, type(None))) for row in rows) for column in columns]
    longest = [max([len(head), *(len(line[i]) for line in cells)]) for i, head in enumerate(columns)]
    widths = _fitted(longest, right, None if width is None else width - len(GAP) * (len(columns) - 1))
    yield from _row(list(columns), widths, right)
    yield GAP.join("-" * size for size in widths)
    for line in cells:
        yield from _row(line, widths, right)


def blocks(
    columns: Sequence[str], rows: Sequence[Mapping[str, object]], width: int | None
) -> list[list[str]]:
    """Columns in groups that each fit `width` beside the first column, which begins each of them.

    Parameters
    ----------
    columns : sequence of str
        The first one names the rows.
    rows : sequence of mapping
        Column -> value.
    width : int or None
        Of the terminal; None puts all in one group.
    """
    sizes = {name: max([len(name), *(len(text(row.get(name))) for row in rows)]) for name in columns}
    first, *others = columns
    found = [[first]]
    for name in others:
        taken = sum(sizes[one] + len(GAP) for one in found[-1]) + sizes[name]
        if width is not None and taken > width and len(found[-1]) > 1:
            found.append([first])
        found[-1].append(name)
    return found


def rounded(value: object) -> object:
    """A number without uncertainty to four digits, from 1000 on to whole ones; anything else as it is."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return float(round(value)) if abs(value) >= 1000 else float(f"{value:.4g}")


def _fitted(longest: list[int], right: list[bool], room: int | None) -> list[int]:
    """The widest column of words gives way until all fit, or no further."""
    widths = list(longest)
    while room is not None and sum(widths) > room:
        words = [i for i, size in enumerate(widths) if not right[i] and size > NARROWEST]
        if not words:
            break
        widest = max(words, key=lambda i: widths[i])
        widths[widest] = max(NARROWEST, widths[widest] - (sum(widths) - room))
    return widths


def _row(cells: list[str], widths: list[int], right: list[bool]) -> Iterator[str]:
    folded = [_folded(cell, size) for cell, size in zip(cells, widths, strict=True)]
    for number in range(max(map(len, folded))):
        parts = [lines[number] if number < len(lines) else "" for lines in folded]
        placed = [
            part.rjust(size) if to_right else part.ljust(size)
            for part, size, to_right in zip(parts, widths, right, strict=True)
        ]
        yield GAP.join(placed).rstrip()


def _folded(cell: str, size: int) -> list[str]:
    """Parts of a cell, none longer than `size` where that can be: cut after commas, else at blanks."""
    if len(cell) <= size:
        return [cell]
    bound = cell.replace(" ", "\u00a0").replace(",\u00a0", ", ") if ", " in cell else cell
    found = textwrap.wrap(bound, size, break_long_words=False, break_on_hyphens=False)
    return [part.replace("\u00a0", " ") for part in found]


def text(value: object) -> str:
    """A value as a person reads it in a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (tuple, list)):
        joint = "x" if all(isinstance(item, int) for item in value) else ", "
        return joint.join(map(text, value))
    if isinstance(value, (set, frozenset)):
        return ", ".join(sorted(map(text, value)))
    return str(value)


def with_sigma(value: float | None, sigma: float | None) -> str | float | None:
    """``1.3612 +- 0.0024``: the uncertainty with two digits, the value to the same place.

    Without an uncertainty the value itself, for `text` to write.
    """
    if value is None or sigma is None or not (math.isfinite(value) and math.isfinite(sigma)):
        return value
    if sigma <= 0:
        return f"{value:.6g} +- 0"
    last = math.floor(math.log10(sigma)) - 1
    if last >= (-6 if abs(value) < 0.01 else -9) and abs(value) < 1e6:
        places = max(0, -last)
        return f"{value:.{places}f} +- {sigma:.{places}f}"
    power = math.floor(math.log10(max(abs(value), sigma)))
    places = max(0, power - last)
    return f"({value / 10**power:.{places}f} +- {sigma / 10**power:.{places}f})e{power}"
