"""Files by the hash of their bytes, and the places where they were seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, bindparam, exists, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from calibrant.registry import schema

Item = TypeVar("Item")

CHUNK = 5000
"""Values in one statement: drivers limit them to 32766 (SQLite) and 65535 (PostgreSQL)."""

COPIED = "copied"
"""Event: a product that is known was found in a further file, whose hash is the event's subject."""

_place, _event, _product = schema.place, schema.event, schema.product
_later = _place.alias("later")

# A path holds one file at a time: the one that was seen there last.
_IS_CURRENT = ~exists().where(_later.c.path == _place.c.path, _later.c.seen > _place.c.seen)


_of_first = select(_product.c.hash).where(_product.c.identity == bindparam("identity"))
_of_copies = select(_event.c.subject).where(
    _event.c.product
    == select(_product.c.id).where(_product.c.identity == bindparam("identity")).scalar_subquery(),
    _event.c.kind == COPIED,
)
# Made once: making it takes longer than asking it.
_OF_PRODUCT = (
    select(_place.c.path)
    .where(or_(_place.c.hash.in_(_of_first), _place.c.hash.in_(_of_copies)), _IS_CURRENT)
    .order_by(_place.c.seen.desc(), _place.c.path)
)


def chunks(values: Iterable[Item], size: int = CHUNK) -> Iterator[list[Item]]:
    """Distinct values in lists of at most `size`."""
    listed = list(dict.fromkeys(values))
    return (listed[start : start + size] for start in range(0, len(listed), size))


def is_text(path: str) -> bool:
    """Whether a path can be stored: names of files need not be UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in path


def absolute(path: str) -> str:
    """The path from the root."""
    return path if path.startswith("/") else str(Path(path).absolute())


def record(connection: Connection, files: Sequence[tuple[str, int, str]], at: int) -> None:
    """Files as they were seen.

    Parameters
    ----------
    connection : Connection
        In a transaction that writes.
    files : sequence of (hash, size, path)
        Size in bytes; paths absolute.
    at : int
        Microseconds UTC.
    """
    if not files:
        return
    # Each once: PostgreSQL refuses to change a row twice in one statement.
    sizes = {hash: size for hash, size, _ in files}
    rows = [{"hash": hash, "size": size} for hash, size in sizes.items()]
    connection.execute(_insert(connection, schema.file).on_conflict_do_nothing(), rows)
    # Later than what was seen there before, also where the clock stands: the newest is what a path holds.
    last = _last_seen(connection, [path for _, _, path in files])
    times = {}
    for hash, _, path in files:
        last[path] = times[hash, path] = max(at, last.get(path, at - 1) + 1)
    seen = [{"hash": hash, "path": path, "seen": time} for (hash, path), time in times.items()]
    statement = _insert(connection, _place)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["hash", "path"], set_={"seen": statement.excluded.seen}
        ),
        seen,
    )


def _last_seen(connection: Connection, paths: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for some in chunks(paths):
        rows = connection.execute(
            select(_place.c.path, func.max(_place.c.seen))
            .where(_place.c.path.in_(some))
            .group_by(_place.c.path)
        )
        found.update((path, seen) for path, seen in rows)
    return found


def _insert(connection: Connection, table: Table) -> Any:
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def of_hashes(connection: Connection, hashes: Iterable[str]) -> dict[str, list[str]]:
    """Where files are, by hash: the place seen last first; places that hold another file since are left out.

    Parameters
    ----------
    connection : Connection
    hashes : iterable of str
    """
    found: dict[str, list[str]] = {}
    for some in chunks(hashes):
        rows = connection.execute(
            select(_place.c.hash, _place.c.path)
            .where(_place.c.hash.in_(some), _IS_CURRENT)
            .order_by(_place.c.seen.desc(), _place.c.path)
        )
        for hash, path in rows:
            found.setdefault(hash, []).append(path)
    return found


def of_product(connection: Connection, identity: str) -> list[str]:
    """Where files of a product are: of its first one and of copies with other bytes; seen last, told first.

    Parameters
    ----------
    connection : Connection
    identity : str
    """
    rows = connection.execute(_OF_PRODUCT, {"identity": identity})
    return list(dict.fromkeys(rows.scalars()))


def product_in(connection: Connection, hash: str) -> str | None:
    """Identity of the product that a file holds, its first one or a copy; None if it holds none.

    Parameters
    ----------
    connection : Connection
    hash : str
    """
    first = select(_product.c.identity).where(_product.c.hash == hash)
    copies = (
        select(_product.c.identity)
        .select_from(_event.join(_product, _product.c.id == _event.c.product))
        .where(_event.c.subject == hash, _event.c.kind == COPIED)
    )
    for statement in (first, copies):
        found = connection.execute(statement).scalar()
        if found is not None:
            return str(found)
    return None
