"""Matter: what a report is given: products, what others found of them, and the run that made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrant.product import Product
from calibrant.registry.records import Entry, Verdict

if TYPE_CHECKING:
    from calibrant.instrument import Instrument
    from calibrant.registry import Registry


@dataclass(frozen=True, eq=False)
class Subject:
    """One product that a report tells of. Its pixels are read when it is its turn, and let go after it.

    Attributes
    ----------
    name : str
    load : callable
        Gives the product.
    file : str
        As the reader knows it.
    verdict : Verdict or None
        What `verify` found, now or when the registry was told.
    source : str
        Where the verdict comes from, in words.
    why : str
        Why there is no verdict.
    entry : Entry or None
        What the registry knows of it.
    reference : callable or None
        Gives the product that it is held against.
    against : str
        What that is, in words.
    """

    name: str
    load: Callable[[], Product]
    file: str = ""
    verdict: Verdict | None = None
    source: str = ""
    why: str = ""
    entry: Entry | None = None
    reference: Callable[[], Product] | None = None
    against: str = ""

    @classmethod
    def of(cls, product: Product, name: str = "") -> Subject:
        """A product in memory."""
        return cls(name or product.kind, lambda: product)


@dataclass(frozen=True, eq=False)
class Run:
    """What made the products, as its summary says.

    Attributes
    ----------
    folder : Path or None
        Of the results: files of frames and pictures lie below it.
    summary : mapping
        As of ``summary.json``; empty if there is none.
    problems : sequence of str
        Sentences: files that could not be read.
    notes : sequence of str
        What else the reader has to know.
    registry : Registry or None
        Asked for the history of quantities.
    instrument : Instrument or None
        With a focal plane, quantities of its detectors are drawn on it.
    """

    folder: Path | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()
    registry: Registry | None = None
    instrument: Instrument | None = None

    def entries(self, name: str) -> list[Any]:
        """A list of the summary; empty if it is not there or is none."""
        found = self.summary.get(name)
        return list(found) if isinstance(found, list) else []
