"""How the registry says a time, a duration, a value and a product."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from calibrant.errors import RegistryError
from calibrant.frame import iso_time
from calibrant.registry.records import Candidate

_UNITS = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1000, "ms"))
_SIZES = re.compile(r"\d+(x\d+)+")
_FIRST = ("detector", "filter")
_DIGITS = len("sha256:") + 12


def short(product: Candidate | str) -> str:
    """The beginning of an identity: long enough to be unique, and to be typed."""
    identity = product if isinstance(product, str) else product.identity
    return identity[:_DIGITS]


def moment(microseconds: int) -> str:
    """ISO time, UTC, without a fraction that is zero.

    Parameters
    ----------
    microseconds : int
        Since 1970 UTC.
    """
    try:
        return iso_time(microseconds).replace(".000Z", "Z")
    except (ValueError, OverflowError, OSError):  # beyond year 9999, or before year 1
        return f"{microseconds / 31_557_600e6 + 1970:.0f}"


def second(microseconds: int) -> str:
    """ISO time, UTC, to the second."""
    return f"{moment(microseconds).partition('.')[0].rstrip('Z')}Z"


def between(begin: int | None, end: int | None) -> str:
    """A span of time to the second; an open end is ``...``."""
    if begin is None and end is None:
        return "always"
    first, last = ("..." if edge is None else second(edge).replace(":00Z", "Z") for edge in (begin, end))
    return f"{first} to {last}"


def duration(microseconds: int) -> str:
    """A duration in its best unit: ``3.2 d``, ``45.0 s``."""
    for size, unit in _UNITS:
        if abs(microseconds) >= size:
            return f"{microseconds / size:.1f} {unit}"
    return f"{microseconds} us" if microseconds else "0 s"


def span(candidate: Candidate) -> str:
    """Validity in words."""
    if candidate.state == "draft":
        return "a draft"
    if candidate.begin is None and candidate.end is None:
        return "valid always"
    if candidate.begin is None:
        return f"valid until {moment(candidate.end or 0)}"
    if candidate.end is None:
        return f"valid from {moment(candidate.begin)}"
    return f"valid {moment(candidate.begin)} to {moment(candidate.end)}"


def value(found: Any) -> str:
    """A value of a key: ``r``, ``-10.5``, ``2x2``."""
    if isinstance(found, float):
        return f"{found:g}"
    if isinstance(found, (tuple, list)):
        return "x".join(map(value, found))
    return str(found)


def told(keys: Mapping[str, Any]) -> str:
    """Keys in words, detector and filter first: ``detector 0, filter r``; what is unknown is left out."""
    names = sorted(keys, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    return ", ".join(f"{name} {value(keys[name])}" for name in names if keys[name] is not None)


def no_such(what: str, name: str, known: Iterable[str]) -> RegistryError:
    """The error for a name that is none of those that the registry knows."""
    listed = sorted(known)
    return RegistryError(
        f"the registry has no {what} {name!r}{nearest(name, listed) if listed else ', and no other'}",
        expected=", ".join(listed) or None,
    )


def nearest(wrong: str, known: Iterable[str]) -> str:
    """`` (did you mean 'flat'?)``, or nothing."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def value_of(text: str) -> Any:
    """``-10`` and ``2.5`` as numbers, ``2x2`` as a tuple of them, all else as text."""
    if _SIZES.fullmatch(text):
        return tuple(int(part) for part in text.split("x"))
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def as_of_of(text: str | None) -> int | str | None:
    """A revision as a number; a time or the name of a frozen state as text."""
    if text is None:
        return None
    return int(text) if re.fullmatch(r"\d+", text.strip()) else text.strip()
