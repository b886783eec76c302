"""What SQLAlchemy and the drivers raise, as one sentence of the house."""

from __future__ import annotations

import re
import sqlite3

from sqlalchemy.exc import DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from calibrant.errors import CalibrantError, DatabaseError, OverlapError, RegistryError, WriteError
from calibrant.registry.address import Address
from calibrant.registry.migrations import OVERLAP

_Known = tuple[type[CalibrantError], str, str]  # what to raise, what is wrong, what to do

_FULL: _Known = WriteError, "the disk is full; nothing was written", "make room first"
_LOCKED: _Known = DatabaseError, "others held the database for too long; nothing was written", "try again"
_READ_ONLY: _Known = RegistryError, "the database is read-only", "write where writing is allowed"
_LOST: _Known = (
    DatabaseError,
    "the connection to the database was lost",
    "try again; look first whether the last change was stored",
)
_DAMAGED: _Known = DatabaseError, "the database is damaged", "restore it from a copy"
_REFUSED: _Known = RegistryError, "the server does not let this user in", "check user and password"
_NO_DATABASE: _Known = RegistryError, "there is no such database on the server", "make it with: createdb"

# https://sqlite.org/rescode.html (the lowest byte; the whole number where it matters)
_SQLITE: dict[int, _Known] = {
    5: _LOCKED,
    6: _LOCKED,
    8: _READ_ONLY,
    11: _DAMAGED,
    13: _FULL,
    14: (DatabaseError, "the database cannot be opened", "check that its file and folder are still there"),
    26: _DAMAGED,
    4874: _FULL,  # SQLITE_IOERR_SHMSIZE: the shared memory of the WAL cannot grow
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html (whole codes, then classes)
_POSTGRESQL: dict[str, _Known] = {
    "25006": _READ_ONLY,
    "3D000": _NO_DATABASE,
    "40001": _LOCKED,
    "40P01": _LOCKED,
    "42501": (RegistryError, "the server does not allow this user to do that", "ask for the right to"),
    "53100": _FULL,
    "55P03": _LOCKED,
    "57P01": _LOST,
    "57P02": _LOST,
    "08": _LOST,
    "28": _REFUSED,
    "XX": _DAMAGED,
}

# Two spans that begin at the same time may be told by the other constraint of that table.
_OVERLAPS = rf"{OVERLAP}|current_validity[._]slot"

# Refusals on connecting carry no code, only the server's words.
_WORDS: dict[str, _Known] = {
    r"password authentication failed|no password supplied|role .* does not exist|no pg_hba": _REFUSED,
    r'database ".*" does not exist': _NO_DATABASE,
}


def explained(error: SQLAlchemyError | sqlite3.Error, address: Address) -> CalibrantError:
    """The error of the house for one of SQLAlchemy or a driver; no password is in it.

    Parameters
    ----------
    error : exception
        As it was raised.
    address : Address
        Of the database, to be named.
    """
    driver = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = address.scrubbed(" ".join(str(driver).split()))
    if isinstance(error, IntegrityError | sqlite3.IntegrityError):
        return _refused(said, address)
    if isinstance(error, NoSuchModuleError):
        return RegistryError("the driver of this database is missing", where=address.shown)
    known = _LOCKED if isinstance(error, PoolTimeout) else _known(driver, said)
    if known is None and getattr(error, "connection_invalidated", False):
        known = _LOST
    if known is None:
        failed = (
            "the server cannot be reached" if re.search("connection|resolve", said) else "the database failed"
        )
        return DatabaseError(f"{failed} ({said})", where=address.shown)
    kind, what, do = known
    return kind(what, where=address.shown, do=do)


def _known(driver: BaseException, said: str) -> _Known | None:
    code = getattr(driver, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE.get(code) or _SQLITE.get(code & 0xFF)
    state = getattr(driver, "sqlstate", None)
    if state:
        return _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    return next((known for words, known in _WORDS.items() if re.search(words, said)), None)


def _refused(said: str, address: Address) -> CalibrantError:
    if re.search(_OVERLAPS, said):
        return OverlapError(
            "the validity would overlap that of another certification of the same tag, kind and keys",
            where=address.shown,
            do="leave that one out, or replace it",
        )
    return DatabaseError(f"the database refused a row; nothing was written ({said})", where=address.shown)
