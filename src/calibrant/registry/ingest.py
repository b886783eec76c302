"""Exposures into the registry: facts, hash, size, and where the bytes are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePath
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update

from calibrant.errors import FileError
from calibrant.files.header import inspect
from calibrant.frame import Exposure
from calibrant.instrument.model import Instrument
from calibrant.registry import places, schema
from calibrant.registry.database import Writing
from calibrant.registry.drafts import record_instrument
from calibrant.registry.facts import REREAD, exposure_json, text_of
from calibrant.registry.records import Ingested

Hashes = Callable[[str], tuple[str, int]]
"""Path -> hash and size in bytes."""

BATCH = 1000
PACKED = frozenset({".gz", ".fz", ".bz2", ".z", ".xz", ".zst"})
SENTENCES = 20  # two files that claim to be one exposure: so many are told in full


class _File(NamedTuple):
    exposure: Exposure
    identifier: str
    path: str
    hash: str
    size: int


@dataclass
class _Done:
    """What was done so far."""

    new: int = 0
    known: int = 0
    moved: int = 0
    groups: dict[str, list[str]] = field(default_factory=dict)
    claims: list[str] = field(default_factory=list)
    reread: list[tuple[_File, str]] = field(default_factory=list)  # beside the facts of before

    def note(self, what: str, path: str) -> None:
        """Remember a path for a sentence about all of its sort."""
        self.groups.setdefault(what, []).append(path)

    def notes(self) -> Iterator[str]:
        """The sentences."""
        yield from self.claims[:SENTENCES]
        if len(self.claims) > SENTENCES:
            yield f"and {len(self.claims) - SENTENCES} more pairs of files that claim to be the same exposure"
        for what, paths in self.groups.items():
            yield f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {what}"


def ingest(
    writing: Writing,
    exposures: Iterable[Exposure],
    hashes: Hashes,
    instrument: Instrument,
    again: bool = False,
) -> Ingested:
    """Record exposures; those that are known, by the hash of their file, are not recorded again.

    Parameters
    ----------
    writing : Writing
    exposures : iterable of Exposure
        With paths. Products, and frames that were calibrated by us, are left out and told.
    hashes : callable
        Path -> hash and size in bytes.
    instrument : Instrument
        Whose rules translated the headers; its model is recorded.
    again : bool
        Whether the facts of exposures that are known are replaced by those that are read now, as after a
        correction of the instrument file; questions as of before are answered with the former ones.

    Returns
    -------
    Ingested
    """
    record_instrument(writing, instrument)
    done = _Done()
    firsts = _first_of_each_file(exposures, done)
    waiting = (found for exposure in firsts if (found := _file(exposure, hashes, done)) is not None)
    while batch := list(islice(waiting, BATCH)):
        _ingest(writing, batch, instrument.name, done, again)
    return Ingested(done.new, done.known, done.moved, tuple(done.notes()))


def identifier_of(exposure: Exposure) -> str:
    """The identifier of an exposure: the header's, else the stem of its file (``a`` of ``a.fits.gz``)."""
    if exposure.identifier:
        return str(exposure.identifier)
    name = PurePath(exposure.path or "")
    return PurePath(name.stem).stem if name.suffix.lower() in PACKED else name.stem


def _first_of_each_file(exposures: Iterable[Exposure], done: _Done) -> Iterator[Exposure]:
    """Exposures without the further ones of a file that holds several: files are what is recorded."""
    seen: dict[str, int] = {}
    for exposure in exposures:
        if exposure.path is not None:
            seen[exposure.path] = seen.get(exposure.path, 0) + 1
        if exposure.path is None or seen[exposure.path] == 1:
            yield exposure
        elif seen[exposure.path] == 2:  # told once
            done.note("it holds several exposures, and is recorded as the first of them", exposure.path)


def _file(exposure: Exposure, hashes: Hashes, done: _Done) -> _File | None:
    """The file of an exposure, or None if it is not one to be ingested."""
    path = exposure.path
    if path is None:
        done.note("it has no file, and is left out", exposure.identifier or "a frame in memory")
    elif not places.is_text(path):
        done.note("a path that is not UTF-8 text cannot be stored: rename the file", ascii(path))
    elif exposure.kind == "product":
        done.note("it is a product, not a raw frame, and is left out", path)
    else:
        try:
            if exposure.applied and inspect(path).hdus[0].header.get("CALFORM") is not None:
                done.note("it was calibrated already, and is left out", path)
                return None
            hash, size = hashes(path)
        except (FileError, OSError) as error:
            done.note(f"it cannot be read and is left out ({error})", path)
            return None
        return _File(exposure, identifier_of(exposure), places.absolute(path), hash, size)
    return None


