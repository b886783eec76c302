"""Engines: how connections to SQLite and PostgreSQL are made, and what marks a file as a registry."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from calibrant.errors import OutputExistsError, RegistryError
from calibrant.files.atomic import atomic_write
from calibrant.registry.address import Address
from calibrant.registry.migrations import migrate

PATIENCE = 30.0
"""Seconds to wait for another writer."""

TURN = 0.002
"""Seconds, at most, between two looks whether the other writer is done."""

APPLICATION = 0x43616C62
"""SQLite's ``application_id`` of a registry: "Calb"."""


def postgresql(address: Address) -> Engine:
    """Engine of a server.

    Raises
    ------
    RegistryError
        If the driver is not installed.
    """
    patience = {} if "connect_timeout" in address.url.query else {"connect_timeout": 10}
    try:
        return create_engine(
            address.url, pool_pre_ping=True, isolation_level="READ COMMITTED", connect_args=patience
        )
    except ImportError:
        raise RegistryError(
            "PostgreSQL needs the driver psycopg",
            where=address.shown,
            do='install it with: pip install "calibrant[postgres]"',
        ) from None
    except (SQLAlchemyError, TypeError, ValueError) as error:
        raise RegistryError(address.scrubbed(str(error)), where=address.shown) from None


# --- SQLite ---


def sqlite(path: Path, read_only: bool) -> Engine:
    """Engine of a file that is there; a missing one is not made."""
    # Autocommit: the driver's own transactions would neither begin at once nor roll tables back.
    # A reader without leave to write decides for each connection how to open, see `_uri`.
    return create_engine(
        "sqlite://",
        creator=_opener(path, read_only),
        poolclass=NullPool if read_only else QueuePool,
    )


def _opener(path: Path, read_only: bool) -> Callable[[], sqlite3.Connection]:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            _uri(path, read_only), uri=True, isolation_level=None, check_same_thread=False, timeout=PATIENCE
        )
        # FULL: what was reported also outlives a loss of power, not only a kill.
        for pragma in ("foreign_keys = ON", "synchronous = FULL", "cache_size = -64000"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    return connect


def take_turn(connection: Connection) -> None:
    """Begin a transaction that may write, once no other process does.

    SQLite itself waits up to 0.1 s between two tries; beside a process that writes without pause, and leaves
    the lock free for less than a millisecond at a time, a second one would hardly ever find it so.
    """
    until = time.monotonic() + PATIENCE
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except OperationalError as error:
                if not _is_busy(error) or time.monotonic() > until:
                    raise
            time.sleep(random.uniform(0, TURN))
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}")


def _is_busy(error: OperationalError) -> bool:
    return getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_BUSY")


def _uri(path: Path, read_only: bool) -> str:
    mode = "ro" if read_only else "rw"
    if read_only and not os.access(path.parent, os.W_OK) and not _shared_memory(path):
        # WAL needs files beside the database even to read. Where they are not and cannot be made, nobody
        # has it open, and what was committed is in the database itself, or in the journal of a crash.
        if beside(path):
            raise RegistryError(
                "the registry was not closed, and its last changes are in the journal beside it",
                where=path,
                do="open it once where writing is allowed",
            )
        mode = "ro&immutable=1"
    return f"file:{quote(str(path))}?mode={mode}"


def _shared_memory(path: Path) -> bool:
    return path.with_name(path.name + "-shm").exists()


def beside(path: Path) -> list[Path]:
    """Files that SQLite keeps beside a database while it is open, or after a crash."""
    names = [path.with_name(path.name + end) for end in ("-wal", "-journal")]
    return [name for name in names if name.exists() and name.stat().st_size > 0]


def writable(path: Path) -> bool:
    """Whether the file and its folder, where SQLite keeps its journal, may be written."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def refuse_foreign(path: Path) -> None:
    """Look at a file without touching it: neither a byte of it nor one beside it changes.

    Raises
    ------
    RegistryError
        If there is none, or it is not a registry.
    """
    make = "make it with: calibrant registry init"
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise RegistryError("there is no registry", where=path, do=make) from None
    except OSError as error:
        raise RegistryError(f"the registry cannot be read ({error.strerror})", where=path) from None
    if stat.S_ISDIR(status.st_mode):
        raise RegistryError("this is a folder, not a registry", where=path, do="give the path of its file")
    if not os.access(path, os.R_OK):
        raise RegistryError("reading the registry is not allowed", where=path)
    if status.st_size == 0:
        raise RegistryError("the file is empty, not a registry", where=path, do=f"remove it and {make}")
    if _application(path) != APPLICATION:
        raise RegistryError(
            "this is not a registry; it was left as it is", where=path, do="choose another file"
        )


def _application(path: Path) -> int | None:
    """SQLite's ``application_id``; None if the file is not SQLite's."""
    # By SQLite itself: closing a file that was opened beside it would drop the locks of this process.
    # Immutable: a journal that another program left is not played back.
    try:
        uri = f"file:{quote(str(path))}?mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            return int(connection.execute("PRAGMA application_id").fetchone()[0])
    except sqlite3.Error:
        return None


def create_file(path: Path, wal: bool) -> None:
    """Make the file of an empty registry: whole, or not at all.

    Raises
    ------
    OutputExistsError
        If something is there already.
    RegistryError
        If the journal of a removed database is there: SQLite would play it into the new one.
    WriteError
        If the disk is full, or writing is not allowed there.
    """
    if path.exists():
        with contextlib.suppress(RegistryError):
            refuse_foreign(path)
            raise OutputExistsError("a registry is there already", where=path, do="use it, or choose another")
        raise OutputExistsError("something that is not a registry is there", where=path, do="choose another")
    for left in beside(path):
        raise RegistryError(
            "this journal was left of a database that is gone", where=left, do="move it away first"
        )
    with atomic_write(path) as out:
        out.write(_image(wal))


def _image(wal: bool) -> bytes:
    """The bytes of an empty registry."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"isolation_level": None})
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION}")
        migrate(connection)
        connection.commit()
        image = bytearray(connection.connection.driver_connection.serialize())  # type: ignore[union-attr]
    engine.dispose()
    if wal:  # versions of the format, https://sqlite.org/fileformat.html: no switch later that others block
        image[18:20] = b"\x02\x02"
    return bytes(image)
