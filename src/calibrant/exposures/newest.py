"""Versions of one file: which is the newest, as facts say that are numbers, never as names sort."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from calibrant.errors import OptionError, SelectionError
from calibrant.exposures.scan import Problem
from calibrant.exposures.where import fact
from calibrant.frame import Exposure
from calibrant.instrument import Instrument
from calibrant.instrument.model import Newest

Rank = tuple[float, ...]


def newest(exposures: Sequence[Exposure], instrument: Instrument) -> tuple[list[int], list[Problem]]:
    """Indices of the newest versions, in their order, and files that lost without having a full rank.

    A fact that is unknown ranks behind every known one. Exposures of which nothing in the group is known have
    no versions, and stay.

    Raises
    ------
    OptionError
        If the instrument does not say what a version is.
    SelectionError
        If two files are equally new.
    """
    rule = instrument.newest
    if rule is None:
        raise OptionError(
            "the instrument does not say how versions of a file are told apart",
            where=instrument.name,
            do="add a table newest, with group and rank, to its file",
        )
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, exposure in enumerate(exposures):
        label = tuple(fact(exposure, key) for key in rule.group)
        groups.setdefault(label if any(part is not None for part in label) else (index,), []).append(index)
    kept, problems = [], []
    for members in groups.values():
        ranks = {index: _rank(exposures[index], rule) for index in members}
        best = max(ranks.values())
        _refuse_equals([exposures[index] for index in members if ranks[index] == best])
        kept += [index for index in members if ranks[index] == best]
        lost = {exposures[index].path: ranks[index] for index in members if ranks[index] < best}
        problems += [
            Problem(
                path, f"{path}: its name does not say its {_missing(rank, rule)}, so another one is newer."
            )
            for path, rank in lost.items()
            if path is not None and -math.inf in rank
        ]
    return sorted(kept), problems


def _rank(exposure: Exposure, rule: Newest) -> Rank:
    values = (fact(exposure, key) for key in rule.rank)
    return tuple(float(value) if isinstance(value, int | float) else -math.inf for value in values)


def _missing(rank: Rank, rule: Newest) -> str:
    return " and ".join(key for key, value in zip(rule.rank, rank, strict=True) if value == -math.inf)


def _refuse_equals(exposures: Sequence[Exposure]) -> None:
    paths = list(dict.fromkeys(exposure.path for exposure in exposures))
    if len(paths) > 1:
        raise SelectionError(
            "two files are equally new versions of one observation",
            where=paths[0],
            got=paths[1],
            do="give the folder of one of them",
        )
