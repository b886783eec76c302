"""What a registry remembers between questions: settings, slots, tags and models of instruments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sqlalchemy import Connection, bindparam, select

from calibrant.instrument.model import Instrument
from calibrant.registry import schema
from calibrant.registry.facts import keys_of
from calibrant.registry.words import no_such

_HEAD = select(schema.head.c.revision)
_SETTINGS = (
    select(schema.setting).where(schema.setting.c.id > bindparam("last")).order_by(schema.setting.c.id)
)
_SLOTS = select(schema.slot).where(schema.slot.c.id > bindparam("last")).order_by(schema.slot.c.id)
_TAGS = select(schema.tag).where(schema.tag.c.id > bindparam("last")).order_by(schema.tag.c.id)
_MEMBERS = select(schema.tag_member).order_by(schema.tag_member.c.tag, schema.tag_member.c.priority)
_MODELS = (
    select(schema.instrument.c.model, schema.instrument.c.revision)
    .where(schema.instrument.c.name == bindparam("name"))
    .order_by(schema.instrument.c.revision, schema.instrument.c.id)
)
_CHAINS = (
    select(schema.event.c.tag, schema.event.c.facts)
    .where(
        schema.event.c.product.is_(None),  # so that the index by product and kind serves
        schema.event.c.kind == "chained",
        schema.event.c.revision <= bindparam("revision"),
    )
    .order_by(schema.event.c.revision)
)


@dataclass(frozen=True)
class Setting:
    """One distinct set of keys of products."""

    id: int
    kind: str
    instrument: str
    detector: str
    keys: Mapping[str, Any]


@dataclass(frozen=True)
class Slot:
    """What may hold one product at a time: a tag, and keys within their tolerance."""

    id: int
    tag: int
    setting: Setting


class Memory:
    """Caches of one database, valid while its revision is unchanged. Settings, slots and tags are only added.

    Attributes
    ----------
    revision : int
        Of the registry when it was last looked at; -1 before.
    settings : dict of int to Setting
    tags : dict of int to str
    """

    def __init__(self) -> None:
        self.revision = -1
        self.settings: dict[int, Setting] = {}
        self.tags: dict[int, str] = {}
        self._members: dict[int, list[int]] = {}
        self._settings_of: dict[tuple[str, str, str], list[Setting]] = {}
        self._slots_of: dict[tuple[str, str, str], list[Slot]] = {}
        self._detectors: dict[tuple[str, str], dict[str, None]] = {}
        self._last_slot = 0
        self._models: dict[str, list[tuple[int, str]]] = {}
        self._parsed: dict[str, Instrument] = {}
        self._lock = Lock()

    def refresh(self, connection: Connection) -> int:
        """See that the caches are of the present revision, which is returned."""
        revision: int = connection.execute(_HEAD).scalar_one()
        if revision != self.revision:
            with self._lock:
                self._load(connection)
                self.revision = revision
        return revision

    def _load(self, connection: Connection) -> None:
        for row in connection.execute(_SETTINGS, {"last": max(self.settings, default=0)}):
            place = (row.kind, row.instrument, row.detector)
            found = Setting(row.id, *place, keys_of(row.keys))
            self._settings_of.setdefault(place, []).append(found)
            self._detectors.setdefault(place[:2], {})[row.detector] = None
            self.settings[row.id] = found
        for row in connection.execute(_TAGS, {"last": max(self.tags, default=0)}):
            self.tags[row.id] = row.name
        for row in connection.execute(_SLOTS, {"last": self._last_slot}):
            found = self.settings[row.setting]
            place = (found.kind, found.instrument, found.detector)
            self._slots_of.setdefault(place, []).append(Slot(row.id, row.tag, found))
            self._last_slot = row.id
        self._members = {}
        for row in connection.execute(_MEMBERS):
            self._members.setdefault(row.tag, []).append(row.member)
        self._models = {}

    @property
    def kinds(self) -> list[str]:
        """Kinds of products that the registry knows."""
        return sorted({kind for kind, _ in self._detectors})

    def instruments(self, kind: str) -> list[str]:
        """Instruments that have products of a kind."""
        return sorted(instrument for known, instrument in self._detectors if known == kind)

    def detectors(self, kind: str, instrument: str) -> list[str]:
        """Detectors that products of a kind are for; not the empty one, which is for any."""
        return [name for name in self._detectors.get((kind, instrument), ()) if name]

    def settings_of(self, kind: str, instrument: str, detector: str) -> list[Setting]:
        """Settings of the products of a kind for one detector."""
        return [
            found
            for name in dict.fromkeys((detector, ""))
            for found in self._settings_of.get((kind, instrument, name), ())
        ]

    def slots_of(self, kind: str, instrument: str, detector: str) -> list[Slot]:
        """Slots of a kind for one detector, of all tags."""
        return [
            found
            for name in dict.fromkeys((detector, ""))
            for found in self._slots_of.get((kind, instrument, name), ())
        ]

    def model(self, connection: Connection, name: str, revision: int) -> Instrument:
        """The instrument as it was at a revision, or as it was first recorded; bare if it never was."""
        rows = self._models.get(name)
        if rows is None:
            rows = [(row.revision, row.model) for row in connection.execute(_MODELS, {"name": name})]
            self._models[name] = rows
        if not rows:
            return Instrument(name=name)
        text = next((model for known, model in reversed(rows) if known <= revision), rows[0][1])
        found = self._parsed.get(text)
        if found is None:
            found = self._parsed[text] = Instrument.model_validate_json(text)
        return found

    def priorities(
        self, connection: Connection, tag: str | Iterable[str] | None, revision: int
    ) -> dict[int, int]:
        """Tags that are searched, with their priority: 0 first, then the members of each, depth first.

        Parameters
        ----------
        connection : Connection
        tag : str, iterable of str, or None
            One name, several with commas, or a sequence; None is all tags alike.
        revision : int
            As of which chains count.

        Raises
        ------
        RegistryError
            If a tag is unknown.
        """
        names = _names(tag)
        if not names:
            return dict.fromkeys(self.tags, 0)
        known = {name: number for number, name in self.tags.items()}
        for name in names:
            if name not in known:
                raise no_such("tag", name, known)
        members = self._members if revision == self.revision else self._chains(connection, revision)
        order: dict[int, int] = {}
        waiting = [known[name] for name in reversed(names)]
        while waiting:
            number = waiting.pop()
            if number not in order:
                order[number] = len(order)
                waiting += reversed(members.get(number, ()))
        return order

    def _chains(self, connection: Connection, revision: int) -> dict[int, Sequence[int]]:
        """Members of tags as they were at a revision."""
        known = {name: number for number, name in self.tags.items()}
        return {
            row.tag: [known[name] for name in json.loads(row.facts)["members"] if name in known]
            for row in connection.execute(_CHAINS, {"revision": revision})
        }


def _names(tag: str | Iterable[str] | None) -> list[str]:
    if tag is None:
        return []
    listed = tag.split(",") if isinstance(tag, str) else list(tag)
    return [name for name in (part.strip() for part in listed) if name]