def _ingest(writing: Writing, batch: list[_File], instrument: str, done: _Done, again: bool) -> None:
    """One batch of files."""
    known = _known(writing.connection, batch, instrument)
    held = places.of_hashes(writing.connection, (file.hash for file in batch))
    places.record(writing.connection, [(file.hash, file.size, file.path) for file in batch], writing.at)
    new: dict[str, _File] = {}
    for file in batch:
        if file.hash in known:
            _again(file, known[file.hash], file.path in held.get(file.hash, ()), done)
        elif file.hash in new:
            done.moved += 1
        else:
            new[file.hash] = file
    _tell_claims(writing.connection, list(new.values()), instrument, done)
    _reread(writing, instrument, done, again)
    if new:
        _record(writing, list(new.values()), instrument)
    done.new += len(new)
    for file in new.values():
        if file.exposure.start is None:
            done.note("no time of exposure is known: no calibration can be chosen by time", file.path)


def _known(connection: Connection, batch: list[_File], instrument: str) -> dict[str, str]:
    """Exposures of this instrument that are there: hash -> facts."""
    table = schema.exposure
    found: dict[str, str] = {}
    for some in places.chunks(file.hash for file in batch):
        rows = connection.execute(
            select(table.c.hash, table.c.facts)
            .where(table.c.hash.in_(some), table.c.instrument == instrument)
            .order_by(table.c.id)
        )
        found.update((hash, facts) for hash, facts in rows)
    return found


def _again(file: _File, facts: str, same_place: bool, done: _Done) -> None:
    """A file that is known: count it, and see if its facts would read otherwise today."""
    if same_place:
        done.known += 1
    else:
        done.moved += 1
    before, now = json.loads(facts), json.loads(exposure_json(file.exposure))
    before.pop("path", None)
    now.pop("path", None)
    if before != now:
        done.reread.append((file, facts))


def _tell_claims(connection: Connection, new: list[_File], instrument: str, done: _Done) -> None:
    """Tell of files that claim to be an exposure which another file is already."""
    table = schema.exposure
    others: dict[tuple[str, str], str] = {}
    for some in places.chunks(file.identifier for file in new):
        rows = connection.execute(
            select(*table.c["identifier", "detector", "hash"])
            .where(table.c.identifier.in_(some), table.c.instrument == instrument)
            .order_by(table.c.id)
        )
        others.update({(identifier, detector): hash for identifier, detector, hash in rows})
    held = places.of_hashes(connection, others.values())
    where = {claim: held.get(hash, [""])[0] for claim, hash in others.items()}
    for file in new:
        claim = file.identifier, str(file.exposure.detector)
        if claim in where:
            done.claims.append(_claimed(file, where[claim]))
        where.setdefault(claim, file.path)


def _claimed(file: _File, other: str) -> str:
    name = f"exposure {file.identifier!r} of detector {file.exposure.detector}"
    if not other:  # the file that was known is nowhere any more: most likely it lay here
        return f"{file.path} is not the file that was recorded as {name}: both are known now"
    return (
        f"{file.path} and {other} differ and claim to be the same {name}:"
        " both are recorded; say time= to tell them apart"
    )


def _reread(writing: Writing, instrument: str, done: _Done, again: bool) -> None:
    """Tell of exposures whose facts read otherwise; if asked, the new ones count from now on."""
    if again:
        kept = [
            {"subject": file.hash, "facts": {"instrument": instrument, "facts": json.loads(before)}}
            for file, before in done.reread
        ]
        writing.events(REREAD, kept)
    table = schema.exposure
    what = "its facts read otherwise now than when it was ingested"
    for file, _ in done.reread:
        if again:
            same = table.c.hash == file.hash, table.c.instrument == instrument
            writing.connection.execute(update(table).where(*same).values(_columns(file)))
            done.note(f"{what}: those of now count", file.path)
        else:
            done.note(f"{what}; those recorded then stay, unless you ingest it with --again", file.path)
    done.reread.clear()


def _record(writing: Writing, new: list[_File], instrument: str) -> None:
    """Rows of new exposures, under one event."""
    revision = writing.event("ingested", subject=instrument, facts=text_of({"count": len(new)}))
    rows = [
        {**_columns(file), "instrument": instrument, "hash": file.hash, "revision": revision} for file in new
    ]
    writing.connection.execute(insert(schema.exposure), rows)


def _columns(file: _File) -> dict[str, Any]:
    """What the table holds of the facts of an exposure."""
    exposure = file.exposure
    return {
        "identifier": file.identifier,
        "detector": str(exposure.detector),
        "kind": exposure.kind,
        "filter": exposure.filter,
        "start": exposure.start,
        "mid": exposure.mid,
        "facts": exposure_json(exposure),
    }
