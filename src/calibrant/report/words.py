"""Words: numbers, units, names and times as a report says them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from calibrant.frame import iso_time
from calibrant.product import Quantity

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
UNKNOWN = "—"
DIGITS = 12
"""Hex digits of an identity that are shown: enough to be typed back."""
FIRST = ("detector", "filter")
MICROSECONDS = 1_000_000


def number(value: float | None, digits: int = 4) -> str:
    """A number of few digits with a true minus sign; powers of ten are raised, what is no number says so."""
    if value is None:
        return UNKNOWN
    if math.isnan(value):
        return "no number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if 1e4 <= abs(value) < 1e7:
        text = f"{value:.0f}"
    else:
        text = f"{value:.{digits}g}"
    mantissa, has_power, power = text.partition("e")
    if has_power:
        text = f"{mantissa}×10{str(int(power)).translate(RAISED)}"
    return text.replace("-", "−")


def measured(value: float | None, sigma: float | None) -> tuple[str, str]:
    """A value and its uncertainty, both to the second digit of the latter; an unknown one is empty.

    Parameters
    ----------
    value, sigma : float or None
        In one unit.
    """
    if value is None or not math.isfinite(value):
        return number(value), ""
    if sigma is None or not math.isfinite(sigma):
        return number(value), ""
    if sigma <= 0:
        return number(value), number(sigma)
    last = math.floor(math.log10(sigma)) - 1
    largest = max(abs(value), sigma)
    if last >= -7 and 1e-4 <= largest < 1e7:
        places = max(0, -last)
        return tuple(f"{one:.{places}f}".replace("-", "−") for one in (value, sigma))  # type: ignore[return-value]
    power = math.floor(math.log10(largest))
    places = max(0, power - last)
    ten = f"×10{str(power).translate(RAISED)}"
    value_text, sigma_text = (f"{one / 10.0**power:.{places}f}{ten}" for one in (value, sigma))
    return value_text.replace("-", "−"), sigma_text


def with_sigma(value: float | None, sigma: float | None) -> str:
    """``5.1499 ± 0.0018``; the value alone where its uncertainty is not known."""
    text, error = measured(value, sigma)
    ten = text.find("×10")
    if error and ten >= 0 and error.endswith(text[ten:]):
        return f"({text[:ten]} ± {error.removesuffix(text[ten:])}){text[ten:]}"
    return f"{text} ± {error}" if error else text


def unit(text: str | None) -> str:
    """A canonical unit as it is printed: ``ADU/s``, ``e⁻``; empty where there is none."""
    from calibrant.report.plots.pixels import unit_text

    return unit_text(text)


def with_unit(value: str, units: str | None) -> str:
    """A number in words, and its unit."""
    return f"{value} {unit(units)}".rstrip()


def head(name: str, units: str | None) -> str:
    """The head of a column: ``read noise [ADU]``; a pure number has ``[–]``."""
    return f"{plain(name)} [{unit(units) or '–'}]"


def plain(name: str) -> str:
    """A name of the code as words."""
    return name.replace("_", " ")


def limits(low: float | None, high: float | None) -> str:
    """``0.9 … 1.1``, ``≤ 3``, ``≥ 0``; empty if there is none."""
    low = None if low is None or not math.isfinite(low) else low
    high = None if high is None or not math.isfinite(high) else high
    if low is None and high is None:
        return ""
    if low is None:
        return f"≤ {number(high)}"
    return f"≥ {number(low)}" if high is None else f"{number(low)} … {number(high)}"


def short(identity: str) -> str:
    """The first digits of an identity."""
    return identity.removeprefix("sha256:")[:DIGITS]


def moment(microseconds: int | None) -> str:
    """ISO time to the second, UTC."""
    if microseconds is None:
        return UNKNOWN
    try:
        return f"{iso_time(microseconds)[:19]}Z"
    except (ValueError, OverflowError, OSError):
        return UNKNOWN


def key_value(name: str, value: Any) -> str:
    """A value of a key with its unit: ``−10.0 °C``, ``120 s``, ``1 × 1``."""
    if isinstance(value, (tuple, list)):
        return " × ".join(str(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "temperature" and isinstance(value, (int, float)):
        return f"{value:.1f} °C".replace("-", "−")
    if isinstance(value, (int, float)):
        units = {"exptime": " s", "duration": " s", "dark_time": " s", "darktime": " s"}
        return f"{number(float(value), 5)}{units.get(name, '')}"
    return str(value)


def keys(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The keys that are known, detector and filter first: name, value."""
    order = sorted(found, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return [(plain(name), key_value(name, found[name])) for name in order if found[name] is not None]


def label(name: str, place: str) -> str:
    """``read noise (C10)``."""
    return f"{plain(name)} ({place})" if place else plain(name)


def quantity(found: Quantity) -> str:
    """``5.150 ± 0.002 ADU``."""
    return with_unit(with_sigma(found.value, found.sigma), found.unit)


def count(amount: int, what: str) -> str:
    """``1 frame``, ``12 frames``."""
    return f"{amount} {what}{'' if amount == 1 else 's'}"


def listed(names: list[str], most: int = 4) -> str:
    """``a, b, c and 5 more``."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
