"""The registry as users hold it: a thin door to the rooms that write, ask, list and explain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from calibrant.files.hashing import HashCache, file_hash
from calibrant.files.reading import Pathish
from calibrant.frame import Exposure, Frame
from calibrant.instrument.model import Instrument
from calibrant.product import Product
from calibrant.registry import answering, history, lineage, listing, naming, opening, places, questions
from calibrant.registry.database import Database, head
from calibrant.registry.memory import Memory
from calibrant.registry.questions import Question
from calibrant.registry.recording import Recording
from calibrant.registry.records import (
    Choice,
    Entry,
    Event,
    Explanation,
    Lineage,
    Point,
    Trouble,
    Verdict,
)

DEFAULT = "calibrant.db"
VARIABLE = "CALIBRANT_REGISTRY"

Progress = Callable[[int, int, str], None]

_OTHER_BYTES = "the product in it is the one recorded, the bytes of the file around it are not"


def default_place() -> str:
    """Where the registry is if nobody says: ``$CALIBRANT_REGISTRY``, else `DEFAULT` in the working folder."""
    return os.environ.get(VARIABLE) or DEFAULT


class Registry(Recording):
    """Which calibration was valid when, why it is chosen, and where it comes from.

    Parameters
    ----------
    where : path or URL, optional
        Such as ``calibrant.db`` or ``postgresql+psycopg://user@host/name``; by default
        ``$CALIBRANT_REGISTRY``, else ``calibrant.db`` in the working folder. Never made: see `create`.
    tag : str or sequence of str, optional
        Tags that questions search if they name none, the first one first.
    as_of : int, str or datetime, optional
        Revision, time or frozen state as of which questions are answered if they name none.
    who : str, optional
        Recorded with what is certified or withdrawn; by default the user's name.

    Attributes
    ----------
    last : Choice or None
        What the last `get` of a product chose, and its notes.

    Raises
    ------
    RegistryError
        If there is no registry.

    Examples
    --------
    >>> registry = Registry("calibrant.db", tag="DP1")  # doctest: +SKIP
    >>> flat = registry.get("flat", exposure=2024110800246, detector=0)  # doctest: +SKIP
    """

    def __init__(
        self,
        where: Pathish | None = None,
        *,
        tag: str | Sequence[str] | None = None,
        as_of: Any = None,
        who: str | None = None,
    ) -> None:
        self._where = default_place() if where is None else os.fspath(where)
        if "://" not in self._where:  # a later change of folder does not matter
            self._where = str(Path(self._where).expanduser().absolute())
        super().__init__(Database.open(self._where), who)
        self.tag, self.as_of = tag, as_of
        self.last: Choice | None = None
        self._memory = Memory()

    @classmethod
    def create(cls, where: Pathish | None = None) -> Registry:
        """Make an empty registry, and open it.

        Raises
        ------
        OutputExistsError
            If something is there already.
        """
        place = default_place() if where is None else os.fspath(where)
        Database.create(place).close()
        return cls(place)

    # --- itself ---

    @property
    def url(self) -> str:
        """Where it is; a password is not shown."""
        return self._database.url

    @property
    def revision(self) -> int:
        """Number of the last event."""
        with self._database.read() as connection:
            return head(connection)[0]

    def close(self) -> None:
        """Close the database's connections."""
        self._database.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (type(self), self._where, self.tag, self.as_of, self.who)

    def __repr__(self) -> str:
        with self._database.read() as connection:
            totals, revision = listing.totals(connection), head(connection)[0]
        told = ", ".join(f"{count} {name}" for name, count in totals.items())
        return f"<Registry {self.url}: {told}, revision {revision}>"

    def _repr_html_(self) -> str:
        """How a notebook shows it: what it holds, by kind."""
        with self._database.read() as connection:
            return listing.html(connection, repr(self))

    # --- questions ---

    def get(self, kind: str, **question: Any) -> Product | Frame:
        """The calibration for an exposure, or the exposure's frame itself, read from its file.

        Parameters
        ----------
        kind : str
            Of a product: ``bias``, ``dark``, ``flat`` ...; ``raw``; ``calibrated`` (also ``visit_image``).
        instrument : str, optional
            Where the identifier of the exposure alone does not tell.
        exposure : str or int, optional
            Identifier; filter, time and all other facts follow from it.
        detector : str or int, optional
        time : int, str or datetime, optional
            Instead of an exposure.
        tag, as_of : optional
            As of `Registry`.
        level : int
            0 inside the validity; n: as far outside as the instrument's level n allows.
        drafts : bool
            Whether products that nobody certified may be chosen.
        **facts
            Further facts: ``filter="r"``, ``temperature=-10.0`` ...

        Returns
        -------
        Product or Frame
            With every plane in memory. What was chosen, and what there is to say about it, is in `last`; of a
            frame, in `notes`.

        Raises
        ------
        NoMatchError
            If no product fits; the nearest misses are named.
        AmbiguousError
            If several fit, or the question leaves open which exposure is meant.
        RegistryError
            If the file is lost or altered in every place that is known.
        """
        return answering.read(self._held(kind, question))

    def locate(self, kind: str, **question: Any) -> tuple[str, Choice | None]:
        """The file that `get` would read: its path, unharmed, and the choice if it is a product.

        Parameters
        ----------
        kind, **question
            As of `get`.
        """
        held = self._held(kind, question)
        path, choice = answering.path_of(held), held.choice
        if choice is not None:
            hash = file_hash(path)
            with self._database.read() as connection:
                if places.product_in(connection, hash) != choice.candidate.identity:
                    choice = replace(choice, notes=(*choice.notes, f"{path}: {_OTHER_BYTES}"))
        return path, choice

    def _held(self, kind: str, question: Mapping[str, Any]) -> answering.Held:
        self.last = None
        with self._database.read() as connection:
            held = answering.held(connection, self._question(kind, question), self._memory)
        self.last, self._said = held.choice, held.notes
        return held

    def choose(self, kind: str, **question: Any) -> Choice:
        """What `get` would read, without reading it; the arguments are those of `get`."""
        with self._database.read() as connection:
            return questions.choose(connection, self._question(kind, question), self._memory)

    def choose_for(self, kind: str, exposure: Exposure, **question: Any) -> Choice:
        """The product for an exposure that need not be ingested.

        Parameters
        ----------
        kind : str
        exposure : Exposure
        tag, as_of, level, drafts : optional
            As of `get`.
        """
        with self._database.read() as connection:
            asked = self._question(kind, question)
            return questions.for_exposure(connection, kind, exposure, asked, self._memory)

    def explain(self, kind: str, **question: Any) -> Explanation:
        """Every candidate of a question: chosen, or which rule refused it; arguments as of `get`."""
        from calibrant.registry import explain

        answering.refuse_frames(kind)
        with self._database.read() as connection:
            return explain.explain(connection, self._question(kind, question), self._memory)

    def _question(self, kind: str, given: Mapping[str, Any]) -> Question:
        return answering.question(kind, {"tag": self.tag, "as_of": self.as_of}, given)

    # --- what it holds ---

    def read(self, ref: Pathish | Choice) -> Product:
        """A product by its identity, the beginning of it, the path of its file, or as it was chosen."""
        with self._database.read() as connection:
            if isinstance(ref, Choice):
                identity, kind = ref.candidate.identity, ref.candidate.kind
            else:
                entry = listing.find(connection, os.fspath(ref))
                identity, kind = entry.identity, entry.kind
            found = places.of_product(connection, identity)
        return opening.read_product(identity, kind, found)

    def last_certified(self, ref: Pathish) -> Entry | None:
        """The product that was certified last of the same kind and setting as this one, if any."""
        with self._database.read() as connection:
            return listing.last_certified(connection, listing.find(connection, os.fspath(ref)))

    def files(self, hashes: Iterable[str]) -> dict[str, list[str]]:
        """Places of files by their hashes, the place seen last first."""
        with self._database.read() as connection:
            return places.of_hashes(connection, hashes)

    def products(self, **filters: Any) -> list[Entry]:
        """Products: those of a `kind`, `instrument`, `tag` or `state`; the first `limit` of them."""
        with self._database.read() as connection:
            return listing.products(connection, **filters)

    def count(self, **filters: Any) -> int:
        """How many products `products` would list without `limit`."""
        with self._database.read() as connection:
            return listing.count(connection, **filters)

    def totals(self) -> dict[str, int]:
        """How many products, exposures and calibrated frames there are."""
        with self._database.read() as connection:
            return listing.totals(connection)

    def kinds(self) -> dict[str, dict[str, int]]:
        """How many products of each kind are in each state."""
        with self._database.read() as connection:
            return listing.by_kind(connection)

    def instruments(self) -> list[str]:
        """Names of the instruments of products and exposures."""
        with self._database.read() as connection:
            return listing.instruments(connection)

    def exposures(self, **filters: Any) -> list[dict[str, Any]]:
        """Exposures as rows: those of a `kind`, `instrument`, `detector` or `exposure`; the first `limit`."""
        with self._database.read() as connection:
            return listing.exposures(connection, **filters)

    def events(self, ref: Pathish | None = None, *, limit: int | None = None) -> list[Event]:
        """What was reported of a product, or of everything; the newest first."""
        with self._database.read() as connection:
            identity = None if ref is None else listing.find(connection, os.fspath(ref)).identity
            return history.events(connection, identity, limit=limit)

    def verdict(self, ref: Pathish) -> Verdict | None:
        """The last verdict on a product, with its values and limits; None if it was never verified."""
        with self._database.read() as connection:
            return history.verdict(connection, listing.find(connection, os.fspath(ref)).identity)

    def values(self, ref: Pathish) -> list[dict[str, Any]]:
        """The quantities of a product as rows: name, place, value, sigma, unit."""
        with self._database.read() as connection:
            return history.values(connection, listing.find(connection, os.fspath(ref)).identity)

    def quantities(self, kind: str) -> list[str]:
        """Names of the quantities that products of a kind state."""
        with self._database.read() as connection:
            return history.names(connection, kind)

    def trend(self, kind: str, name: str, **filters: Any) -> list[Point]:
        """A quantity of all products of a kind by epoch: of an `instrument`, `detector` or `place`."""
        with self._database.read() as connection:
            return history.trend(connection, kind, name, **filters)

    def tags(self) -> dict[str, list[str]]:
        """Tags, each with those that follow it where it is searched."""
        with self._database.read() as connection:
            return listing.tags(connection)

    def contexts(self) -> dict[str, int]:
        """Frozen states: name -> revision."""
        with self._database.read() as connection:
            return listing.contexts(connection)

    def instrument(self, name: str) -> Instrument:
        """The model of an instrument as it was recorded last.

        Raises
        ------
        RegistryError
            If none was recorded.
        """
        with self._database.read() as connection:
            return listing.instrument(connection, name)

    def lineage(self, ref: Pathish) -> Lineage:
        """From a product, calibrated frame or raw file back to raw files.

        A file that is not in its place, or has another size, is told in `Node.problem`; `check` reads them.
        """
        with self._database.read() as connection:
            found = lineage.of(connection, naming.key_of(connection, os.fspath(ref)))
            known = listing.files_of(
                connection, (node.facts["hash"] for node in found.nodes.values() if "hash" in node.facts)
            )
        return opening.examined(found, known)

    def check(self, *, hashes: HashCache | None = None, progress: Progress | None = None) -> list[Trouble]:
        """Look at every file that the registry knows, and at the registry itself.

        Parameters
        ----------
        hashes : HashCache, optional
            Of files that were hashed before; by default every byte is read.
        progress : callable, optional
            Called as progress(done, total, what).
        """
        from calibrant.registry import checking

        with self._database.read() as connection:
            paths = listing.files(connection)
        ahead = opening.hashed_ahead(paths, hashes, progress)
        with self._database.read() as connection:
            return checking.check(connection, ahead)


def _reopened(kind: type[Registry], where: str, tag: Any, as_of: Any, who: str | None) -> Registry:
    return kind(where, tag=tag, as_of=as_of, who=who)
