"""Header cards of a trimmed image: its size, its sections, and where its sky coordinates count from."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from functools import partial

CARD = 80
SECTIONS = re.compile(r"(BIAS|TRIM|DATA|CCD|AMP|DET|PRE|POST|OVER)SEC\d*")
REFERENCE = re.compile(r"CRPIX([12])[A-Z]?|LTV([12])")
PHYSICAL = re.compile(r"LTM([12])_[12]")
MATRIX = re.compile(r"(?:CD|PC)[12]_([12])[A-Z]?")
DISTORTION = re.compile(r"(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)")


def trimmed_cards(
    cards: str, origin: tuple[int, int], flipped: tuple[bool, bool], shape: tuple[int, int]
) -> str:
    """The cards of the part of an image that begins at `origin` of the old one.

    Parameters
    ----------
    cards : str
        80 characters each.
    origin : tuple of int
        Row and column, from 0, of the first pixel that is kept; of the last where the axis is flipped.
    flipped : tuple of bool
        Whether rows and columns count backwards now.
    shape : tuple of int
        New rows, columns.

    Returns
    -------
    str
        NAXIS1, NAXIS2, CRPIX and LTV as of the new image (IRAF: pixel = LTM physical + LTV), columns of the
        CD or PC matrix and rows of LTM with the sign of their axis; sections, which would cut again, are left
        out, and so are distortions of a flipped image.
    """
    return "".join(_changed(cards, origin, flipped, shape))


def _changed(
    cards: str, origin: tuple[int, int], flipped: tuple[bool, bool], shape: tuple[int, int]
) -> Iterator[str]:
    keys = {cards[at : at + 8].rstrip() for at in range(0, len(cards), CARD)}
    matrix = any(MATRIX.fullmatch(key) for key in keys)
    for at in range(0, len(cards), CARD):
        card = cards[at : at + CARD]
        key = card[:8].rstrip()
        if SECTIONS.fullmatch(key) or (any(flipped) and DISTORTION.fullmatch(key)):
            continue
        found = REFERENCE.fullmatch(key)
        if found:
            axis = 2 - int(found[1] or found[2])  # FITS counts axes from the fastest: 1 is the columns
            change = _backwards if flipped[axis] else _forwards
            card = _with(card, partial(change, origin[axis]))
            unit = f"LTM{found[2]}_{found[2]}"
            if found[2] and flipped[axis] and unit not in keys:
                yield f"{unit:8}= {'-1.0':>20}".ljust(CARD)  # 1 where it is not written
        elif _turns(key, matrix, flipped):
            card = _with(card, operator.neg)
        elif key in ("NAXIS1", "NAXIS2"):
            card = f"{key:8}= {shape[2 - int(key[-1])]:>20}".ljust(CARD)
        yield card


def _turns(key: str, matrix: bool, flipped: tuple[bool, bool]) -> bool:
    """Whether a card is of the scale of a flipped axis: an element of a matrix, or CDELT without one."""
    found = MATRIX.fullmatch(key) or PHYSICAL.fullmatch(key)
    if found:
        return flipped[2 - int(found[1])]
    return key in ("CDELT1", "CDELT2") and not matrix and flipped[2 - int(key[-1])]


def _forwards(origin: int, pixel: float) -> float:
    return pixel - origin


def _backwards(origin: int, pixel: float) -> float:
    return origin + 2 - pixel  # FITS counts pixels from 1: the pixel at `origin` was origin + 1 and is 1 now


def _with(card: str, change: Callable[[float], float]) -> str:
    """The card with its number changed; untouched if it holds none."""
    value, slash, comment = card[10:].partition("/")
    try:
        number = change(float(value))
    except ValueError:
        return card
    text = f"{card[:8]}= {repr(number).upper():>20}" + (f" /{comment}" if slash else "")
    return text[:CARD].ljust(CARD)
