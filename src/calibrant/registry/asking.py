"""From a question, as a person asks it, to what the rule of choice needs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select

from calibrant.errors import AmbiguousError, NoMatchError, OptionError, RegistryError
from calibrant.frame import Exposure
from calibrant.instrument.model import ATTRIBUTE, NUMBERS, Instrument
from calibrant.registry import schema, subject
from calibrant.registry.memory import Memory
from calibrant.registry.records import Ask
from calibrant.registry.times import moment
from calibrant.registry.words import moment as said
from calibrant.registry.words import nearest, value

LEVELS = (1.0, 7.0, 30.0)
"""Days outside the validity for levels 1, 2, 3 of kinds for which the instrument says none."""

DAY = 86_400_000_000  # microseconds
_FAR = 2**61  # microseconds: farther than any time, and still a sum of two fits 64 bits
_NOT_SETTINGS = frozenset({"kind", "instrument", "start", "mid", "time", "path", "applied"})


@dataclass(frozen=True)
class Question:
    """A question as it was asked.

    Attributes
    ----------
    kind : str
    instrument : str or None
    exposure : str, int or None
        Identifier.
    detector : str, int or None
    time : int, str, datetime or None
    tag : str, sequence of str, or None
        Tags to search, the first one first; None is all of them alike.
    as_of : int, str, datetime or None
        Revision, time or frozen state.
    level : int
    drafts : bool
    facts : mapping
        What else is stated: filter, temperature ...
    """

    kind: str
    instrument: str | None = None
    exposure: str | int | None = None
    detector: str | int | None = None
    time: int | str | datetime | None = None
    tag: str | Iterable[str] | None = None
    as_of: int | str | datetime | None = None
    level: int = 0
    drafts: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A question as it was understood.

    Attributes
    ----------
    detector : str
        One of `Memory.detectors`, or any other that was asked for.
    tags : mapping of int to int
        Tag -> priority.
    revision : int
        As of which it is answered.
    now : bool
        Whether that is the present.
    """

    ask: Ask
    detector: str
    tags: Mapping[int, int]
    revision: int
    now: bool
    notes: tuple[str, ...] = ()


class Facts(Mapping[str, Any]):
    """What is known: stated facts, and those of the exposure, by the names of match keys."""

    def __init__(self, stated: Mapping[str, Any], exposure: Exposure | None, detector: str) -> None:
        self._stated = {_canonical(name): known for name, known in stated.items()} | {"detector": detector}
        self._exposure = exposure

    def __getitem__(self, name: str) -> Any:
        known = self._stated.get(_canonical(name))
        if known is None and self._exposure is not None:
            known = self._exposure.get(name)
        if known is None or known == ():
            raise KeyError(name)
        return known

    def __iter__(self) -> Iterator[str]:
        return iter(self._stated)

    def __len__(self) -> int:
        return len(self._stated)


def _canonical(name: str) -> str:
    return ATTRIBUTE.get(name, name)


def understood(
    connection: Connection, question: Question, memory: Memory, exposure: Exposure | None = None
) -> Asked:
    """A question with everything looked up that it leaves to the registry.

    Parameters
    ----------
    connection : Connection
    question : Question
    memory : Memory
    exposure : Exposure, optional
        The one it is about, if it need not be in the registry.

    Raises
    ------
    NoMatchError
        If exposure, kind or instrument are unknown.
    AmbiguousError
        If instrument, detector or exposure are left open.
    RegistryError
        If a fact, tag or revision is unknown, or a stated fact contradicts the exposure.
    """
    head = memory.refresh(connection)
    revision, note = (head, "") if question.as_of is None else as_of(connection, question.as_of)
    notes = [note] if note else []
    time, note = moment(question.time, "the time")
    if note:
        notes.append(note)
    _check_kind(question.kind, memory)
    detector = None if question.detector is None else str(question.detector).strip()
    instrument = question.instrument
    if exposure is not None:
        instrument, detector = instrument or exposure.instrument, detector or exposure.detector
    elif question.exposure is not None:
        found = subject.find(
            connection,
            question.exposure,
            instrument=instrument,
            detector=detector,
            time=time,
            detectors=partial(memory.detectors, question.kind),
            revision=None if question.as_of is None else revision,
        )
        exposure, instrument, detector = found.exposure, found.instrument, found.detector
        if found.revision > revision:
            notes.append(f"exposure {found.identifier} was ingested after revision {revision}")
    instrument = _instrument(connection, question.kind, instrument, memory)
    detector = _detector(question.kind, instrument, detector, memory)
    model = memory.model(connection, instrument, revision)
    stated = _stated(question, instrument, detector, model, memory)
    if exposure is not None:
        _check_exposure(exposure, detector, stated, time, model)
    tags = memory.priorities(connection, question.tag, revision)
    if len(tags) > 1 and not question.tag:
        notes.append(f"no tag was named: all {len(tags)} were searched ({', '.join(memory.tags.values())})")
    ask = _ask(question, instrument, detector, model, stated, exposure, time)
    return Asked(ask, detector, tags, revision, question.as_of is None, tuple(notes))


