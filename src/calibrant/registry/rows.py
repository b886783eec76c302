"""Candidates from the tables: what is valid now by the derived table, what was valid then by the events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    Subquery,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
)

from calibrant.registry import schema
from calibrant.registry.memory import Memory, Setting
from calibrant.registry.records import Ask, Candidate
from calibrant.registry.schema import ALWAYS, FOREVER

KEYS, WITHDRAWN, SUPERSEDED, DRAFT, TAG, VALIDITY, LEFT = range(7)
"""How far a product comes in the rule, as `misses` counts it."""

_product, _event, _validity, _slot = schema.product, schema.event, schema.current_validity, schema.slot
_other, _ender, _withdrawal = _validity.alias(), _event.alias("ender"), _event.alias("withdrawal")

_VALID_NOW = (
    select(
        _validity.c.event,
        _validity.c.begin,
        _validity.c.end,
        _slot.c.tag,
        _product.c.identity,
        _product.c.epoch,
        _product.c.setting,
    )
    .select_from(_slot.join(_validity, _validity.c.slot == _slot.c.id).join(_product))
    .where(
        _slot.c.id.in_(bindparam("slots", expanding=True)),
        # Spans of a slot do not overlap: the one that holds the time is the last that begins before it.
        _validity.c.begin
        == select(func.max(_other.c.begin))
        .where(_other.c.slot == _slot.c.id, _other.c.begin <= bindparam("mid"))
        .scalar_subquery(),
        _validity.c.end > bindparam("mid"),
    )
)
_PLACES = (
    select(schema.place.c.path)
    .select_from(_product.join(schema.place, schema.place.c.hash == _product.c.hash))
    .where(_product.c.identity == bindparam("identity"))
    .order_by(schema.place.c.seen.desc(), schema.place.c.path)
)


def valid_now(
    connection: Connection, slots: Sequence[int], mid: int, memory: Memory, tags: Mapping[int, int]
) -> list[Candidate]:
    """The products whose certified span in one of the slots holds a time, at present.

    Parameters
    ----------
    connection : Connection
    slots : sequence of int
    mid : int
        Microseconds UTC.
    memory : Memory
    tags : mapping of int to int
        Tag -> priority.
    """
    if not slots:
        return []
    found = connection.execute(_VALID_NOW, {"slots": slots, "mid": mid})
    return [
        _certified(memory.settings[setting], identity, epoch, event, begin, end, tag, memory, tags)
        for event, begin, end, tag, identity, epoch, setting in found
    ]


def places(connection: Connection, identity: str) -> list[str]:
    """Where the file of a product is, the place seen last first."""
    return list(connection.execute(_PLACES, {"identity": identity}).scalars())


def left(
    connection: Connection,
    settings: Sequence[Setting],
    ask: Ask,
    memory: Memory,
    tags: Mapping[int, int],
    revision: int,
) -> list[Candidate]:
    """Every certification that no rule refuses as of a revision; and, if asked, the nearest drafts.

    Parameters
    ----------
    connection : Connection
    settings : sequence of Setting
        Whose keys agree with the question.
    ask : Ask
    memory : Memory
    tags : mapping of int to int
        Tag -> priority.
    revision : int
    """
    if not settings:
        return []
    now = revision == memory.revision
    values = _values(settings, ask, tags, revision)
    found = [
        _certified(memory.settings[setting], identity, epoch, event, begin, end, tag, memory, tags)
        for identity, epoch, setting, event, begin, end, tag in connection.execute(
            _left(now, ask.mid is None), values
        )
    ]
    if ask.drafts:
        rows = connection.execute(_drafts(ask.mid is None), values)
        found += [
            _uncertified(memory.settings[row.setting], row.identity, row.epoch, "draft", row.revision)
            for row in rows
        ]
    return found


def misses(
    connection: Connection,
    place: tuple[str, str, Sequence[str]],
    settings: Sequence[Setting],
    ask: Ask,
    memory: Memory,
    tags: Mapping[int, int],
    revision: int,
    limit: int,
) -> tuple[dict[int, int], list[Candidate]]:
    """Products of a kind, instrument and detectors counted by how far they come, and those that come farthest.

    Parameters
    ----------
    connection : Connection
    place : tuple
        Kind, instrument, detectors.
    settings : sequence of Setting
        Whose keys agree with the question.
    ask : Ask
    memory : Memory
    tags : mapping of int to int
        Tag -> priority.
    revision : int
    limit : int
        Number of products whose rows are given.

    Returns
    -------
    tuple
        Stage (`KEYS` to `LEFT`) -> number; rows of the farthest products, nearest in time first.
    """
    now = revision == memory.revision
    values = {**_values(settings, ask, tags, revision), "limit": limit}
    values |= {"kind": place[0], "instrument": place[1], "detectors": list(place[2])}
    counts: dict[int, int] = {}
    ids: list[int] = []
    if settings:
        for stage, number, product in connection.execute(_stages(now, ask.mid is None), values):
            if product is None:
                counts[stage] = number
            else:
                ids.append(product)
    total: int = connection.execute(_total(now), values).scalar_one()
    counts[KEYS] = total - sum(counts.values())
    if len(ids) < limit and counts[KEYS]:
        values["limit"] = limit - len(ids)
        ids += connection.execute(_others(now, ask.mid is None), values).scalars()
    return counts, histories(connection, ids, memory, tags, revision)


def histories(
    connection: Connection, products: Sequence[int], memory: Memory, tags: Mapping[int, int], revision: int
) -> list[Candidate]:
    """All that a revision knows of some products: a row for each certification that lives, else one row."""
    values = {"products": list(products), "revision": revision}
    known = {row.id: row for row in connection.execute(_PRODUCTS, values)} if products else {}
    found: dict[int, list[Candidate]] = {number: [] for number in known}
    ended = {row.ends for row in connection.execute(_ENDED, values)} if products else set()
    withdrawn, gone = {}, {}
    for row in connection.execute(_EVENTS, values) if products else ():
        product, setting = known[row.product], memory.settings[known[row.product].setting]
        if row.kind == "withdrawn":
            withdrawn[row.product] = row
        elif row.revision in ended:
            gone[row.product] = row
        else:
            found[row.product].append(
                _certified(
                    setting,
                    product.identity,
                    product.epoch,
                    row.revision,
                    row.begin,
                    row.end,
                    row.tag,
                    memory,
                    tags,
                )
            )
    for number, product in known.items():
        setting = memory.settings[product.setting]
        if number in withdrawn:
            row = withdrawn[number]
            found[number] = [
                _uncertified(setting, product.identity, product.epoch, "withdrawn", row.revision, row.why)
            ]
        elif not found[number]:
            row = gone.get(number)
            state = "draft" if row is None else "superseded"
            since = product.revision if row is None else row.revision
            found[number] = [_uncertified(setting, product.identity, product.epoch, state, since)]
    return [candidate for number in products for candidate in found.get(number, ())]


def _certified(
    setting: Setting,
    identity: str,
    epoch: int | None,
    revision: int,
    begin: int | None,
    end: int | None,
    tag: int,
    memory: Memory,
    tags: Mapping[int, int],
) -> Candidate:
    return Candidate(
        identity,
        setting.kind,
        setting.instrument,
        setting.keys,
        epoch,
        "certified",
        memory.tags[tag],
        tags.get(tag, -1),
        None if begin == ALWAYS else begin,
        None if end == FOREVER else end,
        revision,
    )


def _uncertified(
    setting: Setting, identity: str, epoch: int | None, state: str, revision: int, why: str | None = None
) -> Candidate:
    return Candidate(
        identity,
        setting.kind,
        setting.instrument,
        setting.keys,
        epoch,
        state,
        revision=revision,
        why=why or "",
    )


# --- statements -------------------------------------------------------------------------------------------

# Written into the text: drivers limit the number of parameters, and settings within a tolerance may be many.
_SETTINGS = bindparam("settings", expanding=True, literal_execute=True)
_TAGS = bindparam("tags", expanding=True, literal_execute=True)
_SOME = bindparam("products", expanding=True)
_UPTO = bindparam("revision")

_PRODUCTS = select(_product.c["id", "identity", "setting", "epoch", "revision"]).where(
    _product.c.id.in_(_SOME)
)
_EVENTS = (
    select(_event.c["product", "kind", "revision", "begin", "end", "tag", "why"])
    .where(
        _event.c.product.in_(_SOME), _event.c.kind.in_(("certified", "withdrawn")), _event.c.revision <= _UPTO
    )
    .order_by(_event.c.revision)
)
_ENDED = (
    select(_ender.c.ends)
    .select_from(_event.join(_ender, _ender.c.ends == _event.c.revision))
    .where(
        _event.c.product.in_(_SOME),
        _event.c.kind == "certified",
        _ender.c.kind == "superseded",
        _ender.c.revision <= _UPTO,
    )
)


def _values(settings: Sequence[Setting], ask: Ask, tags: Iterable[int], revision: int) -> dict[str, Any]:
    reach = int(min(ask.reach[ask.level - 1], 2**61)) if ask.level > 0 else 0
    mid = ask.mid or 0
    return {
        "settings": [setting.id for setting in settings],
        "tags": list(tags),
        "revision": revision,
        "mid": mid,
        "late": min(mid + reach, FOREVER),
        # At level 0 the end is exclusive; at others the distance to it may be the whole reach.
        "early": mid - reach if ask.level > 0 else mid + 1,
    }


def _withdrawn_by() -> Any:
    return exists().where(
        _withdrawal.c.product == _product.c.id,
        _withdrawal.c.kind == "withdrawn",
        _withdrawal.c.revision <= _UPTO,
    )


@cache
def _living(now: bool) -> Subquery:
    """Certifications that live: product, event, begin, end, tag."""
    if now:
        return (
            select(_validity.c.product, _validity.c.event, _validity.c.begin, _validity.c.end, _slot.c.tag)
            .select_from(_validity.join(_slot, _slot.c.id == _validity.c.slot))
            .subquery("living")
        )
    superseded = exists().where(
        _ender.c.ends == _event.c.revision, _ender.c.kind == "superseded", _ender.c.revision <= _UPTO
    )
    gone = exists().where(
        _withdrawal.c.product == _event.c.product,
        _withdrawal.c.kind == "withdrawn",
        _withdrawal.c.revision <= _UPTO,
    )
    return (
        select(_event.c.product, _event.c.revision.label("event"), _event.c.begin, _event.c.end, _event.c.tag)
        .where(_event.c.kind == "certified", _event.c.revision <= _UPTO, ~superseded, ~gone)
        .subquery("living")
    )


def _holds(living: Subquery, timeless: bool) -> Any:
    if timeless:
        return literal(1) == 1
    return and_(
        or_(living.c.begin.is_(None), living.c.begin <= bindparam("late")),
        or_(living.c.end.is_(None), living.c.end >= bindparam("early")),
    )


def _away(timeless: bool) -> tuple[Any, ...]:
    """Order: the nearest epoch first, unknown ones last, and never left to chance."""
    if timeless:
        return (_product.c.identity,)
    return _product.c.epoch.is_(None), func.abs(_product.c.epoch - bindparam("mid")), _product.c.identity


@cache
def _left(now: bool, timeless: bool) -> Select[Any]:
    living = _living(now)
    return (
        select(
            _product.c.identity,
            _product.c.epoch,
            _product.c.setting,
            living.c.event,
            living.c.begin,
            living.c.end,
            living.c.tag,
        )
        .select_from(_product.join(living, living.c.product == _product.c.id))
        .where(_product.c.setting.in_(_SETTINGS), living.c.tag.in_(_TAGS), _holds(living, timeless))
    )


@cache
def _drafts(timeless: bool) -> Select[Any]:
    """The three nearest drafts of each setting: two are enough to see a tie, whatever else decides."""
    used = exists().where(
        _event.c.product == _product.c.id,
        _event.c.kind.in_(("certified", "withdrawn")),
        _event.c.revision <= _UPTO,
    )
    ranked = (
        select(
            _product.c["identity", "epoch", "setting", "revision"],
            func.row_number().over(partition_by=_product.c.setting, order_by=_away(timeless)).label("place"),
        )
        .where(_product.c.setting.in_(_SETTINGS), _product.c.revision <= _UPTO, ~used)
        .subquery()
    )
    return select(ranked).where(ranked.c.place <= 3)


@cache
def _stages(now: bool, timeless: bool) -> Select[Any]:
    """Products of the settings: counted by stage, and those of the highest stages."""
    living = _living(now)
    certified = exists().where(
        _event.c.product == _product.c.id, _event.c.kind == "certified", _event.c.revision <= _UPTO
    )
    stage = case(
        (
            living.c.event.is_(None),
            case((_withdrawn_by(), WITHDRAWN), (certified, SUPERSEDED), else_=DRAFT),
        ),
        (living.c.tag.not_in(_TAGS), TAG),
        (_holds(living, timeless), LEFT),
        else_=VALIDITY,
    )
    each = (
        select(_product.c["id", "epoch", "identity"], func.max(stage).label("stage"))
        .select_from(_product.outerjoin(living, living.c.product == _product.c.id))
        .where(_product.c.setting.in_(_SETTINGS), _product.c.revision <= _UPTO)
        .group_by(_product.c.id, _product.c.epoch, _product.c.identity)
        .cte("each")
    )
    near = func.abs(each.c.epoch - bindparam("mid"))
    first = (
        select(each.c.stage, literal(0).label("number"), each.c.id)
        .order_by(
            each.c.stage.desc(), each.c.epoch.is_(None), *(() if timeless else (near,)), each.c.identity
        )
        .limit(bindparam("limit"))
        .subquery()
    )
    counts = select(each.c.stage, func.count().label("number"), null().label("id")).group_by(each.c.stage)
    return counts.union_all(select(first))  # type: ignore[return-value]


def _at_place() -> tuple[Any, ...]:
    setting = schema.setting
    return (
        setting.c.kind == bindparam("kind"),
        setting.c.instrument == bindparam("instrument"),
        setting.c.detector.in_(bindparam("detectors", expanding=True)),
    )


def _known(now: bool) -> tuple[Any, ...]:
    """At present every product is known: the index alone is read then."""
    return () if now else (_product.c.revision <= _UPTO,)


@cache
def _total(now: bool) -> Select[Any]:
    return (
        select(func.count())
        .select_from(schema.setting.join(_product, _product.c.setting == schema.setting.c.id))
        .where(*_at_place(), *_known(now))
    )


@cache
def _others(now: bool, timeless: bool) -> Select[Any]:
    """The nearest products whose keys do not agree."""
    return (
        select(_product.c.id)
        .select_from(schema.setting.join(_product, _product.c.setting == schema.setting.c.id))
        .where(*_at_place(), *_known(now), schema.setting.c.id.not_in(_SETTINGS))
        .order_by(*_away(timeless))
        .limit(bindparam("limit"))
    )
