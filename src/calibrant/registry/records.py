"""What the rooms of the registry hand to each other, and to the caller: frozen values, no SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A product as the rule of choice sees it: one row for each of its certifications, or one for a draft.

    Attributes
    ----------
    identity, kind, instrument : str
    keys : mapping
        What must match.
    epoch : int or None
        Mid-time of its inputs, microseconds UTC.
    state : str
        ``draft``, ``certified``, ``superseded`` or ``withdrawn``, at the revision asked for.
    tag : str or None
        Of the certification.
    priority : int
        Of the tag among those that are searched, 0 first; -1 if it is not searched.
    begin, end : int or None
        Validity, half-open, microseconds UTC; None is open.
    revision : int
        Of the certification, or of the draft.
    why : str
        Of a withdrawal.
    """

    identity: str
    kind: str
    instrument: str
    keys: Mapping[str, Any]
    epoch: int | None = None
    state: str = "draft"
    tag: str | None = None
    priority: int = 0
    begin: int | None = None
    end: int | None = None
    revision: int = 0
    why: str = ""


@dataclass(frozen=True)
class Ask:
    """A question to the rule of choice.

    Attributes
    ----------
    facts : mapping
        What is known of the exposure, by the names of match keys (``detector``, ``filter``, ...).
    mid, start, end : int or None
        Of the exposure, microseconds UTC; None if the question names no time.
    same : callable
        ``same(key, one, other)``: whether two values of a fact agree, within the instrument's tolerance.
    names : frozenset of str
        Keys of a product that are facts of exposures; others do not count.
    level : int
        0: validity must contain the mid-time; n: it may be as far outside as ``reach[n - 1]``.
    reach : sequence of int
        Microseconds, for each level of this kind.
    drafts : bool
        Whether products that nobody certified may be chosen.
    label : str
        The exposure, for messages.
    """

    kind: str
    instrument: str
    facts: Mapping[str, Any]
    mid: int | None = None
    start: int | None = None
    end: int | None = None
    same: Callable[[str, Any, Any], bool] = lambda key, one, other: bool(one == other)
    names: frozenset[str] = frozenset()
    level: int = 0
    reach: Sequence[int] = ()
    drafts: bool = False
    label: str = ""


@dataclass(frozen=True)
class Refusal:
    """Why a candidate was not chosen: the first rule that refused it.

    Attributes
    ----------
    rule : str
        ``keys``, ``withdrawn``, ``superseded``, ``draft``, ``tag``, ``validity``, ``specific``, ``priority``
        or ``epoch``.
    sentence : str
        Such as ``filter is g, not r``.
    """

    rule: str
    sentence: str


@dataclass(frozen=True)
class Choice:
    """The product that the rule chose.

    Attributes
    ----------
    candidate : Candidate
    level : int
        0 inside its validity; n if it had to be taken from outside; -1 for a draft.
    notes : tuple of str
        Sentences for the user: an exposure that crosses a boundary, a level, a draft, a zone assumed, and
        what of its ancestry was withdrawn.
    path : str
        Where its file is; empty if the rule alone was asked.
    revision : int
        Of the registry at which it was chosen.
    """

    candidate: Candidate
    level: int = 0
    notes: tuple[str, ...] = ()
    path: str = ""
    revision: int = 0


@dataclass(frozen=True)
class Line:
    """One line of an explanation: a candidate, and why it was refused (None if it was chosen)."""

    candidate: Candidate
    refusal: Refusal | None
    distance: int | None = None
    """|epoch - mid-exposure|, microseconds."""


@dataclass(frozen=True)
class Explanation:
    """Every candidate of a question: the chosen one, the nearest misses, and the rest counted by rule.

    Attributes
    ----------
    question : str
        As understood, in one sentence.
    chosen : Choice or None
    problem : str
        Why nothing was chosen; empty if something was.
    lines : tuple of Line
        The chosen one first, then at most 20 of the nearest misses.
    rest : mapping of str to int
        Rule -> how many more candidates it refused.
    total : int
        Candidates of that kind, instrument and detector.
    """

    question: str
    chosen: Choice | None
    problem: str
    lines: tuple[Line, ...]
    rest: Mapping[str, int]
    total: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for each candidate, the question first."""
        told = [
            f"  {line.candidate.identity[:19]}  "
            + ("chosen" if line.refusal is None else line.refusal.sentence)
            for line in self.lines
        ]
        rest = [f"  refused besides: {number} by {rule}" for rule, number in self.rest.items()]
        return "\n".join(
            [self.question, *told, *rest, *([self.problem] if self.problem else []), *self.notes]
        )


@dataclass(frozen=True)
class Item:
    """One measured value held against its limits.

    Attributes
    ----------
    value : float or None
        None if it could not be measured, which does not pass.
    low, high : float or None
        Limits, inclusive; None is no limit.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str = ""
    place: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value is known and within its limits."""
        if self.value is None or self.value != self.value:
            return False
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)


@dataclass(frozen=True)
class Verdict:
    """What `verify` found of a product.

    Attributes
    ----------
    identity : str
        Of the product.
    frames : tuple of str
        Frames that were processed with it.
    """

    identity: str
    kind: str
    items: tuple[Item, ...]
    recipe: str = ""
    frames: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every item passed; a verdict without items passes nothing."""
        return bool(self.items) and all(item.passed for item in self.items)


