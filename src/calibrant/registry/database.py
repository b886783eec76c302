"""The database of a registry: opened or refused, read in one snapshot, written in one transaction."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, inspect, select, update
from sqlalchemy.exc import SQLAlchemyError

from calibrant.errors import OutputExistsError, RegistryError
from calibrant.registry import engines, words
from calibrant.registry.address import Address, address
from calibrant.registry.engines import PATIENCE
from calibrant.registry.failures import explained
from calibrant.registry.migrations import MIGRATIONS, lock, migrate, version
from calibrant.registry.mounts import network
from calibrant.registry.schema import event as events_table
from calibrant.registry.schema import head as head_table
from calibrant.registry.schema import metadata

_COLUMNS = tuple(column.name for column in events_table.columns)
_BEHIND = 5_000_000  # microseconds by which the clocks of two machines may differ without a word


def clock() -> int:
    """Microseconds since 1970 UTC, as the clock of this machine stands."""
    return time.time_ns() // 1000


def head(connection: Connection) -> tuple[int, int]:
    """Last revision, and when it was made (microseconds UTC)."""
    revision, at = connection.execute(_HEAD).one()
    return int(revision), int(at)


_HEAD = select(head_table.c.revision, head_table.c.at)


class Writing:
    """One open transaction that holds the write lock.

    Attributes
    ----------
    connection : Connection
    notes : list of str
        Sentences for the user, such as of a clock that stands behind.
    at : int
        Time of its events, microseconds UTC: never before that of the last event there was.
    revision : int
        Last one given out.
    """

    def __init__(self, connection: Connection, revision: int, last: int) -> None:
        self.connection = connection
        self.revision = revision
        self.notes: list[str] = []
        self._start = revision
        self._clock = clock()
        self.at = max(self._clock, last)
        if self.at - self._clock > _BEHIND:
            behind = words.duration(self.at - self._clock)
            self.notes.append(
                f"the clock of this machine stands {behind} behind the registry; "
                "events are dated as the last one"
            )

    def event(self, kind: str, **columns: Any) -> int:
        """Record an event; returns its revision. `facts` may be a mapping, and is stored as JSON."""
        return self.events(kind, [columns])[0]

    def events(self, kind: str, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Record many events of a kind; returns their revisions, in order."""
        if not rows:
            return []
        start = self.revision + 1
        self.connection.execute(
            insert(events_table), [self._row(kind, start + i, row) for i, row in enumerate(rows)]
        )
        self.revision += len(rows)
        return list(range(start, self.revision + 1))

    def _row(self, kind: str, revision: int, given: Mapping[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(_COLUMNS)
        row.update(given, kind=kind, revision=revision, at=self.at, clock=self._clock)
        if row["facts"] is not None and not isinstance(row["facts"], str):
            row["facts"] = json.dumps(row["facts"], sort_keys=True)
        return row

    def _finish(self) -> None:
        if self.revision > self._start:
            self.connection.execute(update(head_table).values(revision=self.revision, at=self.at))


class Database:
    """The database of a registry.

    Attributes
    ----------
    url : str
        With ``***`` in place of the password.
    dialect : str
        ``sqlite`` or ``postgresql``.
    notes : tuple of str
        Sentences for the user from opening it, such as of a network file system.
    read_only : bool
        Whether nothing can be written.
    """

    def __init__(self, where: Address, engine: Engine, read_only: bool) -> None:
        self._address, self._engine = where, engine
        self.url = where.masked
        self.dialect = engine.dialect.name
        self.notes: tuple[str, ...] = ()
        self.read_only = read_only
        self._readers = engine
        if self.dialect == "postgresql":
            self._readers = engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        # Connections that are not closed keep SQLite's WAL beside the file.
        self._closing = weakref.finalize(self, engine.dispose)

    @classmethod
    def open(cls, where: str | os.PathLike[str]) -> Database:
        """Open a registry; an older one is upgraded.

        Parameters
        ----------
        where : path or URL
            ``calibrant.db``, ``sqlite:///calibrant.db?mode=ro``, ``postgresql+psycopg://user@host/name``.

        Raises
        ------
        RegistryError
            If there is none, it belongs to another program or to a newer Calibrant, or it is an older one
            that cannot be written.
        DatabaseError
            If the server cannot be reached, or the file is damaged.
        """
        target = address(where)
        read_only = target.read_only
        if target.path is None:
            engine = engines.postgresql(target)
        else:
            engines.refuse_foreign(target.path)
            read_only = read_only or not engines.writable(target.path)
            engine = engines.sqlite(target.path, read_only)
        database = cls(target, engine, read_only)
        try:
            database._set_journal()
            database._bring_up_to_date()
        except BaseException:
            database.close()
            raise
        return database

    @classmethod
    def create(cls, where: str | os.PathLike[str]) -> Database:
        """Make an empty registry, and open it.

        Raises
        ------
        OutputExistsError
            If something is there already.
        RegistryError
            If the server has tables of another program by the same names.
        WriteError
            If the file cannot be written.
        DatabaseError
            If the server cannot be reached.
        """
        target = address(where)
        if target.path is not None:
            engines.create_file(target.path, wal=not network(target.path.parent))
        else:
            database = cls(target, engines.postgresql(target), read_only=False)
            try:
                database._make_tables()
            finally:
                database.close()
        return cls.open(where)

    @property
    def file(self) -> Path | None:
        """The file that it is; None on a server."""
        return self._address.path

    def close(self) -> None:
        """Close its connections."""
        self._closing()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot: what others write meanwhile is not seen.

        Raises
        ------
        DatabaseError
            If the database fails.
        """
        with self._explained(), self._readers.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """One transaction under the write lock: all of it is stored when the block ends well, else nothing.

        Raises
        ------
        RegistryError
            If the database is read-only.
        OverlapError
            If the database itself refuses a validity that overlaps.
        WriteError
            If the disk is full.
        DatabaseError
            If others hold the lock too long, or the database fails.
        """
        if self.read_only:
            raise RegistryError(
                "the database is read-only", where=self._address.shown, do="write where writing is allowed"
            )
        with self._explained(), self._engine.connect() as connection:
            writing = Writing(connection, *self._locked(connection))
            yield writing
            writing._finish()
            connection.commit()

    def _locked(self, connection: Connection) -> tuple[int, int]:
        """Take the write lock; returns what `head` says."""
        if self.dialect == "sqlite":
            engines.take_turn(connection)
            return head(connection)
        self._limit_waiting(connection)
        statement = update(head_table).values(revision=head_table.c.revision)
        revision, at = connection.execute(statement.returning(head_table.c.revision, head_table.c.at)).one()
        return revision, at

    def _limit_waiting(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(PATIENCE * 1000)}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise explained(error, self._address) from None

    # --- opening ---

    def _set_journal(self) -> None:
        """WAL, unless the file is shared between machines."""
        path = self._address.path
        if path is None:
            return
        kind = network(path)
        if kind:
            self.notes = (
                f"{path} lies on a network file system ({kind}): slower, and only as safe as the locks of "
                "that file system; for a team, use PostgreSQL: calibrant registry init --url postgresql://...",
            )
        if self.read_only:
            return
        wanted = "delete" if kind else "wal"
        with self._explained(), self._engine.connect() as connection:
            if connection.exec_driver_sql("PRAGMA journal_mode").scalar() != wanted:
                connection.exec_driver_sql(f"PRAGMA journal_mode = {wanted}")

    def _bring_up_to_date(self) -> None:
        with self.read() as connection:
            found = self._version(connection)
        if found == len(MIGRATIONS):
            return
        if self.read_only:
            raise RegistryError(
                "the registry is of an older Calibrant, and cannot be upgraded because it is read-only",
                where=self._address.shown,
                do="open it once where writing is allowed",
            )
        with self._explained(), self._engine.connect() as connection:
            if self.dialect == "postgresql":
                self._limit_waiting(connection)
            lock(connection)
            migrate(connection)
            connection.commit()

    def _version(self, connection: Connection) -> int:
        try:
            found = version(connection)
        except RegistryError as error:
            raise RegistryError(
                error.what, where=self._address.shown, expected=error.expected, got=error.got, do=error.do
            ) from None
        if found is None:
            raise RegistryError(
                "there is no registry in this database",
                where=self._address.shown,
                do="make it with: calibrant registry init --url",
            )
        return found

    def _make_tables(self) -> None:
        with self._explained(), self._engine.connect() as connection:
            self._limit_waiting(connection)
            lock(connection)
            taken = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables))
            if "calibrant_migration" in taken:
                raise OutputExistsError(
                    "a registry is there already", where=self._address.shown, do="use it, or choose another"
                )
            if taken:
                raise RegistryError(
                    f"the database has tables of another program: {', '.join(taken)}",
                    where=self._address.shown,
                    do="choose another database or schema",
                )
            migrate(connection)
            connection.commit()
