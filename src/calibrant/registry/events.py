"""Everything that changes a registry, as events that are only added.

Each function takes an open `Writing`: one transaction, which holds the write lock and gives out revisions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from calibrant.errors import OptionError, OutputExistsError, RegistryError
from calibrant.registry import places, schema, words
from calibrant.registry.certify import certify, certify_many
from calibrant.registry.database import Writing
from calibrant.registry.drafts import add, add_frame, record_instrument
from calibrant.registry.facts import text_of
from calibrant.registry.records import Verdict
from calibrant.registry.slots import tag_of
from calibrant.registry.times import moment

__all__ = [
    "add",
    "add_frame",
    "certify",
    "certify_many",
    "chain",
    "freeze",
    "record_instrument",
    "verified",
    "withdraw",
]


def verified(writing: Writing, verdict: Verdict) -> int:
    """Record a verdict on a product.

    Parameters
    ----------
    writing : Writing
    verdict : Verdict

    Returns
    -------
    int
        Revision.

    Raises
    ------
    RegistryError
        If the product is unknown.
    """
    connection, product, table = writing.connection, schema.product, schema.verdict
    number = connection.execute(select(product.c.id).where(product.c.identity == verdict.identity)).scalar()
    if number is None:
        raise _unknown(verdict.identity)
    columns = ("name", "place", "value", "low", "high", "unit", "note", "passed")
    items = [{column: getattr(item, column) for column in columns} for item in verdict.items]
    facts = {"recipe": verdict.recipe, "frames": verdict.frames, "notes": verdict.notes}
    statement = insert(table).values(
        product=number,
        passed=int(verdict.passed),
        items=text_of(items),
        facts=text_of(facts),
        revision=writing.revision + 1,  # of the event that follows
    )
    judged = connection.execute(statement.returning(table.c.id)).scalar_one()
    return writing.event("verified", subject=verdict.identity, product=number, verdict=judged)


def withdraw(writing: Writing, key: str, why: str, who: str | None = None) -> int:
    """Withdraw a product, which ends all its certifications; or a raw exposure, or a calibrated frame.

    Parameters
    ----------
    writing : Writing
    key : str
        Identity of a product, or hash of a file.
    why : str
        Shown wherever the thing is refused, and to everything that was made of it.
    who : str, optional

    Returns
    -------
    int
        Revision.

    Raises
    ------
    RegistryError
        If there is no such thing, or it was withdrawn already.
    OptionError
        If no reason is given.
    """
    if not why.strip():
        raise OptionError("a withdrawal needs a reason", do='say it with --why "..."')
    key, product, name = _thing(writing.connection, key)
    first = withdrawal(writing.connection, key)
    if first is not None:
        raise RegistryError(
            f"{name} was withdrawn already, at {words.moment(first.at)}"
            f" (revision {first.revision}): {first.why}"
        )
    if product is not None:
        validity = schema.current_validity
        writing.connection.execute(delete(validity).where(validity.c.product == product))
    return writing.event("withdrawn", subject=key, product=product, why=why, who=who)


def withdrawal(connection: Connection, key: str) -> Row[Any] | None:
    """The event that withdrew a product or a file, or None.

    Parameters
    ----------
    connection : Connection
    key : str
        Identity of a product, or hash of a file.
    """
    event = schema.event
    return connection.execute(
        select(event).where(event.c.subject == key, event.c.kind == "withdrawn").order_by(event.c.revision)
    ).first()


def chain(writing: Writing, tag: str, members: Sequence[str]) -> int:
    """Let a tag be followed by others where it is searched; what followed it before no longer does.

    Parameters
    ----------
    writing : Writing
    tag : str
        Made if it is new.
    members : sequence of str
        Tags that exist, the one to be searched first in front; none ends the chain.

    Returns
    -------
    int
        Revision.

    Raises
    ------
    RegistryError
        If a member is unknown, or the tag would follow itself.
    """
    connection, table = writing.connection, schema.tag_member
    number = tag_of(connection, tag, make=True)
    names = list(dict.fromkeys(members))
    numbers = [tag_of(connection, name) for name in names]
    followers = _followers(connection)
    for name, member in zip(names, numbers, strict=True):
        if number in _reached(followers, member):
            raise RegistryError(
                f"the tag {tag!r} would follow itself through {name!r}", do="leave that one out"
            )
    connection.execute(delete(table).where(table.c.tag == number))
    rows = [{"tag": number, "member": member, "priority": n} for n, member in enumerate(numbers, 1)]
    if rows:
        connection.execute(insert(table), rows)
    return writing.event("chained", tag=number, facts=text_of({"members": names}))


def freeze(writing: Writing, name: str, why: str = "") -> int:
    """Give the present state a name, so that a reduction can be repeated as of it.

    Parameters
    ----------
    writing : Writing
    name : str
        Not a number or a time: those mean a revision.
    why : str

    Returns
    -------
    int
        Revision that the name stands for.

    Raises
    ------
    OutputExistsError
        If the name is taken.
    OptionError
        If it could be taken for a revision or a time.
    """
    table = schema.context
    if not name or name != name.strip() or not name.isprintable() or _is_revision(name):
        raise OptionError(f"a frozen state cannot be named {name!r}", do="use a word, not a number or a time")
    taken = writing.connection.execute(select(table).where(table.c.name == name)).first()
    if taken is not None:
        raise OutputExistsError(
            f"{name!r} was frozen already, at {words.moment(taken.at)} (revision {taken.revision})",
            do="choose another name",
        )
    revision = writing.event("frozen", subject=name, why=why or None)
    values = {"name": name, "revision": revision, "why": why or None, "at": writing.at}
    writing.connection.execute(insert(table).values(values))
    return revision


def _is_revision(name: str) -> bool:
    if re.fullmatch(r"[+-]?\d+", name):
        return True
    try:
        moment(name)
    except OptionError:
        return False
    return True


def _unknown(key: str) -> RegistryError:
    return RegistryError(
        f"the registry has nothing with the hash {words.short(key)}", do="add it, or look for it with ls"
    )


def _thing(connection: Connection, key: str) -> tuple[str, int | None, str]:
    """What a key stands for: its key (the identity, if it is a product's file), number of a product, name."""
    product, frame, exposure = schema.product, schema.frame, schema.exposure
    identity = places.product_in(connection, key) or key
    columns = select(*product.c["id", "identity", "kind"])
    row = connection.execute(columns.where(product.c.identity == identity)).first()
    if row is not None:
        return row.identity, row.id, f"the {row.kind} {words.short(row.identity)}"
    for name, table in (("the calibrated frame", frame), ("the raw file", exposure)):
        if connection.execute(select(table.c.id).where(table.c.hash == key)).first() is not None:
            return key, None, f"{name} {words.short(key)}"
    raise _unknown(key)


def _followers(connection: Connection) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for tag, member in connection.execute(select(*schema.tag_member.c["tag", "member"])):
        found.setdefault(tag, []).append(member)
    return found


def _reached(followers: dict[int, list[int]], start: int) -> set[int]:
    """Tags that are searched after one, itself included."""
    found, waiting = set(), [start]
    while waiting:
        tag = waiting.pop()
        if tag not in found:
            found.add(tag)
            waiting += followers.get(tag, ())
    return found
