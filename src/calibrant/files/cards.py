"""FITS cards, 80 characters each: their text to values, and values to their text."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from calibrant.errors import HeaderError

CARD = 80  # characters
BLOCK = 2880  # bytes: the unit in which FITS files grow

Value = bool | int | float | complex | str | None
CardLike = tuple[str, Any] | tuple[str, Any, str]

_STRING = re.compile(r"'((?:[^']|'')*)'?")
_STANDARD_KEY = re.compile(r"[A-Z0-9_-]{1,8}")
_COMMENTARY = ("COMMENT", "HISTORY", "")
_MAX_STRING = 68  # characters between the quotes of one card


def parse_value(field: str) -> Value:
    """The value of a card's text after its ``=``.

    None for an undefined value, and for the NaN and infinities that FITS does not know; text that is no
    value of FITS is returned as it stands, because cameras do write such cards.
    """
    text = field.lstrip()
    if text.startswith("'"):
        match = _STRING.match(text)
        return match.group(1).replace("''", "'").rstrip() if match else text
    text = text.partition("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    if not text or "_" in text:  # Python would read 1_000 as a number
        return text or None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text.replace("D", "E").replace("d", "e"))
    except ValueError:
        return _parse_complex(text)
    return number if math.isfinite(number) else None


def parse_comment(field: str) -> str:
    """The comment of a card's text after its ``=``."""
    text = field.lstrip()
    if text.startswith("'"):
        match = _STRING.match(text)
        text = text[match.end() :] if match else ""
    return text.partition("/")[2].strip()


def _parse_complex(text: str) -> Value:
    if text.startswith("(") and text.endswith(")"):
        try:
            real, imaginary = (float(part) for part in text[1:-1].split(","))
        except ValueError:
            return text
        return complex(real, imaginary)
    return text


def format_card(key: str, value: Any, comment: str = "") -> str:
    """One value as its card or cards, a multiple of 80 characters.

    Keys of more than eight characters become HIERARCH cards, long texts go on in CONTINUE cards,
    ``COMMENT`` and ``HISTORY`` are wrapped. NaN and infinities, which FITS cannot say, are undefined.

    Raises
    ------
    HeaderError
        If a HIERARCH card is too long.
    """
    key, comment = _ascii(key).strip(), _ascii(comment)
    if key.upper() in _COMMENTARY:
        return _commentary(key.upper(), _ascii(str(value)))
    if _STANDARD_KEY.fullmatch(key.upper()):
        head = f"{key.upper():<8}= "
    else:
        head = f"HIERARCH {key.upper()} = "
    if isinstance(value, (str, bytes)):
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        return _string_cards(head, _ascii(text), comment)
    text = head + (f"{_plain_text(value):>20}" if len(head) == 10 else _plain_text(value))
    if len(text) > CARD:
        raise HeaderError("the keyword is too long for a card", where=key)
    if comment and len(text) + 3 < CARD:
        text += f" / {comment}"
    return f"{text[:CARD]:<{CARD}}"


def _plain_text(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return ""
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, complex):
        return f"({_float_text(value.real)}, {_float_text(value.imag)})"
    raise HeaderError("a card cannot hold this type", expected="text, number, bool or None", got=type(value))


def _float_text(value: float) -> str:
    """Shortest text that reads back to the same number, with a decimal point."""
    if not math.isfinite(value):
        return ""
    mantissa, e, exponent = repr(value).partition("e")
    return (mantissa if "." in mantissa else f"{mantissa}.0") + (f"E{exponent}" if e else "")


def _string_cards(head: str, text: str, comment: str) -> str:
    text = text.rstrip()  # blanks at the end mean nothing: no card goes on with them alone
    quoted = text.replace("'", "''")
    room = CARD - len(head) - 2
    if len(quoted) <= room:
        card = f"{head}'{quoted:<8}'" if room >= 8 else f"{head}'{quoted}'"
        if comment and len(card) + 3 < CARD:
            card = f"{card:<30} / {comment}"
        return f"{card[:CARD]:<{CARD}}"
    pieces = _pieces(text, room - 1, _MAX_STRING - 1)
    cards = [f"{head}'{pieces[0]}&'", *(f"CONTINUE  '{piece}&'" for piece in pieces[1:])]
    cards[-1] = cards[-1][:-2] + "'"
    return "".join(f"{card:<{CARD}}" for card in cards)


def _pieces(text: str, first: int, others: int) -> list[str]:
    """Cut a text so that each piece fits its card once its quotes are doubled, never between two."""
    if first < 2:
        raise HeaderError("the keyword is too long for a card", where=text)
    pieces, piece, room = [], "", first
    for character in text:
        token = "''" if character == "'" else character
        if len(piece) + len(token) > room:
            pieces.append(piece)
            piece, room = "", others
        piece += token
    return [*pieces, piece]


def _commentary(key: str, text: str) -> str:
    lines = [
        line[begin : begin + CARD - 8] for line in text.split("\n") for begin in range(0, len(line) or 1, 72)
    ]
    return "".join(f"{key:<8}{line:<72}" for line in lines)


def _ascii(text: str) -> str:
    """Printable ASCII, which is all that a card may hold."""
    if text.isascii() and text.isprintable():  # nearly always
        return text
    clean = text.encode("ascii", "replace").decode()
    return "".join(c if " " <= c <= "~" or c == "\n" else "?" for c in clean)