@dataclass(frozen=True)
class Draft:
    """A product to be recorded, without its pixels.

    Attributes
    ----------
    path : str
        Absolute, of its file.
    hash : str
        ``sha256:`` of the file's bytes.
    size : int
        Bytes.
    quantities : sequence of (name, place, value, sigma, unit)
    inputs : sequence of (hash or None, name)
        Raw files.
    parents : sequence of str
        Identities of products.
    facts : mapping
        JSON-able: effect, options, versions, created, notes.
    """

    identity: str
    kind: str
    instrument: str
    keys: Mapping[str, Any]
    epoch: int | None
    path: str
    hash: str
    size: int
    quantities: Sequence[tuple[str, str, float, float | None, str]] = ()
    inputs: Sequence[tuple[str | None, str]] = ()
    parents: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CalibratedFile:
    """A calibrated frame to be recorded, without its pixels.

    Attributes
    ----------
    raw : str
        Hash of the raw file.
    path : str
        Absolute, of its file.
    hash : str
        ``sha256:`` of the file's bytes.
    size : int
        Bytes.
    inputs : sequence of (parent, role, name)
        Identities of the products that were applied.
    facts : mapping
        JSON-able: steps, recipe, versions.
    """

    raw: str
    path: str
    hash: str
    size: int
    inputs: Sequence[tuple[str, str, str]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A product as the registry knows it.

    Attributes
    ----------
    state : str
        ``draft``, ``certified``, ``superseded`` or ``withdrawn``.
    verified : bool or None
        Of the last verdict; None if there is none.
    validity : tuple of (tag, begin, end)
        Current certifications.
    places : tuple of str
        Paths of its file.
    tainted : tuple of str
        What of its ancestry was withdrawn, in words.
    """

    identity: str
    kind: str
    instrument: str
    keys: Mapping[str, Any]
    epoch: int | None
    state: str
    verified: bool | None
    validity: tuple[tuple[str, int | None, int | None], ...]
    places: tuple[str, ...]
    revision: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    tainted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """One thing that was reported to a registry.

    Attributes
    ----------
    kind : str
        ``draft``, ``verified``, ``certified``, ``withdrawn``, ``chained`` ...
    at : int
        Microseconds UTC.
    subject : str
        Identity of a product or hash of a file; empty if the event is about neither.
    identity, product : str or None
        Of the product and its kind, if it is about one.
    tag, begin, end
        Of a certification; None is open.
    passed : bool or None
        Of a verdict.
    """

    revision: int
    kind: str
    at: int
    subject: str = ""
    identity: str | None = None
    product: str | None = None
    tag: str | None = None
    begin: int | None = None
    end: int | None = None
    passed: bool | None = None
    who: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Point:
    """A quantity of one product, as one point of a trend; `epoch` in microseconds UTC."""

    identity: str
    epoch: int | None
    instrument: str
    keys: Mapping[str, Any]
    place: str
    value: float | None
    sigma: float | None
    unit: str
    withdrawn: bool = False


@dataclass(frozen=True)
class Ingested:
    """What `ingest` did.

    Attributes
    ----------
    new, known, moved : int
        Exposures recorded now, known before, and known but found at a further place.
    notes : tuple of str
        Two files that claim to be the same exposure, frames without time or identifier ...
    """

    new: int = 0
    known: int = 0
    moved: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Node:
    """One thing in a lineage: a product, a calibrated frame or a raw file.

    Attributes
    ----------
    key : str
        Identity of a product, or hash of a file.
    kind : str
        ``flat``, ``bias`` ...; ``calibrated`` for a frame; the exposure's kind for a raw file.
    state : str
        Of a product; ``""`` for files.
    problem : str
        ``withdrawn``, ``lost``, ``altered``, ``unknown`` or empty.
    """

    key: str
    kind: str
    name: str
    path: str = ""
    state: str = ""
    problem: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """A graph from one thing back to raw files.

    Attributes
    ----------
    root : str
        Key of the thing asked for.
    nodes : mapping of str to Node
    edges : tuple of (child, parent, role)
    """

    root: str
    nodes: Mapping[str, Node]
    edges: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Trouble:
    """One finding of `check`.

    Attributes
    ----------
    what : str
        ``lost``, ``altered``, ``moved``, ``tainted``, ``clock`` or ``derived``.
    severe : bool
        Whether a product or frame cannot be trusted any more.
    """

    what: str
    where: str
    sentence: str
    severe: bool = True
