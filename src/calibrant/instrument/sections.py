"""Sections as two slices, (rows, columns): the geometry of amplifiers.

`calibrant.sections.parse_section` alone knows how FITS counts; here a flipped axis is a slice of step -1,
ready to index.
"""

from __future__ import annotations

from functools import lru_cache

from calibrant.sections import Section as FitsSection
from calibrant.sections import parse_section as parse_fits_section

Section = tuple[slice, slice]
"""Rows, columns; counted from 0, the end excluded. A flipped axis has step -1."""


@lru_cache(maxsize=4096)  # products hold sections as text, and a frame of many amplifiers asks for each often
def parse_section(text: str) -> Section:
    """Slices of a section string such as ``[1:2048,1:512]``; a flipped axis (``2048:1``) has step -1.

    Raises
    ------
    ConfigError
        If the text is no section of two axes.
    """
    section = parse_fits_section(text)
    return _turned(section.rows, section.flip_rows), _turned(section.cols, section.flip_cols)


def _turned(axis: slice, flip: bool) -> slice:
    if not flip:
        return axis
    if axis.stop is None:
        return slice(None, None, -1)
    return slice(axis.stop - 1, axis.start - 1 if axis.start else None, -1)


def format_section(section: Section) -> str:
    """The section string of two slices; the inverse of `parse_section`."""
    (rows, flip_rows), (cols, flip_cols) = (_straight(axis) for axis in section)
    return FitsSection(rows, cols, flip_rows, flip_cols).text


def _straight(axis: slice) -> tuple[slice, bool]:
    if axis.step != -1:
        return (axis if axis.stop is None else slice(axis.start or 0, axis.stop)), False
    if axis.start is None:
        return slice(None), True
    return slice(0 if axis.stop is None else axis.stop + 1, axis.start + 1), True


def bounds(section: Section, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """First row, end row, first column, end column of a section in an image of `shape`, flips undone.

    The ends are as the section says, even where they lie outside the image.
    """
    (rows, _), (cols, _) = (_straight(axis) for axis in section)
    r0, r1 = rows.start or 0, shape[0] if rows.stop is None else rows.stop
    return r0, r1, cols.start or 0, shape[1] if cols.stop is None else cols.stop


def section_shape(section: Section, shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a section in an image of `shape`."""
    r0, r1, c0, c1 = bounds(section, shape)
    return r1 - r0, c1 - c0


def is_inside(section: Section, shape: tuple[int, int]) -> bool:
    """Whether a section lies within an image of `shape`, and holds a pixel."""
    r0, r1, c0, c1 = bounds(section, shape)
    return 0 <= r0 < r1 <= shape[0] and 0 <= c0 < c1 <= shape[1]


def overlap(one: Section, other: Section, shape: tuple[int, int]) -> bool:
    """Whether two sections of an image of `shape` share a pixel."""
    a, b = bounds(one, shape), bounds(other, shape)
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


def binned(section: Section, binning: tuple[int, int]) -> Section:
    """The same section in an image that was binned by (rows, columns); pixels that its edge cuts are out."""
    rows, cols = (_binned_axis(axis, factor) for axis, factor in zip(section, binning, strict=True))
    return rows, cols


def _binned_axis(axis: slice, factor: int) -> slice:
    straight, flip = _straight(axis)
    if factor == 1 or straight.stop is None:
        return axis
    return _turned(slice(-(-straight.start // factor), straight.stop // factor), flip)
