"""What a registry holds, as entries: one thing by what a person calls it, or many for a list."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from sqlalchemy import Connection, Row, exists, func, select, union

from calibrant.errors import OptionError, RegistryError
from calibrant.instrument.model import Instrument
from calibrant.registry import lineage, naming, places, schema, words
from calibrant.registry.facts import keys_of
from calibrant.registry.records import Entry
from calibrant.registry.schema import ALWAYS, FOREVER
from calibrant.registry.slots import distance, model_of

STATES = ("draft", "certified", "superseded", "withdrawn")

_product, _event, _validity = schema.product, schema.event, schema.current_validity


def find(connection: Connection, ref: str) -> Entry:
    """A product by what a person calls it.

    Parameters
    ----------
    connection : Connection
    ref : str
        Its identity, the beginning of it (six hex digits or more, with or without ``sha256:``), or the path
        of its file.

    Raises
    ------
    RegistryError
        If the registry knows no such product.
    AmbiguousError
        If several identities begin so.
    """
    found = of_identity(connection, naming.product_key(connection, ref))
    if found is None:
        raise RegistryError("this is no product", where=ref, do="give a product: calibrant registry ls")
    return found


def of_identity(connection: Connection, identity: str) -> Entry | None:
    """The product of an identity; None if there is none."""
    rows = connection.execute(_rows().where(_product.c.identity == identity)).all()
    return _entries(connection, rows)[0] if rows else None


def products(
    connection: Connection,
    *,
    kind: str | None = None,
    instrument: str | None = None,
    tag: str | None = None,
    state: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[Entry]:
    """Products, by kind, instrument, detector and epoch.

    Parameters
    ----------
    connection : Connection
    kind, instrument : str, optional
    tag : str, optional
        Only those that are certified under it now.
    state : str, optional
        ``draft``, ``certified``, ``superseded`` or ``withdrawn``.
    limit, offset : int, optional
        So many, after so many others.

    Raises
    ------
    RegistryError
        If the kind, instrument or tag is unknown.
    OptionError
        If the state is none.
    """
    statement = _rows().order_by(
        _product.c.kind,
        schema.setting.c.instrument,
        schema.setting.c.detector,
        _product.c.epoch,
        _product.c.identity,
    )
    for rule in _rules(connection, kind, instrument, tag, state):
        statement = statement.where(rule)
    return _entries(connection, connection.execute(statement.limit(limit).offset(offset)).all())


def count(
    connection: Connection,
    *,
    kind: str | None = None,
    instrument: str | None = None,
    tag: str | None = None,
    state: str | None = None,
) -> int:
    """How many products there are; the filters are those of `products`."""
    statement = select(func.count()).select_from(_product.join(schema.setting))
    for rule in _rules(connection, kind, instrument, tag, state):
        statement = statement.where(rule)
    return int(connection.execute(statement).scalar_one())


def exposures(
    connection: Connection,
    *,
    kind: str | None = None,
    instrument: str | None = None,
    detector: str | None = None,
    exposure: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> list[dict[str, Any]]:
    """Exposures as rows, by instrument, time and detector.

    Parameters
    ----------
    connection : Connection
    kind, instrument, detector : str, optional
    exposure : str, optional
        Its identifier.
    limit, offset : int, optional
        So many, after so many others.

    Returns
    -------
    list of dict
        exposure, instrument, detector, kind, filter, time, mid (microseconds UTC), path, hash; calibrated,
        the hash of the newest calibrated frame, or None.
    """
    table, frame = schema.exposure, schema.frame
    given = {"kind": kind, "instrument": instrument, "detector": detector, "identifier": exposure}
    newest = (
        select(frame.c.hash)
        .where(frame.c.exposure == table.c.id)
        .order_by(frame.c.revision.desc(), frame.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(table, newest.label("calibrated"))
        .where(*(table.c[name] == str(value) for name, value in given.items() if value is not None))
        .order_by(table.c.instrument, table.c.start, table.c.identifier, table.c.detector, table.c.id)
        .limit(limit)
        .offset(offset)
    ).all()
    held = places.of_hashes(connection, (row.hash for row in rows))
    return [
        {
            "exposure": row.identifier,
            "instrument": row.instrument,
            "detector": row.detector,
            "kind": row.kind,
            "filter": row.filter,
            "time": None if row.start is None else words.moment(row.start),
            "mid": row.mid,
            "path": held.get(row.hash, [None])[0],
            "hash": row.hash,
            "calibrated": row.calibrated,
        }
        for row in rows
    ]


def totals(connection: Connection) -> dict[str, int]:
    """How many products, exposures and calibrated frames there are."""
    tables = {"products": _product, "exposures": schema.exposure, "frames": schema.frame}
    return {
        name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
        for name, table in tables.items()
    }


def by_kind(connection: Connection) -> dict[str, dict[str, int]]:
    """How many products of each kind are in each state."""
    found: dict[str, dict[str, int]] = {}
    for state in STATES:
        rows = connection.execute(
            select(_product.c.kind, func.count()).where(_in_state(state)).group_by(_product.c.kind)
        )
        for kind, number in rows:
            found.setdefault(kind, {})[state] = number
    return dict(sorted(found.items()))


def instruments(connection: Connection) -> list[str]:
    """Names of the instruments of products and exposures."""
    named = union(select(schema.setting.c.instrument), select(schema.exposure.c.instrument))
    return sorted(connection.execute(named).scalars())


def last_certified(connection: Connection, entry: Entry) -> Entry | None:
    """The product that was certified last of the same kind and setting, within the instrument's tolerances.

    Parameters
    ----------
    connection : Connection
    entry : Entry
        Itself it does not count.
    """
    setting = schema.setting
    detector = entry.keys.get("detector")
    rows = connection.execute(
        _rows()
        .join(_validity, _validity.c.product == _product.c.id)
        .where(
            _product.c.kind == entry.kind,
            setting.c.instrument == entry.instrument,
            setting.c.detector == ("" if detector is None else str(detector)),
            _product.c.identity != entry.identity,
        )
        .order_by(_validity.c.event.desc())
    )
    model = model_of(connection, entry.instrument)
    for row in rows:
        if distance(model, entry.keys, keys_of(row.keys_text)) is not None:
            return _entries(connection, [row])[0]
    return None


def html(connection: Connection, title: str) -> str:
    """What it holds, by kind and state, for a notebook."""
    cells = [["kind", *STATES]]
    for kind, own in by_kind(connection).items():
        cells.append([kind, *(str(own.get(state, 0)) for state in STATES)])
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    return f"<p>{escape(title)}</p><table>{rows}</table>"


def files(connection: Connection) -> list[str]:
    """Every path that the registry knows."""
    return list(connection.execute(select(schema.place.c.path).distinct()).scalars())


def held(connection: Connection, path: str) -> tuple[str, list[str]]:
    """The file that a place holds: its hash, and all its places, this one first."""
    place = schema.place
    hash = connection.execute(
        select(place.c.hash).where(place.c.path == path).order_by(place.c.seen.desc()).limit(1)
    ).scalar_one()
    others = places.of_hashes(connection, [hash]).get(hash, [])
    return hash, list(dict.fromkeys([path, *others]))


def files_of(connection: Connection, hashes: Iterable[str]) -> dict[str, tuple[int, list[str]]]:
    """Size in bytes and places of files, by hash."""
    listed = list(hashes)
    held = places.of_hashes(connection, listed)
    found: dict[str, tuple[int, list[str]]] = {}
    for some in places.chunks(listed):
        rows = connection.execute(select(schema.file).where(schema.file.c.hash.in_(some)))
        found.update((row.hash, (row.size, held.get(row.hash, []))) for row in rows)
    return found


def instrument(connection: Connection, name: str) -> Instrument:
    """The model of an instrument as it was recorded last.

    Raises
    ------
    RegistryError
        If none was recorded.
    """
    _refuse_unknown(connection, "instrument", schema.instrument.c.name, name)
    return model_of(connection, name)


def contexts(connection: Connection) -> dict[str, int]:
    """Frozen states: name -> revision."""
    rows = connection.execute(
        select(*schema.context.c["name", "revision"]).order_by(schema.context.c.revision)
    )
    return {row.name: row.revision for row in rows}


def tags(connection: Connection) -> dict[str, list[str]]:
    """Tags, each with those that follow it."""
    tag, member = schema.tag, schema.tag_member
    names = {row.id: row.name for row in connection.execute(select(tag).order_by(tag.c.name))}
    found: dict[str, list[str]] = {name: [] for name in names.values()}
    rows = connection.execute(select(member).order_by(member.c.tag, member.c.priority))
    for row in rows:
        found[names[row.tag]].append(names[row.member])
    return found


# --- entries ----------------------------------------------------------------------------------------------


def _rows() -> Any:
    setting = schema.setting
    return select(_product, setting.c.instrument, setting.c["keys"].label("keys_text")).select_from(
        _product.join(setting, setting.c.id == _product.c.setting)
    )


def _rules(
    connection: Connection, kind: str | None, instrument: str | None, tag: str | None, state: str | None
) -> Iterable[Any]:
    setting = schema.setting
    if kind is not None:
        _refuse_unknown(connection, "kind", setting.c.kind, kind)
        yield _product.c.kind == kind
    if instrument is not None:
        _refuse_unknown(connection, "instrument", setting.c.instrument, instrument)
        yield setting.c.instrument == instrument
    if tag is not None:
        _refuse_unknown(connection, "tag", schema.tag.c.name, tag)
        yield _product.c.id.in_(
            select(_validity.c.product)
            .select_from(_validity.join(schema.slot, schema.slot.c.id == _validity.c.slot).join(schema.tag))
            .where(schema.tag.c.name == tag)
        )
    if state is not None:
        if state not in STATES:
            raise OptionError("this is no state of a product", expected=", ".join(STATES), got=state)
        yield _in_state(state)


def _refuse_unknown(connection: Connection, what: str, column: Any, name: str) -> None:
    if connection.execute(select(column).where(column == name).limit(1)).first() is None:
        raise words.no_such(what, name, connection.execute(select(column).distinct()).scalars())


def _in_state(state: str) -> Any:
    def happened(kind: str) -> Any:
        return exists().where(_event.c.product == _product.c.id, _event.c.kind == kind)

    alive = exists().where(_validity.c.product == _product.c.id)
    if state == "withdrawn":
        return happened("withdrawn")
    if state == "certified":
        return alive
    if state == "superseded":
        return happened("certified") & ~alive & ~happened("withdrawn")
    return ~happened("certified") & ~happened("withdrawn")


def _entries(connection: Connection, rows: Sequence[Row[Any]]) -> list[Entry]:
    ids = [row.id for row in rows]
    spans, verdicts = _spans(connection, ids), _verdicts(connection, ids)
    gone = _with_event(connection, ids, "withdrawn")
    used = _with_event(connection, ids, "certified")
    held = _places(connection, rows)
    tainted = _tainted(connection, [row.identity for row in rows])

    def state(number: int) -> str:
        if number in gone:
            return "withdrawn"
        return "certified" if number in spans else "superseded" if number in used else "draft"

    return [
        Entry(
            identity=row.identity,
            kind=row.kind,
            instrument=row.instrument,
            keys=keys_of(row.keys_text),
            epoch=row.epoch,
            state=state(row.id),
            verified=verdicts.get(row.id),
            validity=tuple(spans.get(row.id, ())),
            places=tuple(held.get(row.id, ())),
            revision=row.revision,
            facts={**json.loads(row.facts), **({"withdrawn": gone[row.id]} if row.id in gone else {})},
            tainted=tainted.get(row.identity, ()),
        )
        for row in rows
    ]


def _spans(connection: Connection, ids: list[int]) -> dict[int, list[tuple[str, int | None, int | None]]]:
    slot, tag = schema.slot, schema.tag
    found: dict[int, list[tuple[str, int | None, int | None]]] = {}
    for some in places.chunks(ids):
        rows = connection.execute(
            select(_validity.c.product, _validity.c.begin, _validity.c.end, tag.c.name)
            .select_from(
                _validity.join(slot, slot.c.id == _validity.c.slot).join(tag, tag.c.id == slot.c.tag)
            )
            .where(_validity.c.product.in_(some))
            .order_by(_validity.c.begin)
        )
        for number, begin, end, name in rows:
            span = (name, None if begin == ALWAYS else begin, None if end == FOREVER else end)
            found.setdefault(number, []).append(span)
    return found


def _verdicts(connection: Connection, ids: list[int]) -> dict[int, bool]:
    table, found = schema.verdict, dict[int, bool]()
    for some in places.chunks(ids):
        rows = connection.execute(
            select(*table.c["product", "passed"]).where(table.c.product.in_(some)).order_by(table.c.id)
        )
        found.update((number, bool(passed)) for number, passed in rows)
    return found


def _with_event(connection: Connection, ids: list[int], kind: str) -> dict[int, str]:
    """Products that have such an event: number -> why."""
    found: dict[int, str] = {}
    for some in places.chunks(ids):
        rows = connection.execute(
            select(_event.c.product, _event.c.why).where(_event.c.product.in_(some), _event.c.kind == kind)
        )
        found.update((number, why or "") for number, why in rows)
    return found


def _places(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, list[str]]:
    if len(rows) == 1:
        return {rows[0].id: places.of_product(connection, rows[0].identity)}
    held = places.of_hashes(connection, (row.hash for row in rows))
    return {row.id: held.get(row.hash, []) for row in rows}


def _tainted(connection: Connection, identities: list[str]) -> Mapping[str, tuple[str, ...]]:
    gone = lineage.withdrawals(connection)
    if not gone:
        return {}
    if len(identities) == 1:
        return {identities[0]: lineage.tainted(connection, identities[0])}
    made = lineage.descendants(connection, gone)
    return {
        identity: tuple(lineage.sentences(connection, made[identity], gone))
        for identity in identities
        if identity in made
    }
