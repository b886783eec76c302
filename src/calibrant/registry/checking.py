"""Whether what the registry knows still stands: files, ancestry, derived tables, the clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, select

from calibrant.errors import FileError
from calibrant.registry import lineage, places, schema, words
from calibrant.registry.records import Trouble
from calibrant.registry.schema import ALWAYS, FOREVER

Hashes = Callable[[str], tuple[str, int]]
"""Path -> hash and size in bytes."""

SKEW = 5_000_000
"""Microseconds by which the clocks of two machines may differ without a word."""


@dataclass
class _Thing:
    """A product, a calibrated frame or a raw exposure, with its files by hash.

    `trusted` is false of what nobody is given any more, so that its loss is no harm.
    """

    name: str
    key: str
    trusted: bool = True
    draft: bool = False
    hashes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Place:
    """How a place was found: ``good``, ``gone`` (no file), ``altered`` (another one), and in words."""

    path: str
    state: str
    sentence: str = ""


def check(connection: Connection, hashes: Hashes) -> list[Trouble]:
    """Look at every file that the registry knows, and at the registry itself.

    Parameters
    ----------
    connection : Connection
    hashes : callable
        Path -> hash and size in bytes; called only for files whose size is as it was.

    Returns
    -------
    list of Trouble
        Severe ones first.
    """
    troubles = [
        *_files(connection, hashes),
        *_tainted(connection),
        *_validity(connection),
        *_chains(connection),
        *_clock(connection),
    ]
    return sorted(troubles, key=lambda trouble: not trouble.severe)


def _files(connection: Connection, hashes: Hashes) -> Iterator[Trouble]:
    file, place = schema.file, schema.place
    sizes = {row.hash: row.size for row in connection.execute(select(file))}
    rows = connection.execute(select(place.c.path, place.c.hash, place.c.seen).order_by(place.c.seen)).all()
    last = {path: hash for path, hash, _ in rows}
    held: dict[str, list[str]] = {}
    for path, hash, _ in rows:
        held.setdefault(hash, []).append(path)
    for thing in _things(connection):
        found = [
            _looked_at(path, hash, sizes[hash], last[path], hashes)
            for hash in thing.hashes
            for path in held.get(hash, ())
        ]
        yield from _judged(thing, found)


def _things(connection: Connection) -> Iterator[_Thing]:
    """Everything that has a file."""
    event, product, frame, exposure = schema.event, schema.product, schema.frame, schema.exposure
    gone = lineage.withdrawals(connection)
    used = set(connection.execute(select(event.c.product).where(event.c.kind == "certified")).scalars())
    products: dict[int, _Thing] = {}
    for row in connection.execute(select(product.c.id, product.c.identity, product.c.kind, product.c.hash)):
        name = f"the {row.kind} {words.short(row.identity)}"
        thing = _Thing(name, row.identity, row.identity not in gone, row.id not in used, [row.hash])
        products[row.id] = thing
    copies = select(event.c.product, event.c.subject).where(event.c.kind == places.COPIED)
    for number, hash in connection.execute(copies):
        products[number].hashes.append(hash)
    yield from products.values()
    for hash in dict.fromkeys(connection.execute(select(frame.c.hash)).scalars()):
        yield _Thing("the calibrated frame", hash, hash not in gone, hashes=[hash])
    raw: dict[str, str] = {}
    for hash, identifier in connection.execute(select(exposure.c.hash, exposure.c.identifier)):
        raw.setdefault(hash, identifier)
    for hash, identifier in raw.items():
        yield _Thing(f"the raw file of {identifier}", hash, hash not in gone, hashes=[hash])


def _looked_at(path: str, hash: str, size: int, last: str, hashes: Hashes) -> _Place:
    """A place where a file was seen; its bytes are read only if nothing else tells."""
    if last != hash:
        return _Place(path, "replaced", f"{path} holds another file since, {words.short(last)}")
    try:
        got = Path(path).stat().st_size
        if got != size:
            return _Place(path, "altered", f"{path} has {got} bytes, not {size}")
        found = hashes(path)[0]
    except FileNotFoundError:
        return _Place(path, "gone", f"{path} is not there")
    except (FileError, OSError) as error:
        return _Place(path, "gone", str(error).rstrip("."))
    if found != hash:
        return _Place(path, "altered", f"{path} has the hash {words.short(found)}, not {words.short(hash)}")
    return _Place(path, "good")


def _judged(thing: _Thing, found: list[_Place]) -> Iterator[Trouble]:
    """What is wrong with the places of one thing: a good one among them makes the rest harmless."""
    good = [place.path for place in found if place.state == "good"]
    altered = [place for place in found if place.state == "altered"]
    for place in altered:
        do = f"; {good[0]} is good" if good else "; copy it back, or make it again"
        yield Trouble(
            "altered",
            place.path,
            f"{thing.name} was altered: {place.sentence}{do}",
            thing.trusted and not good,
        )
    if good:
        for place in found:
            if place.state == "gone":
                yield Trouble(
                    "moved", place.path, f"{thing.name}: {place.sentence}; it is at {good[0]}", False
                )
    elif not altered:
        reasons = "; ".join(place.sentence for place in found) or "no place of it is known"
        # A draft that was made anew in the same place is replaced, not lost: nobody is given it unasked.
        severe = thing.trusted and not (thing.draft and any(place.state == "replaced" for place in found))
        where = found[-1].path if found else thing.key
        yield Trouble("lost", where, f"{thing.name} is lost: {reasons}", severe)


def _tainted(connection: Connection) -> Iterator[Trouble]:
    """Certified products, one of whose ancestors was withdrawn."""
    gone = lineage.withdrawals(connection)
    product, validity = schema.product, schema.current_validity
    made = lineage.descendants(connection, gone)
    for some in places.chunks(made):
        rows = connection.execute(
            select(product.c.identity, product.c.kind)
            .where(product.c.identity.in_(some), product.c.id.in_(select(validity.c.product)))
            .order_by(product.c.identity)
        ).all()
        for identity, kind in rows:
            for reason in lineage.sentences(connection, made[identity], gone):
                name = f"the certified {kind} {words.short(identity)}"
                yield Trouble("tainted", identity, f"{name} is tainted: {reason}")


def _validity(connection: Connection) -> Iterator[Trouble]:
    """The table of what is valid now against what the events say."""
    event, validity = schema.event, schema.current_validity
    ended = set(connection.execute(select(event.c.ends).where(event.c.kind == "superseded")).scalars())
    withdrawn = set(
        connection.execute(
            select(event.c.product).where(event.c.kind == "withdrawn", event.c.product.is_not(None))
        ).scalars()
    )
    columns = (event.c.revision, event.c.slot, event.c.product, event.c.begin, event.c.end)
    said = {
        (
            revision,
            slot,
            product,
            ALWAYS if begin is None else begin,
            FOREVER if end is None else end,
        )
        for revision, slot, product, begin, end in connection.execute(
            select(*columns).where(event.c.kind == "certified")
        )
        if revision not in ended and product not in withdrawn
    }
    columns = (validity.c.event, validity.c.slot, validity.c.product, validity.c.begin, validity.c.end)
    derived = {tuple(row) for row in connection.execute(select(*columns))}
    for what, rows in (("misses", said - derived), ("holds, against the events,", derived - said)):
        for row in sorted(rows):
            yield Trouble("derived", f"revision {row[0]}", f"current_validity {what} certification {row[0]}")


def _chains(connection: Connection) -> Iterator[Trouble]:
    """The table of chains against the events."""
    event, tag, member = schema.event, schema.tag, schema.tag_member
    names = {row.id: row.name for row in connection.execute(select(tag))}
    said = {
        number: json.loads(facts)["members"]
        for number, facts in connection.execute(
            select(event.c.tag, event.c.facts).where(event.c.kind == "chained").order_by(event.c.revision)
        )
    }
    derived: dict[int, list[str]] = {}
    for number, follower in connection.execute(
        select(member.c.tag, member.c.member).order_by(member.c.tag, member.c.priority)
    ):
        derived.setdefault(number, []).append(names[follower])
    for number in sorted(said.keys() | derived.keys()):
        if said.get(number, []) != derived.get(number, []):
            sentence = f"the chain of the tag {names[number]!r} is not what the events say"
            yield Trouble("derived", names[number], sentence)


def _clock(connection: Connection) -> Iterator[Trouble]:
    at: int = connection.execute(select(schema.head.c.at)).scalar_one()
    now = time.time_ns() // 1000
    if at > now + SKEW:
        sentence = (
            f"the last event is of {words.moment(at)}, which is {words.duration(at - now)} ahead of this"
            " machine's clock: one of the two is wrong"
        )
        yield Trouble("clock", words.moment(at), sentence, False)
