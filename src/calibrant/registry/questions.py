"""Questions to the registry: which product, which raw file, which calibrated frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from calibrant.errors import NoMatchError, OptionError
from calibrant.frame import Exposure
from calibrant.registry import lineage, places, rows, schema, select, subject
from calibrant.registry.asking import Asked, Question, as_of, understood
from calibrant.registry.memory import Memory, Setting, Slot
from calibrant.registry.records import Ask, Candidate, Choice
from calibrant.registry.times import moment

__all__ = ["Memory", "Question", "calibrated", "choose", "for_exposure", "given", "raw", "revision_of"]

NEAREST = 20
"""Products looked at for the nearest misses."""


def choose(connection: Connection, question: Question, memory: Memory) -> Choice:
    """The product that the rule chooses, with the path of its file.

    Parameters
    ----------
    connection : Connection
    question : Question
    memory : Memory
        Of this database.

    Raises
    ------
    NoMatchError
        If none fits: the nearest misses are named. Or if exposure, kind or instrument are unknown.
    AmbiguousError
        If several fit equally well, or the question leaves open which is meant.
    RegistryError, OptionError
        If a fact, tag, revision or time is none, or a stated fact contradicts the exposure.
    """
    return _chosen(connection, understood(connection, question, memory), memory)


def for_exposure(
    connection: Connection, kind: str, exposure: Exposure, question: Question, memory: Memory
) -> Choice:
    """The product for an exposure that need not be in the registry.

    Parameters
    ----------
    connection : Connection
    kind : str
    exposure : Exposure
        Instrument, detector, filter, time ... follow from it.
    question : Question
        Tag, as_of, level and drafts.
    memory : Memory

    Raises
    ------
    NoMatchError, AmbiguousError, RegistryError, OptionError
        As of `choose`.
    """
    asked = understood(connection, replace(question, kind=kind), memory, exposure)
    return _chosen(connection, asked, memory)


def _chosen(connection: Connection, asked: Asked, memory: Memory) -> Choice:
    judgement = select.judge(left(connection, asked, memory), asked.ask)
    if isinstance(judgement.problem, NoMatchError):
        _, near = rows.misses(connection, asked, agreeing(asked, memory), memory, NEAREST)
        judgement = select.judge(near, asked.ask)
    problem = judgement.problem
    if problem is not None:
        if isinstance(problem, NoMatchError) and not judgement.misses and not asked.now:
            problem.do = f"that is as of revision {asked.revision}: leave it out for what is known now"
        raise problem
    return given(connection, judgement.left[0], asked)


def given(connection: Connection, candidate: Candidate, asked: Asked) -> Choice:
    """A candidate as the choice: where its file is, and all that there is to say about it.

    Parameters
    ----------
    connection : Connection
    candidate : Candidate
        That no rule refused.
    asked : Asked
    """
    choice = select.chosen(candidate, asked.ask)
    path = next(iter(places.of_product(connection, candidate.identity)), "")
    warned = lineage.warnings(connection, candidate.identity, asked.revision)
    return replace(choice, path=path, revision=asked.revision, notes=(*asked.notes, *choice.notes, *warned))


def left(connection: Connection, asked: Asked, memory: Memory) -> list[Candidate]:
    """Candidates among which are all that no rule refuses by itself.

    Parameters
    ----------
    connection : Connection
    asked : Asked
    memory : Memory
    """
    ask = asked.ask
    if asked.now and ask.level == 0 and not ask.drafts and ask.mid is not None:
        slots = [
            slot.id
            for slot in memory.slots_of(ask.kind, ask.instrument, asked.detector)
            if slot.tag in asked.tags and _may_hold(slot, ask)
        ]
        return rows.valid_now(connection, asked, slots, memory)
    return rows.left(connection, asked, agreeing(asked, memory), memory)


def _may_hold(slot: Slot, ask: Ask) -> bool:
    """Whether a slot can hold a product that agrees.

    Its numbers decide nothing: they are those of its first product, which others share within a tolerance.
    """
    facts, names = ask.facts, ask.names
    for key, own in slot.setting.keys.items():
        if own is None or isinstance(own, (int, float)) or key not in names:
            continue
        fact = facts.get(key)
        if fact is not None and own != fact:
            return False
    return True


def agreeing(asked: Asked, memory: Memory) -> Sequence[Setting]:
    """Settings of the kind, instrument and detector whose keys agree with the question."""
    ask = asked.ask
    return [
        setting
        for setting in memory.settings_of(ask.kind, ask.instrument, asked.detector)
        if select.agree(setting.keys, ask)
    ]


# --- frames -----------------------------------------------------------------------------------------------


def raw(connection: Connection, question: Question) -> tuple[Exposure, str]:
    """A raw exposure, and the place where its file was seen last.

    Parameters
    ----------
    connection : Connection
    question : Question
        With an exposure.

    Raises
    ------
    NoMatchError
        If the exposure is unknown, or was withdrawn.
    AmbiguousError
        If several are meant.
    """
    found, revision = _subject(connection, question)
    why = subject.withdrawn(connection, found.hash, revision)
    if why is not None:
        raise NoMatchError(f"exposure {found.identifier}, detector {found.detector}, was withdrawn: {why}")
    return found.exposure, _place(connection, found.hash)


def calibrated(connection: Connection, question: Question) -> str:
    """The place of the newest calibrated frame of an exposure that was not withdrawn.

    Parameters
    ----------
    connection : Connection
    question : Question
        With an exposure.

    Raises
    ------
    NoMatchError
        If the exposure is unknown, or has no calibrated frame.
    AmbiguousError
        If several exposures are meant.
    """
    found, revision = _subject(connection, question)
    return _place(connection, subject.calibrated_hash(connection, found, revision))


def _subject(connection: Connection, question: Question) -> tuple[subject.Subject, int]:
    if question.exposure is None:
        raise OptionError(
            f"a {question.kind} frame is asked for, and no exposure is named",
            do="say which, for example exposure=2024110800246",
        )
    revision = None if question.as_of is None else revision_of(connection, question.as_of)
    found = subject.find(
        connection,
        question.exposure,
        instrument=question.instrument,
        detector=None if question.detector is None else str(question.detector).strip(),
        time=moment(question.time, "the time")[0],
        revision=revision,
    )
    _check_facts(found, question.facts)
    return found, schema.FOREVER if revision is None else revision


def _check_facts(found: subject.Subject, facts: Mapping[str, Any]) -> None:
    for name, given in facts.items():
        known = found.exposure.get(name)
        if known is not None and str(known) != str(given):
            raise OptionError(
                f"exposure {found.identifier} has {name} {known}, and {name} {given} was asked for",
                do="leave out one of the two",
            )


def _place(connection: Connection, hash: str) -> str:
    found = places.of_hashes(connection, [hash]).get(hash)
    if not found:
        raise NoMatchError(f"no place is known any more of the file {hash}", do="ingest it again where it is")
    return found[0]


def revision_of(connection: Connection, given: int | str | datetime) -> int:
    """The revision that is meant by a number, a time (the last one of then), or the name of a frozen state.

    Parameters
    ----------
    connection : Connection
    given : int, str or datetime

    Raises
    ------
    RegistryError
        If there is no such revision or name.
    """
    return as_of(connection, given)[0]
