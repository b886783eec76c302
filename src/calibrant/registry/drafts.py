"""What is recorded of products and calibrated frames when they are made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, insert, select

from calibrant.errors import RegistryError
from calibrant.instrument.model import Instrument
from calibrant.registry import places, schema, words
from calibrant.registry.database import Writing
from calibrant.registry.facts import keys_text, text_of
from calibrant.registry.records import Draft

Setting = tuple[str, str, str, str]
"""Kind, instrument, detector and canonical keys."""


def add(writing: Writing, drafts: Sequence[Draft], instruments: Mapping[str, Instrument]) -> list[str]:
    """Record products as drafts, all or none.

    A product that is known, by its identity, is not recorded again; a new place of its file is.

    Parameters
    ----------
    writing : Writing
    drafts : sequence of Draft
    instruments : mapping of str to Instrument
        Models by name; those of the drafts are recorded as they are now.

    Returns
    -------
    list of str
        Sentences about products that were known.

    Raises
    ------
    RegistryError
        If a path cannot be stored.
    """
    _refuse_odd_paths(draft.path for draft in drafts)
    for name in dict.fromkeys(draft.instrument for draft in drafts):
        if name in instruments:
            record_instrument(writing, instruments[name])
    files = [(draft.hash, draft.size, places.absolute(draft.path)) for draft in drafts]
    places.record(writing.connection, files, writing.at)
    known = _known(writing.connection, drafts)
    new: dict[str, Draft] = {}
    for draft in drafts:
        if draft.identity not in known:
            new.setdefault(draft.identity, draft)
    known |= _record(writing, list(new.values()))
    notes = []
    for draft in drafts:
        if new.get(draft.identity) is not draft:
            notes.append(f"the {draft.kind} {words.short(draft.identity)} is known already ({draft.path})")
        if draft.hash != known[draft.identity][1]:
            _copy(writing, draft, known[draft.identity][0])
    return notes


def add_frame(
    writing: Writing,
    exposure_hash: str,
    path: str,
    hash: str,
    size: int,
    inputs: Sequence[tuple[str, str, str]],
    facts: Mapping[str, Any],
) -> bool:
    """Record a calibrated frame, and what it was made of.

    Parameters
    ----------
    writing : Writing
    exposure_hash : str
        Of the raw file.
    path, hash, size
        Of the calibrated file; bytes.
    inputs : sequence of (parent, role, name)
        Identities of the products that were applied; the raw file is added.
    facts : mapping
        JSON-able: steps, recipe, versions.

    Returns
    -------
    bool
        Whether it is new.

    Raises
    ------
    RegistryError
        If the raw exposure was not ingested, or the path cannot be stored.
    """
    connection, exposure, frame = writing.connection, schema.exposure, schema.frame
    _refuse_odd_paths([path])
    raw = connection.execute(
        select(exposure.c.id, exposure.c.identifier)
        .where(exposure.c.hash == exposure_hash)
        .order_by(exposure.c.id.desc())
    ).first()
    if raw is None:
        raise RegistryError(
            "the raw exposure of this frame is not in the registry", where=path, do="ingest it first"
        )
    places.record(connection, [(hash, size, places.absolute(path))], writing.at)
    same = select(frame.c.id).where(frame.c.exposure == raw.id, frame.c.hash == hash)
    if connection.execute(same).first() is not None:
        return False
    revision = writing.event("calibrated", subject=hash, facts=text_of({"raw": exposure_hash}))
    connection.execute(
        insert(frame).values(exposure=raw.id, hash=hash, facts=text_of(facts), revision=revision)
    )
    _insert(connection, schema.lineage, _edges(hash, [*inputs, (exposure_hash, "input", raw.identifier)]))
    return True


def record_instrument(writing: Writing, instrument: Instrument) -> None:
    """Record an instrument's model, unless it is the one recorded last.

    Parameters
    ----------
    writing : Writing
    instrument : Instrument
        Its keys, tolerances and levels are used for questions as of now, whatever its file says later.
    """
    table, model = schema.instrument, instrument.model_dump_json()
    last = (
        select(table.c.model)
        .where(table.c.name == instrument.name)
        .order_by(table.c.revision.desc(), table.c.id.desc())
        .limit(1)
    )
    if writing.connection.execute(last).scalar() != model:
        revision = writing.event("instrument", subject=instrument.name)
        values = {"name": instrument.name, "model": model, "revision": revision}
        writing.connection.execute(insert(table).values(values))


def _refuse_odd_paths(paths: Iterable[str]) -> None:
    for path in paths:
        if not places.is_text(path):
            raise RegistryError(
                "a path that is not UTF-8 text cannot be stored", got=ascii(path), do="rename the file"
            )


def _known(connection: Connection, drafts: Sequence[Draft]) -> dict[str, tuple[int, str]]:
    """Products that are there: identity -> number, hash of the first file."""
    table, found = schema.product, {}
    for some in places.chunks(draft.identity for draft in drafts):
        rows = connection.execute(
            select(*table.c["identity", "id", "hash"]).where(table.c.identity.in_(some))
        )
        found.update({identity: (number, hash) for identity, number, hash in rows})
    return found


def _record(writing: Writing, drafts: Sequence[Draft]) -> dict[str, tuple[int, str]]:
    """Products, their events, quantities and lineage; returns identity -> number, hash."""
    if not drafts:
        return {}
    connection, table = writing.connection, schema.product
    settings = [_setting(draft) for draft in drafts]
    numbers = _settings(connection, settings)
    first = writing.revision + 1  # of the events that follow, under the lock of this transaction
    _insert(
        connection,
        table,
        (
            {
                "identity": draft.identity,
                "setting": numbers[setting],
                "kind": draft.kind,
                "epoch": draft.epoch,
                "hash": draft.hash,
                "facts": text_of(draft.facts),
                "revision": revision,
            }
            for revision, (draft, setting) in enumerate(zip(drafts, settings, strict=True), first)
        ),
    )
    known = _known(connection, drafts)
    writing.events(
        "draft",
        [{"subject": draft.identity, "product": known[draft.identity][0]} for draft in drafts],
    )
    _insert(
        connection,
        schema.quantity,
        (row for draft in drafts for row in _quantities(draft, known[draft.identity][0])),
    )
    _insert(connection, schema.lineage, (row for draft in drafts for row in _edges_of(draft)))
    return known


def _copy(writing: Writing, draft: Draft, product: int) -> None:
    """The same product in a file of other bytes: both are its files from now on."""
    event = schema.event
    copies = select(event.c.revision).where(
        event.c.product == product, event.c.kind == places.COPIED, event.c.subject == draft.hash
    )
    if writing.connection.execute(copies).first() is None:
        writing.event(places.COPIED, product=product, subject=draft.hash)


def _setting(draft: Draft) -> Setting:
    detector = draft.keys.get("detector")
    return draft.kind, draft.instrument, "" if detector is None else str(detector), keys_text(draft.keys)


def _settings(connection: Connection, wanted: Sequence[Setting]) -> dict[Setting, int]:
    """Numbers of settings; missing ones are made."""
    table = schema.setting
    found: dict[Setting, int] = {}
    columns = (table.c.kind, table.c.instrument, table.c.detector, table.c["keys"])
    for place in dict.fromkeys(setting[:3] for setting in wanted):
        rows = connection.execute(
            select(*columns, table.c.id).where(
                table.c.kind == place[0], table.c.instrument == place[1], table.c.detector == place[2]
            )
        )
        found.update({(kind, name, detector, keys): number for kind, name, detector, keys, number in rows})
    for setting in dict.fromkeys(wanted):
        if setting not in found:
            values = dict(zip(("kind", "instrument", "detector", "keys"), setting, strict=True))
            found[setting] = connection.execute(
                insert(table).values(values).returning(table.c.id)
            ).scalar_one()
    return found


def _quantities(draft: Draft, product: int) -> Iterator[dict[str, Any]]:
    rows = {(name, place): (value, sigma, unit) for name, place, value, sigma, unit in draft.quantities}
    for (name, place), (value, sigma, unit) in rows.items():
        yield {
            "product": product,
            "name": name,
            "place": place,
            "value": _number(value),
            "sigma": _number(sigma),
            "unit": unit,
        }


def _number(value: float | None) -> float | None:
    """A number for a column; one that is none is unknown, since SQLite knows no NaN."""
    return None if value is None or math.isnan(value) else float(value)


def _edges_of(draft: Draft) -> list[dict[str, str]]:
    inputs = [(hash or f"name:{name}", "input", name) for hash, name in draft.inputs]
    return _edges(draft.identity, [*inputs, *((parent, "parent", "") for parent in draft.parents)])


def _edges(child: str, parents: Iterable[tuple[str, str, str]]) -> list[dict[str, str]]:
    once = {(parent, role): name for parent, role, name in parents}
    return [
        {"child": child, "parent": parent, "role": role, "name": name}
        for (parent, role), name in once.items()
    ]


def _insert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Many rows in one statement, if there are any."""
    listed = list(rows)
    if listed:
        connection.execute(insert(table), listed)
