"""Which exposures belong together, and which master belongs to which exposure: by facts, not by pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

from calibrant.exposures import Exposures
from calibrant.frame import MICROSECOND, Exposure, iso_time
from calibrant.instrument import Instrument

DAY = 86_400 * MICROSECOND


@dataclass(frozen=True, eq=False)
class Group:
    """Exposures of one kind and one setting.

    Attributes
    ----------
    kind : str
    keys : mapping
        The matching keys of the kind and their common value (the median, for keys with a tolerance).
    members : Exposures
    when : str
        The day of the epoch, where the setting has several.
    """

    kind: str
    keys: Mapping[str, Any]
    members: Exposures
    when: str = ""

    def settings(self, *keys: str) -> list[Group]:
        """Cut further, by more keys."""
        pieces = groups(self.members, self.kind, keys)
        return [replace(self, keys={**self.keys, **one.keys}, members=one.members) for one in pieces]

    def epochs(self, gap: float | None) -> list[Group]:
        """Cut where no exposure began for more than `gap` days; those without a time go with the first."""
        known = sorted((one.mid, i) for i, one in enumerate(self.members) if one.mid is not None)
        cuts = [
            place
            for place, ((one, _), (other, _)) in enumerate(pairwise(known), 1)
            if gap is not None and other - one > gap * DAY
        ]
        if not cuts:
            return [self]
        without = [i for i, one in enumerate(self.members) if one.mid is None]
        found = []
        for first, last in pairwise([0, *cuts, len(known)]):
            indices = sorted([i for _, i in known[first:last]] + (without if first == 0 else []))
            day = iso_time(known[first][0])[:10]
            found.append(replace(self, members=self.members.take(indices), when=day))
        return found


def groups(exposures: Exposures, kind: str, keys: Sequence[str]) -> list[Group]:
    """Cut exposures into settings: equal in every key, within the instrument's tolerance for numbers.

    Parameters
    ----------
    exposures : Exposures
        All of `kind`.
    keys : sequence of str
        Names of facts, e.g. ``("detector", "binning", "temperature")``.
    """
    return [
        Group(kind, dict(zip(keys, labels, strict=True)), members)
        for labels, members in exposures.group_by(*keys).items()
    ]


def apart(settings: Sequence[Group]) -> list[str]:
    """Sentences on detectors that have several settings: what differs, and which file has what."""
    told = []
    for detector in dict.fromkeys(one.keys.get("detector") for one in settings):
        own = [one for one in settings if one.keys.get("detector") == detector]
        keys = [key for key in own[0].keys if key != "path" and len({str(one.keys[key]) for one in own}) > 1]
        if not keys:
            continue
        parts = [f"{' '.join(_word(one.keys[key]) for key in keys)} in {_files(one.members)}" for one in own]
        differ = f"{' and '.join(keys)} differ{'s' if len(keys) == 1 else ''}"
        told.append(f"{detector or 'exposures'}: {differ}, each is measured for itself: {'; '.join(parts)}")
    return told


def _files(exposures: Exposures, most: int = 12) -> str:
    """Their names without folders; after the first ones, how many more."""
    names = [str(one.path or one.identifier).rpartition("/")[2] for one in exposures]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def mismatch(keys: Mapping[str, Any], exposure: Exposure, instrument: Instrument) -> str | None:
    """Why a master of these keys does not fit an exposure, or None if it does.

    A fact unknown on either side decides nothing.
    """
    for key, wanted in keys.items():
        got = exposure.get(key)
        if wanted is None or got is None:
            continue
        if not instrument.same(key, wanted, got):
            return f"{key} is {_word(wanted)}, not {_word(got)}"
    return None


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value)


Candidate = TypeVar("Candidate")


def nearest(
    candidates: Iterable[Candidate], keys: Callable[[Candidate], Mapping[str, Any]],
    epoch: Callable[[Candidate], int | None], exposure: Exposure, instrument: Instrument,
) -> Candidate | None:  # fmt: skip
    """The candidate that matches, nearest in its tolerant facts, then in time; None if none does."""
    fitting = [c for c in candidates if mismatch(keys(c), exposure, instrument) is None]
    if not fitting:
        return None

    def distance(candidate: Candidate) -> tuple[float, float]:
        far = sum(
            abs(value - exposure.get(key)) / reach
            for key, value in keys(candidate).items()
            if isinstance(value, (int, float))
            and isinstance(exposure.get(key), (int, float))
            and (reach := instrument.reach(key, value)) > 0
        )
        when, now = epoch(candidate), exposure.mid
        return round(far, 1), abs(when - now) if when is not None and now is not None else 0

    return min(fitting, key=distance)


def stem(kind: str, keys: Mapping[str, Any], siblings: Sequence[Mapping[str, Any]]) -> str:
    """A file name for a master: its kind and those facts in which it differs from its siblings.

    Filter, setting and exposure time of a dark are always said, since people look for them.
    """
    words = [kind]
    for key, value in keys.items():
        told = key in ("filter", "setting", "duration", "exptime")
        if value is None or not (told or any(other.get(key) != value for other in siblings)):
            continue
        words.append(_label(key, value))
    return "_".join(words)


def _label(key: str, value: Any) -> str:
    text = {
        "temperature": lambda: f"{value:+.0f}C",
        "duration": lambda: f"{value:g}s",
        "exptime": lambda: f"{value:g}s",
        "binning": lambda: f"bin{_word(value)}",
        "shape": lambda: _word(value),
        "detector": lambda: f"det{value}",
        "filter": lambda: str(value),
        "setting": lambda: str(value),
        "path": lambda: str(value).rpartition("/")[2].partition(".")[0],
    }.get(key, lambda: f"{key}{_word(value)}")()
    return "".join(c if c.isalnum() or c in "+-." else "-" for c in text)
