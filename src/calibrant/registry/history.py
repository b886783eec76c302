"""What happened to products: their events, their last verdict, and how their quantities went over time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from calibrant.registry import places, schema, words
from calibrant.registry.facts import keys_of
from calibrant.registry.records import Event, Item, Point, Verdict
from calibrant.registry.schema import ALWAYS, FOREVER

_event, _product, _quantity, _setting = schema.event, schema.product, schema.quantity, schema.setting


def events(connection: Connection, identity: str | None = None, *, limit: int | None = None) -> list[Event]:
    """What was reported, the newest first.

    Parameters
    ----------
    connection : Connection
    identity : str, optional
        Of the product meant; by default of everything.
    limit : int, optional
        The newest so many.
    """
    statement = (
        select(
            _event,
            schema.tag.c.name.label("tag_name"),
            schema.verdict.c.passed,
            _product.c.identity,
            _product.c.kind.label("product_kind"),
        )
        .select_from(
            _event.outerjoin(schema.tag, schema.tag.c.id == _event.c.tag)
            .outerjoin(schema.verdict, schema.verdict.c.id == _event.c.verdict)
            .outerjoin(_product, _product.c.id == _event.c.product)
        )
        .order_by(_event.c.revision.desc())
        .limit(limit)
    )
    if identity is not None:
        statement = statement.where(_event.c.subject == identity)
    return [_told(row) for row in connection.execute(statement)]


def _told(row: Row[Any]) -> Event:
    return Event(
        revision=row.revision,
        kind=row.kind,
        at=row.at,
        subject=row.subject or "",
        identity=row.identity,
        product=row.product_kind,
        tag=row.tag_name,
        begin=None if row.begin == ALWAYS else row.begin,
        end=None if row.end == FOREVER else row.end,
        passed=None if row.passed is None else bool(row.passed),
        who=row.who,
        why=row.why or "",
    )


def verdict(connection: Connection, identity: str) -> Verdict | None:
    """The last verdict on a product; None if it was never verified.

    Parameters
    ----------
    connection : Connection
    identity : str
        Of the product.
    """
    table = schema.verdict
    row = connection.execute(
        select(table, _product.c.kind)
        .select_from(table.join(_product, _product.c.id == table.c.product))
        .where(_product.c.identity == identity)
        .order_by(table.c.id.desc())
        .limit(1)
    ).first()
    if row is None:
        return None
    facts: Mapping[str, Any] = json.loads(row.facts)
    columns = ("name", "value", "low", "high", "unit", "place", "note")
    items = (Item(**{name: item.get(name) for name in columns}) for item in json.loads(row.items))
    return Verdict(
        identity=identity,
        kind=row.kind,
        items=tuple(items),
        recipe=facts.get("recipe", ""),
        frames=tuple(facts.get("frames", ())),
        notes=tuple(facts.get("notes", ())),
    )


def values(connection: Connection, identity: str) -> list[dict[str, Any]]:
    """The quantities of a product as rows: name, place, value, sigma, unit.

    Parameters
    ----------
    connection : Connection
    identity : str
        Of the product.
    """
    columns = ("name", "place", "value", "sigma", "unit")
    rows = connection.execute(
        select(*_quantity.c[columns])
        .join(_product, _product.c.id == _quantity.c.product)
        .where(_product.c.identity == identity)
        .order_by(_quantity.c.name, _quantity.c.place)
    )
    return [dict(zip(columns, row, strict=True)) for row in rows]


def names(connection: Connection, kind: str) -> list[str]:
    """Names of the quantities that products of a kind state, in order.

    Parameters
    ----------
    connection : Connection
    kind : str
    """
    rows = connection.execute(
        select(_quantity.c.name)
        .join(_product, _product.c.id == _quantity.c.product)
        .where(_product.c.kind == kind)
        .distinct()
        .order_by(_quantity.c.name)
    )
    return list(rows.scalars())


def trend(
    connection: Connection,
    kind: str,
    name: str,
    *,
    instrument: str | None = None,
    detector: str | None = None,
    place: str | None = None,
    limit: int | None = None,
) -> list[Point]:
    """A quantity of all products of a kind, by epoch; those that were withdrawn are said to be.

    Parameters
    ----------
    connection : Connection
    kind : str
        Of the products.
    name : str
        Of the quantity.
    instrument, detector : str, optional
    place : str, optional
        Such as an amplifier; by default every place.
    limit : int, optional
        The newest so many.

    Returns
    -------
    list of Point
        Of a product without epoch the time is unknown: these come first.

    Raises
    ------
    RegistryError
        If no product of the kind states such a quantity.
    """
    given = {
        _setting.c.instrument: instrument,
        _setting.c.detector: detector,
        _quantity.c.place: place,
    }
    statement = _points().where(_product.c.kind == kind, _quantity.c.name == name)
    statement = statement.where(*(column == value for column, value in given.items() if value is not None))
    rows = connection.execute(statement.order_by(_product.c.epoch.desc(), _quantity.c.place).limit(limit))
    found = rows.all()
    if not found and name not in (known := names(connection, kind)):
        raise words.no_such(f"quantity of a {kind}", name, known)
    gone = _withdrawn(connection, [row.id for row in found])
    return [
        Point(
            identity=row.identity,
            epoch=row.epoch,
            instrument=row.instrument,
            keys=keys_of(row.keys_text),
            place=row.place,
            value=row.value,
            sigma=row.sigma,
            unit=row.unit,
            withdrawn=row.id in gone,
        )
        for row in reversed(found)
    ]


def _points() -> Select[Any]:
    return select(
        *_product.c["id", "identity", "epoch"],
        _setting.c.instrument,
        _setting.c["keys"].label("keys_text"),
        *_quantity.c["place", "value", "sigma", "unit"],
    ).select_from(
        _quantity.join(_product, _product.c.id == _quantity.c.product).join(
            _setting, _setting.c.id == _product.c.setting
        )
    )


def _withdrawn(connection: Connection, numbers: list[int]) -> set[int]:
    found: set[int] = set()
    for some in places.chunks(numbers):
        rows = connection.execute(
            select(_event.c.product).where(_event.c.product.in_(some), _event.c.kind == "withdrawn")
        )
        found.update(rows.scalars())
    return found
