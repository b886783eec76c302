"""What a person calls a thing of the registry: an identity, the beginning of one, or the path of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, select

from calibrant.errors import AmbiguousError, FileError, RegistryError
from calibrant.files.hashing import file_hash
from calibrant.registry import places, schema, words

SHORTEST = 6
"""Hex digits of an identity that are enough to ask by."""

_HEX = re.compile(rf"(?:sha256:)?([0-9a-f]{{{SHORTEST},64}})", re.IGNORECASE)
_product = schema.product


def product_key(connection: Connection, ref: str) -> str:
    """The identity of a product by what a person calls it.

    Parameters
    ----------
    connection : Connection
    ref : str
        Its identity, the beginning of it (six hex digits or more, with or without ``sha256:``), or the path
        of its file.

    Raises
    ------
    RegistryError
        If the registry knows nothing by that name.
    AmbiguousError
        If several identities begin so.
    """
    key = _key(connection, ref, (_product.c.identity,), "product")
    return places.product_in(connection, key) or key


def key_of(connection: Connection, ref: str) -> str:
    """The key of a product, a calibrated frame or a raw file by what a person calls it.

    Parameters
    ----------
    connection : Connection
    ref : str
        As of `product_key`; hashes and paths of frames and raw files, too.

    Returns
    -------
    str
        Identity of the product, or hash of the file.

    Raises
    ------
    RegistryError, AmbiguousError
        As of `product_key`.
    """
    columns = (_product.c.identity, schema.frame.c.hash, schema.exposure.c.hash)
    key = _key(connection, ref, columns, "product, frame or raw file")
    return places.product_in(connection, key) or key


def _key(connection: Connection, ref: str, columns: Sequence[Column[Any]], name: str) -> str:
    """An identity or hash that one of the columns holds."""
    digits = _HEX.fullmatch(ref.strip())
    if digits and not Path(ref).is_file():
        return _beginning(connection, digits[1].lower(), columns, name)
    return _file(connection, ref, name)


def _beginning(connection: Connection, digits: str, columns: Sequence[Column[Any]], name: str) -> str:
    first, beyond = f"sha256:{digits}", f"sha256:{digits}g"  # g: after every hex digit
    found = {
        key
        for column in columns
        for key in connection.execute(
            select(column).where(column >= first, column < beyond).distinct().limit(3)
        ).scalars()
    }
    if not found:
        raise RegistryError(
            f"the registry has no {name} that begins with {first}", do="look for it: calibrant registry ls"
        )
    if len(found) > 1:
        raise AmbiguousError(
            f"several begin with {first}: {', '.join(sorted(map(words.short, found)))}", do="say more digits"
        )
    return str(found.pop())


def _file(connection: Connection, ref: str, name: str) -> str:
    """By the path of a file: what lies there now, else what was seen there last."""
    path = Path(ref)
    if path.is_file():
        found = file_hash(path)
        known = select(schema.file.c.hash).where(schema.file.c.hash == found)
        if connection.execute(known).first() is not None:
            return found
        identity = _identity_in(path)
        if (
            identity is not None
            and connection.execute(select(_product.c.id).where(_product.c.identity == identity)).first()
        ):
            return identity
        raise RegistryError(
            "the registry does not know this file",
            where=ref,
            do="record it first: calibrant registry add for a product, ingest for a raw file",
        )
    last = connection.execute(
        select(schema.place.c.hash)
        .where(schema.place.c.path == places.absolute(ref))
        .order_by(schema.place.c.seen.desc())
        .limit(1)
    ).scalar()
    if last is not None:
        return str(last)
    raise RegistryError(
        f"this names no {name}: there is no such file, and the registry knows none",
        where=ref,
        expected=f"a path, or {SHORTEST} or more digits of an identity",
    )


def _identity_in(path: Path) -> str | None:
    """The identity of the product in a file of other bytes than those that are known; None if it holds none.

    Raises
    ------
    FileError
        If it was changed since it was written.
    """
    from calibrant.files import fits
    from calibrant.product import Product

    try:
        if fits.inspect(path).hdus[0].header.get("CALFORM") != "product":
            return None
    except FileError:
        return None
    found = fits.read(path)
    return found.identity if isinstance(found, Product) else None
