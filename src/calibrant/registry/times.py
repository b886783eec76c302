"""Times that people give: validity, questions, revisions."""

from __future__ import annotations

import operator
import re
from datetime import UTC, datetime
from typing import Any

from calibrant.errors import HeaderError, OptionError
from calibrant.registry import words
from calibrant.times import parse_time

FIRST = -62_135_596_800_000_000
"""The year 1, microseconds since 1970 UTC: what lies before cannot be written as ISO text."""
LAST = 253_402_300_800_000_000
"""The year 10000, exclusive."""

_ZONE = re.compile(r"\d\d[T ].*(Z|[+-]\d\d(:?\d\d)?)$", re.IGNORECASE)


def moment(value: Any, what: str = "the time") -> tuple[int | None, str]:
    """Microseconds since 1970 UTC of a time as a user gives it.

    Parameters
    ----------
    value : int, datetime, str or None
        Microseconds since 1970 UTC; a datetime; ISO 8601 text. A datetime or text without zone is UTC.
        None is open.
    what : str
        Name of the argument, for messages.

    Returns
    -------
    int or None
        Microseconds since 1970 UTC, without leap seconds.
    str
        A sentence if a zone was assumed, else empty.

    Raises
    ------
    OptionError
        If the value is no time, or lies outside the years 1 to 9999.
    """
    if value is None:
        return None, ""
    note = ""
    if isinstance(value, datetime):
        text = value.isoformat()
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
            note = _assumed(text)
        found = _parsed(value.isoformat(), what)
    elif isinstance(value, str):
        found = _parsed(value.strip(), what)
        if not _ZONE.search(value.strip()):
            note = _assumed(value.strip(), found)
    else:
        found = _number(value, what)
    if not FIRST <= found < LAST:
        raise OptionError(f"{what} lies outside the years 1 to 9999", got=value)
    return found, note


def _parsed(text: str, what: str) -> int:
    try:
        return parse_time(text)
    except (HeaderError, OverflowError):
        raise _no_time(text, what) from None


def _number(value: Any, what: str) -> int:
    if isinstance(value, bool):
        raise _no_time(value, what)
    try:
        return operator.index(value)
    except TypeError:
        raise _no_time(value, what) from None


def _no_time(value: object, what: str) -> OptionError:
    return OptionError(
        f"{what} is no time",
        expected="ISO 8601 text such as 2024-11-08T12:00Z, a datetime, or microseconds since 1970 UTC",
        got=repr(value),
    )


def _assumed(text: str, found: int | None = None) -> str:
    taken = words.moment(_parsed(text, text) if found is None else found)
    return f"{text} has no zone: taken as {taken}"
