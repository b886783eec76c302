"""Cutting exposures into settings, and the order and the words of their facts."""

from __future__ import annotations

from statistics import median
from typing import Any

from calibrant.instrument import Instrument


def split(
    key: str, values: list[Any], indices: list[int], instrument: Instrument
) -> list[tuple[Any, list[int]]]:
    """Indices by the value of a fact, each part with its label, in the order of the values; unknown last.

    Parameters
    ----------
    values : list
        Of all exposures.
    indices : list of int
        Those to cut.
    """
    runs: list[list[int]] = []
    for index in sorted(indices, key=lambda i: order(values[i])):
        if runs and _belongs(key, values[runs[-1][0]], values[index], instrument):
            runs[-1].append(index)
        else:
            runs.append([index])
    return [(_label([values[i] for i in run]), sorted(run)) for run in runs]


def _belongs(key: str, first: Any, value: Any, instrument: Instrument) -> bool:
    """Whether a number still lies within the tolerance to both sides of the middle of its run."""
    if isinstance(first, (int, float)) and isinstance(value, (int, float)):
        return value - first <= 2 * instrument.reach(key, (first + value) / 2)
    return bool(first == value)


def _label(values: list[Any]) -> Any:
    """What stands for the values of one group."""
    if all(value == values[0] for value in values[1:]):
        return values[0]
    return round(median(values), 3)


def order(value: Any) -> tuple[int, Any]:
    """A key that sorts values of one fact whatever their types; unknown ones last."""
    if value is None:
        return 3, ""
    if isinstance(value, (bool, int, float)):
        return 0, value
    if isinstance(value, tuple):
        return 1, value
    return 2, ",".join(sorted(value)) if isinstance(value, (set, frozenset)) else str(value)


def cell_text(value: Any) -> str:
    """A fact as a cell of a table: ``1x2`` for pairs, short numbers, nothing for what is unknown."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return "x".join(str(part) for part in value)
    if isinstance(value, (set, frozenset)):
        return ",".join(sorted(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
