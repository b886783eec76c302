"""What changes a registry, as its users say it: each call is one transaction, all of it or nothing."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from calibrant.errors import OptionError
from calibrant.files.hashing import HashCache
from calibrant.files.reading import Pathish
from calibrant.frame import Exposure, Frame
from calibrant.instrument.model import Instrument
from calibrant.product import Product
from calibrant.registry import events, lineage, listing, naming, opening, places
from calibrant.registry.database import Database, Writing
from calibrant.registry.ingest import ingest
from calibrant.registry.records import CalibratedFile, Draft, Entry, Ingested, Verdict

Progress = Callable[[int, int, str], None]


class Recording:
    """The part of a `Registry` that writes.

    Parameters
    ----------
    database : Database
    who : str, optional
        Recorded with what is certified or withdrawn; by default the user's name.
    """

    def __init__(self, database: Database, who: str | None = None) -> None:
        self.who = who
        self._database = database
        self._said: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences from opening it, and from the last writing or the last frame that was asked for."""
        return (*self._database.notes, *self._said)

    def entry(self, ref: Pathish) -> Entry:
        """What is known of a product: state, validity, verdict, places, taint.

        Raises
        ------
        RegistryError
            If it is unknown.
        """
        with self._database.read() as connection:
            return listing.find(connection, os.fspath(ref))

    def known(self, identity: str) -> Entry | None:
        """What is known of the product of an identity; None if nothing is."""
        with self._database.read() as connection:
            return listing.of_identity(connection, identity)

    def ingest(
        self,
        exposures: Iterable[Exposure],
        *,
        instrument: Instrument | None = None,
        again: bool = False,
        progress: Progress | None = None,
        hashes: HashCache | None = None,
    ) -> Ingested:
        """Record raw exposures: facts, hash, size, and where the bytes are.

        Parameters
        ----------
        exposures : Exposures, or iterable of Exposure
            With paths; those that are known are not recorded again.
        instrument : Instrument, optional
            By default the one of `exposures`.
        again : bool
            Whether facts that read otherwise now replace those recorded before, which an `as_of` of before
            still answers with.
        progress : callable, optional
            Called as progress(done, total, what).
        hashes : HashCache, optional
            Of files that were hashed before; by default those kept beside a database that is a file.
        """
        model = instrument or getattr(exposures, "instrument", None)
        if not isinstance(model, Instrument):
            raise OptionError("exposures without an instrument", do="say instrument=, or give an Exposures")
        listed = list(exposures)
        paths = [one.path for one in listed if one.path is not None and one.kind != "product"]
        cache = self._cache() if hashes is None else hashes
        known = opening.hashed_ahead(paths, cache, progress)
        with self._writing() as writing:
            done = ingest(writing, listed, known, model, again)
        cache.save()
        return done

    def add(self, product: Product, path: Pathish, *, instrument: Instrument | None = None) -> Entry:
        """Record a product that lies in a file as a draft.

        Parameters
        ----------
        product : Product
        path : path
            Of its file.
        instrument : Instrument, optional
            Its keys, tolerances and levels; by default the one that comes with Calibrant by that name.
        """
        model = _model(product.instrument) if instrument is None else instrument
        self.record([opening.draft_of(product, path)], {} if model is None else {product.instrument: model})
        return self.entry(product.identity)

    def add_frame(self, frame: Frame, path: Pathish, *, raw: Pathish) -> bool:
        """Record a calibrated frame that lies in a file, with the products that were applied to it.

        Parameters
        ----------
        frame : Frame
        path : path
            Of its file.
        raw : path
            Its raw file, which was ingested.

        Returns
        -------
        bool
            Whether it is new.
        """
        hashes = opening.hashing()
        where = places.absolute(os.fspath(path))
        used = [(step.product, "parent", step.effect) for step in frame.history if step.product is not None]
        steps = [{"effect": step.effect, "options": step.options} for step in frame.history]
        made = CalibratedFile(hashes(os.fspath(raw))[0], where, *hashes(where), used, {"steps": steps})
        with self._writing() as writing:
            return events.add_frame(writing, **_frame_columns(made))

    def record(
        self,
        drafts: Sequence[Draft],
        instruments: Mapping[str, Instrument],
        frames: Iterable[CalibratedFile] = (),
        exposures: Iterable[Exposure] = (),
        hashes: HashCache | None = None,
    ) -> list[str]:
        """Record a whole reduction, all or nothing: raw exposures, products as drafts, calibrated frames.

        Parameters
        ----------
        drafts : sequence of Draft
        instruments : mapping of str to Instrument
            Models by name.
        frames : iterable of CalibratedFile
        exposures : iterable of Exposure
            Of one of the instruments each.
        hashes : HashCache, optional
            Of files that were hashed before.

        Returns
        -------
        list of str
            Sentences: what was known already.
        """
        listed = list(exposures)
        paths = [one.path for one in listed if one.path is not None and one.kind != "product"]
        known = opening.hashed_ahead(paths, hashes)
        with self._writing() as writing:
            notes: list[str] = []
            for name in dict.fromkeys(one.instrument for one in listed):
                own = [one for one in listed if one.instrument == name]
                notes += ingest(writing, own, known, instruments[name]).notes
            notes += events.add(writing, drafts, instruments)
            for frame in frames:
                events.add_frame(writing, **_frame_columns(frame))
        return notes

    def verified(self, verdict: Verdict) -> Entry:
        """Record a verdict on a product.

        Raises
        ------
        RegistryError
            If the product is unknown.
        """
        with self._writing() as writing:
            events.verified(writing, verdict)
        return self.entry(verdict.identity)

    def certify(
        self,
        ref: Pathish,
        begin: Any = None,
        end: Any = None,
        *,
        tag: str = "default",
        replace: bool = False,
        force: str | None = None,
    ) -> tuple[Entry, tuple[str, ...]]:
        """Certify a product: it is valid from `begin` (inclusive) to `end` (exclusive) under a tag.

        Parameters
        ----------
        ref : str or path
            Identity, its beginning, or the path of its file.
        begin, end : int, datetime or str, optional
            Microseconds since 1970 UTC, or a time; None is open.
        tag : str
            Made if it is new.
        replace : bool
            Whether certifications that overlap end there; what remains of them stays valid.
        force : str, optional
            Reason to certify a product without a verdict that passed; recorded.

        Returns
        -------
        entry : Entry
        notes : tuple of str
            What was replaced, a zone that was assumed, a missing verdict.

        Raises
        ------
        RegistryError
            If the product is unknown or withdrawn, or no verdict passed and there is no `force`.
        OptionError
            If `begin` is not before `end`.
        OverlapError
            If another certification overlaps and `replace` is not given.
        """
        identity = self.entry(ref).identity  # before the lock is taken: a file is hashed for it
        with self._writing() as writing:
            notes = events.certify(
                writing, identity, begin, end, tag, replace=replace, force=force, who=self._author()
            )
        return self.entry(identity), tuple(notes)

    def certify_many(
        self, spans: Sequence[tuple[str, Any, Any]], *, tag: str = "default", force: str | None = None
    ) -> int:
        """Certify many products at once, all or none: (identity, begin, end) of each; returns how many."""
        with self._writing() as writing:
            return events.certify_many(writing, spans, tag, force=force, who=self._author())

    def withdraw(self, ref: Pathish, why: str) -> tuple[str, ...]:
        """Withdraw a product, a calibrated frame or a raw file; nothing chooses it any more.

        Returns
        -------
        tuple of str
            Products and frames that were made of it: they are tainted now.

        Raises
        ------
        RegistryError
            If it is unknown, or was withdrawn before.
        """
        with self._database.read() as connection:
            key = naming.key_of(connection, os.fspath(ref))
        with self._writing() as writing:
            events.withdraw(writing, key, why, self._author())
            return tuple(sorted(lineage.descendants(writing.connection, [key])))

    def chain(self, tag: str, members: Sequence[str]) -> int:
        """Let a tag be followed by others where it is searched; returns the revision."""
        with self._writing() as writing:
            return events.chain(writing, tag, members)

    def freeze(self, name: str, why: str = "") -> int:
        """Give the present state a name, to be used as `as_of`; returns its revision."""
        with self._writing() as writing:
            return events.freeze(writing, name, why)

    @contextmanager
    def _writing(self) -> Iterator[Writing]:
        self._said = ()
        with self._database.write() as writing:
            yield writing
        self._said = tuple(writing.notes)

    def _cache(self) -> HashCache:
        """Hashes by device, inode, size and time of change, kept beside a database that is a file."""
        file = self._database.file
        return HashCache(None if file is None else file.with_name(f".{file.name}.hashes"))

    def _author(self) -> str | None:
        if self.who is None:
            try:
                self.who = getpass.getuser()
            except (OSError, KeyError, ImportError):  # no such user, as in a container
                return None
        return self.who


def _frame_columns(frame: CalibratedFile) -> dict[str, Any]:
    columns = dict(vars(frame))
    return {"exposure_hash": columns.pop("raw"), **columns}


def _model(name: str) -> Instrument | None:
    """The instrument that comes with Calibrant by that name."""
    from calibrant.instrument import load, names

    return load(name) if name in names() else None