def _ask(
    question: Question,
    instrument: str,
    detector: str,
    model: Instrument,
    stated: Mapping[str, Any],
    exposure: Exposure | None,
    time: int | None,
) -> Ask:
    days = model.levels.get(question.kind, LEVELS)
    level = question.level
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level <= len(days):
        listed = ", ".join(f"{number}: {reach:g} d" for number, reach in enumerate(days, 1))
        raise OptionError(
            f"there is no level {level} of {question.kind}", expected=f"0 (inside the validity), {listed}"
        )
    start, end = (None, None) if exposure is None else subject.bounds(exposure)
    mid = time if exposure is None or exposure.mid is None else exposure.mid
    return Ask(
        kind=question.kind,
        instrument=instrument,
        facts=Facts(stated, exposure, detector),
        mid=mid,
        start=start,
        end=end,
        same=model.same,
        names=frozenset(model.fact_names) - _NOT_SETTINGS | stated.keys(),
        level=level,
        reach=tuple(int(min(reach * DAY, _FAR)) for reach in days),
        drafts=question.drafts,
        label=_label(question, exposure, detector, stated, mid),
    )


def _label(
    question: Question, exposure: Exposure | None, detector: str, stated: Mapping[str, Any], mid: int | None
) -> str:
    parts = []
    name = question.exposure or (exposure and (exposure.identifier or exposure.path))
    if name is not None:
        parts.append(f"exposure {name}")
    elif mid is not None:
        parts.append(said(mid))
    parts += [f"detector {detector}"] if detector else []
    if exposure is not None and exposure.filter is not None and "filter" not in stated:
        parts.append(f"filter {exposure.filter}")
    return ", ".join([*parts, *(f"{name} {value(known)}" for name, known in stated.items())])


# --- what the registry knows ------------------------------------------------------------------------------


def _check_kind(kind: str, memory: Memory) -> None:
    if kind not in memory.kinds:
        known = ", ".join(memory.kinds)
        raise NoMatchError(
            f"the registry has no products of kind {kind!r}{nearest(kind, memory.kinds)}",
            expected=known or None,
            do=None if known else "it has no products at all: `calibrant reduce ... --register` records them",
        )


def _instrument(connection: Connection, kind: str, name: str | None, memory: Memory) -> str:
    known = memory.instruments(kind)
    if name is not None:
        if name not in known:
            raise _no_instrument(connection, kind, name, known)
        return name
    if len(known) > 1:
        raise AmbiguousError(
            f"products of kind {kind} are of {len(known)} instruments: {', '.join(known)}",
            do=f"say which instrument, for example instrument={known[0]}",
        )
    return known[0]


def _no_instrument(connection: Connection, kind: str, name: str, known: list[str]) -> NoMatchError:
    """Not known at all, or known without products of that kind."""
    columns = (schema.instrument.c.name, schema.exposure.c.instrument, schema.setting.c.instrument)
    every = {found for column in columns for found in connection.execute(select(column).distinct()).scalars()}
    if name in every:
        return NoMatchError(
            f"there is no {kind} of {name} in the registry", got=f"{kind} of {', '.join(known)}"
        )
    return NoMatchError(
        f"the registry knows no instrument {name!r}{nearest(name, every)}", expected=", ".join(sorted(every))
    )


def _detector(kind: str, instrument: str, name: str | None, memory: Memory) -> str:
    if name is not None:
        return name
    known = memory.detectors(kind, instrument)
    if len(known) > 1:
        listed = ", ".join(sorted(known, key=lambda text: (len(text), text))[:16])
        raise AmbiguousError(
            f"products of kind {kind} are of {len(known)} detectors: {listed}",
            do=f"say which detector, for example detector={known[0]}",
        )
    return known[0] if known else ""


# --- what the question states -----------------------------------------------------------------------------


