"""Where a registry is: a path, or a URL; and how it is named in messages, where no password belongs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from calibrant.errors import RegistryError

_HARMLESS = frozenset({
    "application_name", "connect_timeout", "dbname", "host", "mode", "options", "port", "sslmode", "user",
})  # fmt: skip
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")


@dataclass(frozen=True)
class Address:
    """Where a registry is.

    Attributes
    ----------
    url : sqlalchemy URL
        With its password.
    path : Path or None
        Of the SQLite file, absolute.
    read_only : bool
        Whether the URL asks for it (``sqlite:///calibrant.db?mode=ro``).
    """

    url: URL
    path: Path | None = None
    read_only: bool = False

    @property
    def shown(self) -> str:
        """For messages: the path, or the URL with ``***`` in place of the password."""
        return str(self.path) if self.path is not None else self.masked

    @property
    def masked(self) -> str:
        """The URL with ``***`` in place of its password, and of every option that could be one."""
        query = {name: value if name in _HARMLESS else "***" for name, value in self.url.query.items()}
        return self.url.set(query=query).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")

    def scrubbed(self, message: str) -> str:
        """A message of the driver without the passwords of this address."""
        options = (value for name, value in self.url.query.items() if name not in _HARMLESS)
        secrets = [self.url.password, *options]
        for secret in secrets:
            if isinstance(secret, str) and secret:
                message = message.replace(secret, "***")
        return message


def address(where: str | os.PathLike[str]) -> Address:
    """Understand a path or a URL.

    Raises
    ------
    RegistryError
        If it is a URL of neither SQLite nor PostgreSQL, or its user name or password holds a bare @.
    """
    text = os.fspath(where)
    if "://" not in text:
        return _file(Path(text), read_only=False)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The text is not repeated: it may hold a password.
        raise _unknown() from None
    if url.drivername in _POSTGRESQL:
        if any("@" in (part or "") for part in (url.host, url.database, *url.query)):
            # The rest of a password would be shown.
            raise RegistryError(
                "the URL holds more than one @", do="write an @ within a user name or password as %40"
            )
        return Address(url.set(drivername="postgresql+psycopg"))
    if url.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise _unknown(url.drivername)
    if not url.database or url.database == ":memory:":
        raise RegistryError("a registry needs a file", do="give the path of one: sqlite:///calibrant.db")
    return _file(Path(url.database), read_only=url.query.get("mode") == "ro")


def _file(path: Path, read_only: bool) -> Address:
    path = path.expanduser().absolute()
    if path.is_symlink():  # SQLite keeps its journal beside the file itself
        path = path.resolve()
    return Address(URL.create("sqlite", database=str(path)), path, read_only)


def _unknown(got: str | None = None) -> RegistryError:
    return RegistryError(
        "this is not the URL of a database that a registry can use",
        got=got,
        do="give a path, sqlite:///path, or postgresql+psycopg://user@host/database",
    )
