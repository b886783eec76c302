"""The original cards of a frame: which of them go into a file that we write, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator

from calibrant.files.cards import CARD, format_card

MARK = "The cards of the original header follow."

_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|NEXTEND|END|"
    r"BSCALE|BZERO|BLANK|BUNIT|CHECKSUM|DATASUM|EXTNAME|EXTVER|EXTLEVEL|INHERIT|LONGSTRN|"
    r"CALVERS|CALFORM|IDENTITY|"
    # of tables, and of images compressed in tables
    r"TFIELDS|THEAP|T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|BCOL)\d+|"
    r"ZIMAGE|ZSIMPLE|ZTENSION|ZEXTEND|ZBITPIX|ZNAXIS\d*|ZTILE\d+|ZCMPTYPE|ZNAME\d+|ZVAL\d+|ZQUANTIZ|ZDITHER0|"
    r"ZPCOUNT|ZGCOUNT|ZBLANK|ZMASKCMP|ZHECKSUM|ZDATASUM"
)
_SKY = re.compile(
    r"WCSAXES[A-Z]?|WCSNAME[A-Z]?|RADESYS[A-Z]?|RADECSYS|EQUINOX[A-Z]?|LONPOLE[A-Z]?|LATPOLE[A-Z]?|"
    r"(CTYPE|CRPIX|CRVAL|CDELT|CROTA|CUNIT|CRDER|CSYER|CNAME)\d+[A-Z]?|"
    r"(CD|PC|PV|PS)\d+_\d+[A-Z]?|(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)|LTV\d|LTM\d_\d"
)
_GAIN = re.compile(r"EGAIN|E-GAIN|CCDGAIN|GAIN")
_SETTING = {"OFFSET", "BLKLEVEL", "GAINSET", "EGAIN", "E-GAIN", "CCDGAIN"}
"""Beside these GAIN is the number of a setting, not electrons per adu."""
_COUNTS = re.compile(r"SATURATE|SATLEVEL|DATAMAX|DATAMIN")
_ONE = "[electron] unit of the values"
_COMMENTARY = ("", "COMMENT", "HISTORY")


def split(cards: str) -> tuple[str, str]:
    """The cards to keep for the primary header, and those of world coordinates, which belong to the image.

    What describes the structure or the scaling of the old file is left out; so is what is said again later.
    """
    groups = list(_groups(cards))
    last = {key: number for number, (key, _) in enumerate(groups)}
    kept: list[str] = []
    sky: list[str] = []
    for number, (key, text) in enumerate(groups):
        if key in _COMMENTARY:
            if text.strip():
                kept.append(text)
        elif last[key] == number and not _STRUCTURE.fullmatch(key):
            (sky if _SKY.fullmatch(key) else kept).append(text)
    return _printable("".join(kept)), _printable("".join(sky))


def in_electrons(cards: str) -> str:
    """The cards of an image whose gain was applied: a gain of 1, so that nobody applies it again.

    Limits in adu are left out; what was changed or left out stays as COMMENT.
    """
    groups = list(_groups(cards))
    setting = any(key in _SETTING for key, _ in groups)
    changed: list[str] = []
    told: list[str] = []
    for key, text in groups:
        one = (
            format_card(key, 1.0, _ONE) if _GAIN.fullmatch(key) and not (key == "GAIN" and setting) else None
        )
        if text == one or (one is None and not _COUNTS.fullmatch(key)):
            changed.append(text)
            continue
        changed.append(one or "")
        told.append(format_card("COMMENT", f"before the gain: {text.strip()}"))
    return "".join(changed + told)


def join(primary: str, image: str) -> str | None:
    """The original cards again, from the headers of a file of ours; None if it holds none."""
    mark = primary.find(format_card("COMMENT", MARK))
    sky = "".join(text for key, text in _groups(image) if _SKY.fullmatch(key))
    if mark < 0:
        return sky or None
    kept = "".join(
        text for key, text in _groups(primary[mark + CARD :]) if not _STRUCTURE.fullmatch(key or "?")
    )
    return kept + sky


def keys(cards: str) -> set[str]:
    """Keywords of cards."""
    return {key for key, _ in _groups(cards)}


def _groups(cards: str) -> Iterator[tuple[str, str]]:
    """Each keyword with its card and the CONTINUE cards behind it."""
    key, text = "", ""
    for at in range(0, len(cards) - CARD + 1, CARD):
        card = cards[at : at + CARD]
        if card.startswith("CONTINUE"):
            text += card
            continue
        if text:
            yield key, text
        key, text = card[:8].rstrip(), card
        if key == "HIERARCH":
            key = card[9:].partition("=")[0].strip()
    if text:
        yield key, text


def _printable(cards: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in cards)
