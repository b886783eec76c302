"""A question of the user's, and the file that answers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection

from calibrant.errors import OptionError
from calibrant.frame import Exposure, Frame
from calibrant.instrument.model import Instrument
from calibrant.product import Product
from calibrant.registry import lineage, listing, opening, places, questions
from calibrant.registry.database import head
from calibrant.registry.memory import Memory
from calibrant.registry.questions import Question
from calibrant.registry.records import Choice

RAW = "raw"
CALIBRATED = ("calibrated", "visit_image")
"""A frame that was calibrated, by both its names."""

_NAMES = frozenset(field.name for field in fields(Question)) - {"kind", "facts"}


@dataclass(frozen=True)
class Held:
    """What answers a question, and the places of its file.

    Attributes
    ----------
    kind : str
    paths : list of str
        The likeliest first.
    choice : Choice or None
        If it is a product.
    hash : str
        Of the file, if it is a frame.
    exposure : Exposure or None
        Of a raw frame.
    instrument : Instrument or None
        That reads a raw frame.
    notes : tuple of str
        What there is to say of a frame; of a product, its choice says it.
    """

    kind: str
    paths: list[str]
    choice: Choice | None = None
    hash: str = ""
    exposure: Exposure | None = None
    instrument: Instrument | None = None
    notes: tuple[str, ...] = ()


def question(kind: str, usual: Mapping[str, Any], given: Mapping[str, Any]) -> Question:
    """The question as it was given, with what is usual where it says nothing.

    Parameters
    ----------
    kind : str
    usual, given : mapping
        Arguments of `Question`; what else is given are facts.
    """
    said = {name: value for name, value in given.items() if name in _NAMES and value is not None}
    facts = {name: value for name, value in given.items() if name not in _NAMES and value is not None}
    for name in ("exposure", "detector"):  # identifiers and detectors may look like numbers
        if name in said:
            said[name] = str(said[name])
    if isinstance(said.get("instrument"), Instrument):
        said["instrument"] = said["instrument"].name
    return Question(**{"kind": kind, **usual, **said, "facts": facts})


def refuse_frames(kind: str) -> None:
    """Refuse a kind that is a frame where a product is asked for.

    Raises
    ------
    OptionError
        If it is.
    """
    if kind == RAW or kind in CALIBRATED:
        raise OptionError(f"{kind} is no product: no rule chooses it", do="ask for it with get")


def held(connection: Connection, asked: Question, memory: Memory) -> Held:
    """What answers a question; no file is opened.

    Raises
    ------
    NoMatchError, AmbiguousError
        As of the rule of choice.
    """
    if asked.kind == RAW:
        exposure, path = questions.raw(connection, asked)
        hash, paths = listing.held(connection, path)
        model = memory.model(connection, exposure.instrument, head(connection)[0])
        return Held(asked.kind, paths, hash=hash, exposure=exposure, instrument=model)
    if asked.kind in CALIBRATED:
        hash, paths = listing.held(connection, questions.calibrated(connection, asked))
        revision = (
            head(connection)[0] if asked.as_of is None else questions.revision_of(connection, asked.as_of)
        )
        notes = tuple(lineage.warnings(connection, hash, revision))
        return Held(asked.kind, paths, hash=hash, notes=notes)
    choice = questions.choose(connection, asked, memory)
    found = places.of_product(connection, choice.candidate.identity)
    paths = list(dict.fromkeys([*([choice.path] if choice.path else []), *found]))
    return Held(asked.kind, paths, choice)


def read(held: Held) -> Product | Frame:
    """The product or frame, in memory, from the first place where it is unharmed.

    Raises
    ------
    RegistryError
        If it is in none of them.
    """
    if held.choice is not None:
        candidate = held.choice.candidate
        return opening.read_product(candidate.identity, candidate.kind, held.paths)
    if held.exposure is not None and held.instrument is not None:
        return opening.read_raw(held.exposure, held.hash, held.paths, held.instrument)
    return opening.read_calibrated(held.hash, held.paths)


def path_of(held: Held) -> str:
    """The first place where the file is unharmed.

    Raises
    ------
    RegistryError
        If there is none.
    """
    if held.choice is None:
        return opening.unharmed(f"the {held.kind} file", held.hash, held.paths)
    candidate = held.choice.candidate
    return opening.place_of_product(candidate.identity, candidate.kind, held.paths)
