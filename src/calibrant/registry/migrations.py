"""Migrations: ordered functions, each recorded in the transaction that applied it.

A database is at the version of the last function recorded. The first function makes the tables as `schema`
has them: whoever changes a table there freezes the old form here, and adds a function that alters it. A test
holds what versions 1 and 2 make against a recorded fingerprint, so that this is not forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, func, insert, inspect, select, text

from calibrant.errors import RegistryError
from calibrant.registry.schema import head, metadata, migration

OVERLAP = "validity_overlaps"
"""Name of the constraint, and the word that the trigger raises."""

_LOCK = 0x63616C6962  # of PostgreSQL's advisory locks: "calib"

# Spans that are there do not overlap each other: of those that begin before the new one ends, only the last
# can reach into it. So the check is one step in the index, however many spans a slot has.
_TRIGGER = """
CREATE TRIGGER {name}_{word} BEFORE {event} ON current_validity
WHEN (
    SELECT "end" FROM current_validity
    WHERE slot = NEW.slot AND "begin" < NEW."end"{others} ORDER BY "begin" DESC LIMIT 1
) > NEW."begin"
BEGIN SELECT RAISE(ABORT, '{name}'); END
"""

# Ranges of one number stand in for `slot WITH =`, which would need the extension btree_gist.
_EXCLUSION = """
ALTER TABLE current_validity ADD CONSTRAINT {name} EXCLUDE USING gist (
    int8range(slot, slot, '[]') WITH &&, int8range("begin", "end", '[)') WITH &&
)
"""


def _tables(connection: Connection) -> None:
    metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(head).values(id=1, revision=0, at=0))


def _overlap(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(_EXCLUSION.format(name=OVERLAP)))
        return
    for word, event, others in (
        ("insert", "INSERT", ""),
        ("update", 'UPDATE OF slot, "begin", "end"', " AND event <> OLD.event"),
    ):
        statement = _TRIGGER.format(name=OVERLAP, word=word, event=event, others=others)
        connection.exec_driver_sql(statement)


MIGRATIONS: list[tuple[str, Callable[[Connection], None]]] = [
    ("tables", _tables),
    ("validity does not overlap", _overlap),
]


def version(connection: Connection) -> int | None:
    """Version of the database: None if it is not a registry.

    Raises
    ------
    RegistryError
        If a newer Calibrant made it.
    """
    if not inspect(connection).has_table(migration.name):
        return None
    found = connection.execute(select(func.max(migration.c.version))).scalar() or 0
    if found > len(MIGRATIONS):
        raise RegistryError(
            "the registry was made by a newer Calibrant",
            expected=f"version {len(MIGRATIONS)} or older",
            got=f"version {found}",
            do="upgrade Calibrant",
        )
    return found


def lock(connection: Connection) -> None:
    """Keep others from migrating until the end of this transaction (SQLite: from writing at all)."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def migrate(connection: Connection, until: int | None = None) -> list[str]:
    """Apply what is missing, in the transaction that is open under `lock`.

    Parameters
    ----------
    until : int, optional
        Version to stop at; the newest by default.

    Returns
    -------
    list of str
        Names of the functions applied.
    """
    start = version(connection) or 0
    done = []
    for number, (name, apply) in list(enumerate(MIGRATIONS[:until], start=1))[start:]:
        apply(connection)
        at = time.time_ns() // 1000
        connection.execute(insert(migration).values(version=number, name=name, at=at))
        done.append(name)
    return done
