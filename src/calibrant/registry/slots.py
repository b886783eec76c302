"""Tags, and their slots: what may hold one product at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from calibrant.errors import OptionError
from calibrant.instrument.model import Instrument
from calibrant.registry import schema
from calibrant.registry.facts import keys_of
from calibrant.registry.words import no_such

Keys = Mapping[str, Any]


def tag_of(connection: Connection, name: str, make: bool = False) -> int:
    """Number of a tag.

    Parameters
    ----------
    connection : Connection
    name : str
    make : bool
        Whether to make one that is missing.

    Raises
    ------
    OptionError
        If the name cannot be one: it is empty, or holds a comma, which separates tags.
    RegistryError
        If there is no such tag, and none is to be made.
    """
    tag = schema.tag
    found = connection.execute(select(tag.c.id).where(tag.c.name == name)).scalar()
    if found is not None:
        return int(found)
    if not name or name != name.strip() or "," in name or not name.isprintable():
        raise OptionError(f"a tag cannot be named {name!r}", do="use a word without comma")
    if not make:
        known = connection.execute(select(tag.c.name)).scalars()
        raise no_such("tag", name, known)
    return int(connection.execute(insert(tag).values(name=name).returning(tag.c.id)).scalar_one())


def model_of(connection: Connection, name: str) -> Instrument:
    """The instrument as it was recorded last; one without tolerances if it never was."""
    table = schema.instrument
    text = connection.execute(
        select(table.c.model)
        .where(table.c.name == name)
        .order_by(table.c.revision.desc(), table.c.id.desc())
        .limit(1)
    ).scalar()
    return Instrument(name=name) if text is None else Instrument.model_validate_json(text)


class Slots:
    """Slots of one tag, found by the settings of products, and made where there is none.

    Parameters
    ----------
    connection : Connection
        In a transaction that writes.
    tag : int
    """

    def __init__(self, connection: Connection, tag: int) -> None:
        self.connection, self.tag = connection, tag
        self._of_setting: dict[int, int] = {}
        self._near: dict[tuple[str, str, str], list[tuple[int, Keys]]] = {}
        self._models: dict[str, Instrument] = {}

    def of(self, setting: int) -> int:
        """The slot of a setting: its own, else the nearest within the tolerances, else a new one.

        Unknown agrees with unknown alone: a product for any filter stands beside those for one.
        """
        known = self._of_setting.get(setting)
        if known is None:
            known = self._of_setting[setting] = self._find(setting)
        return known

    def _find(self, setting: int) -> int:
        table, slot = schema.setting, schema.slot
        row = self.connection.execute(select(table).where(table.c.id == setting)).one()
        own = self.connection.execute(
            select(slot.c.id).where(slot.c.tag == self.tag, slot.c.setting == setting)
        ).scalar()
        if own is not None:
            return int(own)
        place, keys = (row.kind, row.instrument, row.detector), keys_of(row.keys)
        if row.instrument not in self._models:
            self._models[row.instrument] = model_of(self.connection, row.instrument)
        model, near = self._models[row.instrument], self._neighbours(place)
        apart = [
            (away, number) for number, other in near if (away := distance(model, keys, other)) is not None
        ]
        if apart:
            return min(apart)[1]
        statement = insert(slot).values(tag=self.tag, setting=setting).returning(slot.c.id)
        made = int(self.connection.execute(statement).scalar_one())
        near.append((made, keys))
        return made

    def _neighbours(self, place: tuple[str, str, str]) -> list[tuple[int, Keys]]:
        """Slots of a kind, instrument and detector, with their keys."""
        if place not in self._near:
            table, slot = schema.setting, schema.slot
            rows = self.connection.execute(
                select(slot.c.id, table.c["keys"])
                .select_from(slot.join(table))
                .where(
                    slot.c.tag == self.tag,
                    table.c.kind == place[0],
                    table.c.instrument == place[1],
                    table.c.detector == place[2],
                )
                .order_by(slot.c.id)
            )
            self._near[place] = [(number, keys_of(text)) for number, text in rows]
        return self._near[place]


def distance(model: Instrument, one: Keys, other: Keys) -> float | None:
    """How far two sets of keys lie apart, in units of the tolerances; None if they do not agree.

    Parameters
    ----------
    model : Instrument
        Its tolerances.
    one, other : mapping
        A key that is in one of them alone is unknown in the other.
    """
    total = 0.0
    for name in one.keys() | other.keys():
        a, b = one.get(name), other.get(name)
        if not model.same(name, a, b):
            return None
        if isinstance(a, (int, float)) and isinstance(b, (int, float)) and a != b:
            total += abs(a - b) / model.reach(name, max(abs(a), abs(b)))
    return total
