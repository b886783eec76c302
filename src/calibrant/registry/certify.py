"""Certification: which product is valid when, under which tag; spans of a slot never overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, func, insert, select

from calibrant.errors import OptionError, OverlapError, RegistryError
from calibrant.registry import places, schema, words
from calibrant.registry.database import Writing
from calibrant.registry.facts import text_of
from calibrant.registry.schema import ALWAYS, FOREVER
from calibrant.registry.slots import Slots, tag_of
from calibrant.registry.times import moment

Given = tuple[str, int | None, int | None]
"""Identity of a product, begin and end of its validity."""


class _Known(NamedTuple):
    id: int
    identity: str
    kind: str
    setting: int
    verdict: int | None
    passed: bool | None


def certify(
    writing: Writing,
    identity: str,
    begin: Any,
    end: Any,
    tag: str,
    *,
    replace: bool = False,
    force: str | None = None,
    who: str | None = None,
) -> list[str]:
    """Certify a product: it is valid from `begin` (inclusive) to `end` (exclusive) under a tag.

    Parameters
    ----------
    writing : Writing
    identity : str
    begin, end : int, datetime, str or None
        Microseconds since 1970 UTC, a datetime, or ISO text; None is open.
    tag : str
        Made if it is new.
    replace : bool
        Whether certifications that overlap end there; what remains of them before and after stays valid.
    force : str, optional
        Reason to certify a product without a verdict that passed; recorded.
    who : str, optional

    Returns
    -------
    list of str
        Sentences: what was replaced, what remains of it, a zone assumed, a missing verdict.

    Raises
    ------
    RegistryError
        If the product is unknown or withdrawn, or no verdict passed and there is no `force`.
    OptionError
        If `begin` is not before `end`.
    OverlapError
        If another certification overlaps and `replace` is not given.
    """
    (start, first), (stop, second) = moment(begin, "the begin"), moment(end, "the end")
    notes = [note for note in (first, second) if note]
    span = _checked(start, stop)
    product = _products(writing.connection, [identity])[identity]
    notes += _needs(product, force)
    number = tag_of(writing.connection, tag, make=True)
    slot = Slots(writing.connection, number).of(product.setting)
    for row in _overlapping(writing.connection, slot, span):
        covered = row.identity == identity and row.begin <= span[0] and row.end >= span[1]
        if covered or not replace:
            raise _overlap(product, span, tag, row.identity, (row.begin, row.end))
        notes.append(_supersede(writing, row, span, number, slot, tag, who))
    _insert(writing, [(product, slot, *span)], number, force, who)
    return notes


def certify_many(
    writing: Writing,
    spans: Sequence[tuple[str, Any, Any]],
    tag: str,
    *,
    force: str | None = None,
    who: str | None = None,
) -> int:
    """Certify many products at once, as `certify` does without replacing: all of them, or none.

    Parameters
    ----------
    writing : Writing
    spans : sequence of (identity, begin, end)
    tag, force, who
        As of `certify`.

    Returns
    -------
    int
        How many were certified.

    Raises
    ------
    RegistryError, OptionError, OverlapError
        As of `certify`; spans that are given must not overlap each other either.
    """
    connection = writing.connection
    known = _products(connection, [identity for identity, _, _ in spans])
    number = tag_of(connection, tag, make=True)
    slots, rows = Slots(connection, number), []
    for identity, begin, end in spans:
        span = _checked(moment(begin, "the begin")[0], moment(end, "the end")[0])
        _needs(known[identity], force)
        rows.append((known[identity], slots.of(known[identity].setting), *span))
    _refuse_overlaps(connection, rows, tag)
    _insert(writing, rows, number, force, who)
    return len(rows)


def said(begin: int | None, end: int | None) -> str:
    """A span of validity in words."""
    start = None if begin in (None, ALWAYS) else words.moment(begin or 0)
    stop = None if end in (None, FOREVER) else words.moment(end or 0)
    if start is None:
        return "always" if stop is None else f"until {stop}"
    return f"from {start}" if stop is None else f"from {start} to {stop}"


def _checked(begin: int | None, end: int | None) -> tuple[int, int]:
    """A span with numbers for open ends."""
    if begin is not None and end is not None and begin >= end:
        what = "--from after --to" if begin > end else "--from and --to are the same time"
        raise OptionError(
            what, expected="--from before --to", got=f"{words.moment(begin)} and {words.moment(end)}"
        )
    return ALWAYS if begin is None else begin, FOREVER if end is None else end


def _products(connection: Connection, identities: Iterable[str]) -> dict[str, _Known]:
    """Products with their last verdict; unknown and withdrawn ones are refused."""
    table, verdict, event = schema.product, schema.verdict, schema.event
    each = verdict.alias("each")
    last = select(func.max(each.c.id)).where(each.c.product == table.c.id).correlate(table).scalar_subquery()
    wanted, found = list(dict.fromkeys(identities)), {}
    for some in places.chunks(wanted):
        rows = connection.execute(
            select(
                table.c.id,
                table.c.identity,
                table.c.kind,
                table.c.setting,
                verdict.c.id,
                verdict.c.passed,
            )
            .select_from(table.outerjoin(verdict, verdict.c.id == last))
            .where(table.c.identity.in_(some))
        )
        for number, identity, kind, setting, judged, passed in rows:
            known = None if passed is None else bool(passed)
            found[identity] = _Known(number, identity, kind, setting, judged, known)
    for identity in wanted:
        if identity not in found:
            raise RegistryError(
                f"the registry has no product {words.short(identity)}", do="add it, or look for it with ls"
            )
    for some in places.chunks(wanted):
        gone = connection.execute(
            select(event).where(event.c.subject.in_(some), event.c.kind == "withdrawn").limit(1)
        ).first()
        if gone is not None:
            raise RegistryError(
                f"the {found[gone.subject].kind} {words.short(gone.subject)} was withdrawn at"
                f" {words.moment(gone.at)} (revision {gone.revision}): {gone.why}",
                do="certify another one, or make a new one",
            )
    return found


def _needs(product: _Known, force: str | None) -> list[str]:
    """Refuse a product that no verdict passed, unless there is a reason to go on."""
    if product.passed:
        return []
    name = f"the {product.kind} {words.short(product.identity)}"
    problem = (
        f"{name} has not been verified" if product.verdict is None else f"{name} failed its verification"
    )
    if force is None or not force.strip():
        better = "verify it" if product.verdict is None else "make a better one"
        raise RegistryError(problem, do=f'{better}, or say --force "the reason", which is recorded')
    return [f"{problem}; it is certified all the same: {force}"]


def _overlapping(connection: Connection, slot: int, span: tuple[int, int]) -> Sequence[Row[Any]]:
    validity, product, event = schema.current_validity, schema.product, schema.event
    return connection.execute(
        select(validity, product.c.identity, product.c.kind, event.c.why, event.c.verdict)
        .select_from(validity.join(product).join(event, event.c.revision == validity.c.event))
        .where(validity.c.slot == slot, validity.c.begin < span[1], validity.c.end > span[0])
        .order_by(validity.c.begin)
    ).all()


def _overlap(
    product: _Known, span: tuple[int, int], tag: str, other: str, taken: tuple[int, int]
) -> OverlapError:
    where = f"valid {said(*taken)} under the tag {tag!r}"
    if other == product.identity and taken[0] <= span[0] and taken[1] >= span[1]:
        return OverlapError(
            f"the {product.kind} {words.short(other)} is certified already: {where}",
            do="nothing needs to be done",
        )
    return OverlapError(
        f"the validity of the {product.kind} {words.short(product.identity)}, {said(*span)}, would overlap"
        f" that of {words.short(other)}, {where}",
        do="choose another span or tag, or use --replace to end the other one there",
    )


def _supersede(
    writing: Writing, row: Row[Any], span: tuple[int, int], tag: int, slot: int, name: str, who: str | None
) -> str:
    """End a certification, and certify what remains of it outside a span."""
    validity = schema.current_validity
    common = {"subject": row.identity, "product": row.product, "tag": tag, "slot": slot, "who": who}
    writing.event("superseded", ends=row.event, **common)
    writing.connection.execute(delete(validity).where(validity.c.event == row.event))
    remains = [(row.begin, min(row.end, span[0])), (max(row.begin, span[1]), row.end)]
    remains = [(begin, end) for begin, end in remains if begin < end]
    for begin, end in remains:
        revision = writing.event(
            "certified",
            begin=_open(begin),
            end=_open(end),
            why=row.why,
            verdict=row.verdict,
            facts=text_of({"remainder_of": row.event}),
            **common,
        )
        writing.connection.execute(
            insert(validity).values(event=revision, slot=slot, product=row.product, begin=begin, end=end)
        )
    rest = " and ".join(said(*piece) for piece in remains) or "nothing"
    return (
        f"replaced under the tag {name!r}: the {row.kind} {words.short(row.identity)},"
        f" valid {said(row.begin, row.end)}; of it remains {rest}"
    )


def _open(time: int) -> int | None:
    """None for an end that is open, as events have it."""
    return None if time in (ALWAYS, FOREVER) else time


def _refuse_overlaps(connection: Connection, rows: Sequence[tuple[_Known, int, int, int]], tag: str) -> None:
    """Hold spans against each other, and against those of their slots in the database."""
    validity, product = schema.current_validity, schema.product
    spans = [(slot, begin, end, known) for known, slot, begin, end in rows]
    taken: list[tuple[int, int, int, str]] = []
    for some in places.chunks(slot for slot, *_ in spans):
        found = connection.execute(
            select(validity.c.slot, validity.c.begin, validity.c.end, product.c.identity)
            .select_from(validity.join(product))
            .where(validity.c.slot.in_(some))
        )
        taken += [(slot, begin, end, identity) for slot, begin, end, identity in found]
    joined: list[tuple[int, int, int, str, _Known | None]] = [(*entry, None) for entry in taken]
    joined += [(slot, begin, end, known.identity, known) for slot, begin, end, known in spans]
    joined.sort(key=lambda entry: entry[:3])
    # Those before do not overlap each other, so only the last of them can reach into the next one.
    for one, other in pairwise(joined):
        if one[0] == other[0] and other[1] < one[2]:
            mine, theirs = (other, one) if other[4] is not None else (one, other)
            if mine[4] is not None:
                raise _overlap(mine[4], mine[1:3], tag, theirs[3], theirs[1:3])


def _insert(
    writing: Writing,
    rows: Sequence[tuple[_Known, int, int, int]],
    tag: int,
    force: str | None,
    who: str | None,
) -> None:
    """Certifications as events, and in the derived table."""
    events = [
        {
            "subject": known.identity,
            "product": known.id,
            "tag": tag,
            "slot": slot,
            "begin": _open(begin),
            "end": _open(end),
            "verdict": known.verdict,
            "why": None if known.passed else force,
            "who": who,
        }
        for known, slot, begin, end in rows
    ]
    if not events:
        return
    revisions = writing.events("certified", events)
    writing.connection.execute(
        insert(schema.current_validity),
        [
            {"event": revision, "slot": slot, "product": known.id, "begin": begin, "end": end}
            for revision, (known, slot, begin, end) in zip(revisions, rows, strict=True)
        ],
    )
