"""FITS sections, ``[x1:x2,y1:y2]``, to slices: the only place that counts from one, columns first."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from numpy.typing import NDArray

from calibrant.errors import ConfigError, ShapeError

_RANGE = r"\s*(\*|-\*|:|\d+\s*(?::\s*\d+)?)\s*"
_SECTION = re.compile(rf"\s*\[{_RANGE},{_RANGE}\]\s*")


class Section(NamedTuple):
    """A rectangle of an image: slices from 0, rows first, and whether it is read backwards.

    Attributes
    ----------
    rows, cols : slice
        Half open, steps of one; ``slice(None)`` for ``*``.
    flip_rows, flip_cols : bool
        Whether the section runs downwards in rows or columns, as ``[2048:1,...]`` does.
    """

    rows: slice
    cols: slice
    flip_rows: bool = False
    flip_cols: bool = False

    def within(self, shape: tuple[int, ...]) -> Section:
        """The section with its ends filled in for an image of `shape` (rows, cols).

        Raises
        ------
        ShapeError
            If it reaches outside the image.
        """
        rows, cols = (_filled(cut, size) for cut, size in zip(self[:2], shape[-2:], strict=True))
        if rows.stop > shape[-2] or cols.stop > shape[-1]:
            raise ShapeError(
                "the section reaches outside the image", where=self.text, expected=f"within {shape[-2:]}"
            )
        return Section(rows, cols, self.flip_rows, self.flip_cols)

    def of(self, image: NDArray[Any]) -> NDArray[Any]:
        """The section of an array, (..., rows, cols), flipped if it runs backwards: a view."""
        part = image[..., self.rows, self.cols]
        return part[..., :: -1 if self.flip_rows else 1, :: -1 if self.flip_cols else 1]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns of a section whose ends are known."""
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start

    @property
    def text(self) -> str:
        """The section as a FITS string."""
        return f"[{_ends(self.cols, self.flip_cols)},{_ends(self.rows, self.flip_rows)}]"


def parse_section(text: str) -> Section:
    """Slices of a FITS section string: from 1, inclusive, columns first, ends swapped when flipped.

    Parameters
    ----------
    text : str
        ``[x1:x2,y1:y2]``; ``*`` stands for a whole axis, ``-*`` for a whole axis backwards.

    Raises
    ------
    ConfigError
        If the text is no section, or counts from zero.

    Examples
    --------
    >>> parse_section("[1:512, 2048:1]")
    Section(rows=slice(0, 2048, None), cols=slice(0, 512, None), flip_rows=True, flip_cols=False)
    """
    match = _SECTION.fullmatch(text)
    if match is None:
        raise ConfigError("this is not a section", where=text, expected="[x1:x2,y1:y2]")
    (cols, flip_cols), (rows, flip_rows) = (_parse_range(part, text) for part in match.groups())
    return Section(rows, cols, flip_rows, flip_cols)


def _parse_range(part: str, text: str) -> tuple[slice, bool]:
    if part in ("*", ":", "-*"):
        return slice(None), part == "-*"
    first, _, last = part.partition(":")
    begin, end = int(first), int(last or first)
    if min(begin, end) < 1:
        raise ConfigError("sections count from 1", where=text)
    return slice(min(begin, end) - 1, max(begin, end)), begin > end


def _filled(cut: slice, size: int) -> slice:
    return slice(cut.start or 0, size if cut.stop is None else cut.stop)


def _ends(cut: slice, flip: bool) -> str:
    if cut.stop is None:
        return "-*" if flip else "*"
    begin, end = cut.start + 1, cut.stop
    return f"{end}:{begin}" if flip else f"{begin}:{end}"