def _stated(
    question: Question, instrument: str, detector: str, model: Instrument, memory: Memory
) -> dict[str, Any]:
    """Stated facts by name, as values that keys can be held against."""
    if not question.facts:
        return {}
    free = {
        key
        for setting in memory.settings_of(question.kind, instrument, detector)
        for key in setting.keys
        if key != "detector"
    }
    known = set(model.fact_names) - _NOT_SETTINGS | free
    for name in question.facts:
        if name not in known:
            raise OptionError(
                f"exposures of {instrument} have no fact {name!r}{nearest(name, known)}",
                expected=", ".join(sorted(known)),
            )
    return {name: _fact(name, given, model) for name, given in question.facts.items() if given is not None}


def _fact(name: str, given: Any, model: Instrument) -> Any:
    """A stated value of the type that the fact has: numbers may come as text, binning as 2 or 2x2."""
    rule = model.keys.get(name)
    if name in NUMBERS or name in ATTRIBUTE.values() or (rule is not None and rule.type == "number"):
        try:
            return float(given)
        except (TypeError, ValueError):
            raise OptionError(f"{name} is a number", got=repr(given)) from None
    if name in ("binning", "shape"):
        try:
            sides = re.split(r"[x, ]+", given.strip()) if isinstance(given, str) else given
            sides = (sides, sides) if isinstance(sides, int) else tuple(int(side) for side in sides)
        except (TypeError, ValueError):
            raise OptionError(f"{name} is rows x columns, such as 2x2", got=repr(given)) from None
        return sides * 2 if len(sides) == 1 else sides
    if isinstance(given, (list, tuple)):
        return tuple(given)
    return given if isinstance(given, (bool, int, float)) else str(given)


def _check_exposure(
    exposure: Exposure, detector: str, stated: Mapping[str, Any], time: int | None, model: Instrument
) -> None:
    """Refuse facts that contradict those of the exposure."""
    name = exposure.identifier or exposure.path or "the exposure"
    for key, given in {"detector": detector, **stated}.items():
        known = exposure.get(key)
        if known is not None and known != () and not model.same(key, known, given):
            raise OptionError(
                f"exposure {name} has {key} {value(known)}, and {key} {value(given)} was asked for",
                do="leave out one of the two",
            )
    if time is not None and not subject.lasts(exposure, time):
        raise OptionError(
            f"exposure {name} began at {said(exposure.start or 0)}, and the time {said(time)} was asked for",
            do="leave out one of the two",
        )


# --- revisions --------------------------------------------------------------------------------------------


def as_of(connection: Connection, given: int | str | datetime) -> tuple[int, str]:
    """The revision that is meant, and a sentence if a zone was assumed.

    Parameters
    ----------
    connection : Connection
    given : int, str or datetime
        A revision; a time: the last revision of then; or the name of a frozen state.

    Raises
    ------
    RegistryError
        If there is no such revision or name.
    """
    text = given.strip() if isinstance(given, str) else given
    if isinstance(text, str):
        context = schema.context
        frozen = connection.execute(select(context.c.revision).where(context.c.name == text)).scalar()
        if frozen is not None:
            return int(frozen), ""
        text = int(text) if re.fullmatch(r"[+-]?\d+", text) else text
    if isinstance(text, int):
        return _revision(connection, text), ""
    try:
        time, note = moment(text, "as_of")
    except OptionError as error:
        raise _no_context(connection, str(given), error) from None
    event = schema.event
    last = select(func.max(event.c.at)).where(event.c.at <= time).scalar_subquery()
    found = connection.execute(select(func.max(event.c.revision)).where(event.c.at == last)).scalar()
    return int(found or 0), note


def _revision(connection: Connection, given: int) -> int:
    last = connection.execute(select(schema.head.c.revision)).scalar_one()
    if not 0 <= given <= last:
        raise RegistryError(
            f"the registry has no revision {given}: its last one is {last}",
            do="give a time as text, such as 2024-11-08T12:00Z" if given > last else None,
        )
    return given


def _no_context(connection: Connection, given: str, error: OptionError) -> RegistryError:
    known = list(connection.execute(select(schema.context.c.name)).scalars())
    if not known and not re.fullmatch(r"[A-Za-z_]\w*", given):
        return RegistryError(error.what, expected=error.expected, got=error.got)
    return RegistryError(
        f"no state was frozen under the name {given!r}{nearest(given, known)}, and it is no revision or time",
        expected=", ".join(known) or None,
        do=None if difflib.get_close_matches(given, known, 1) else "`calibrant registry freeze` makes names",
    )
