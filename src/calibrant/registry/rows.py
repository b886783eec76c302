"""Candidates from the tables: what is valid now by the derived table, what was valid then by the events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    true,
)

from calibrant.registry import schema
from calibrant.registry.asking import Asked
from calibrant.registry.memory import Memory, Setting
from calibrant.registry.records import Candidate
from calibrant.registry.schema import ALWAYS, FOREVER

KEYS, WITHDRAWN, SUPERSEDED, DRAFT, TAG, VALIDITY, LEFT = range(7)
"""How far a product comes in the rule, as `misses` counts it."""

_product, _event, _validity, _slot = schema.product, schema.event, schema.current_validity, schema.slot
_other, _ender, _withdrawal = _validity.alias(), _event.alias("ender"), _event.alias("withdrawal")

_VALID_NOW = (
    select(
        _validity.c.event.label("revision"),
        *_validity.c["begin", "end"],
        _slot.c.tag,
        *_product.c["identity", "epoch", "setting"],
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


def valid_now(connection: Connection, asked: Asked, slots: Sequence[int], memory: Memory) -> list[Candidate]:
    """The products whose certified span in one of the slots holds the time, at present.

    Parameters
    ----------
    connection : Connection
    asked : Asked
    slots : sequence of int
    memory : Memory
    """
    if not slots:
        return []
    found = connection.execute(_VALID_NOW, {"slots": slots, "mid": asked.ask.mid})
    return [_certified(row, memory, asked.tags) for row in found]


def left(
    connection: Connection, asked: Asked, settings: Sequence[Setting], memory: Memory
) -> list[Candidate]:
    """Every certification that no rule refuses by itself; and, if asked for, the nearest drafts.

    Parameters
    ----------
    connection : Connection
    asked : Asked
    settings : sequence of Setting
        Whose keys agree with the question.
    memory : Memory
    """
    if not settings:
        return []
    timeless, values = asked.ask.mid is None, _values(asked, settings)
    statement = _left(asked.now, timeless)
    found = [_certified(row, memory, asked.tags) for row in connection.execute(statement, values)]
    if asked.ask.drafts:
        rows = connection.execute(_drafts(timeless), values)
        found += [_uncertified(row, memory, "draft", row.revision) for row in rows]
    return found


def misses(
    connection: Connection, asked: Asked, settings: Sequence[Setting], memory: Memory, limit: int
) -> tuple[dict[int, int], list[Candidate]]:
    """Products of the kind, instrument and detector, counted by how far they come; and the farthest ones.

    Parameters
    ----------
    connection : Connection
    asked : Asked
    settings : sequence of Setting
        Whose keys agree with the question.
    memory : Memory
    limit : int
        Number of products whose rows are given.

    Returns
    -------
    tuple
        Stage (`KEYS` to `LEFT`) -> number; rows of those that come farthest, the nearest in time first.
    """
    ask, values = asked.ask, _values(asked, settings)
    values |= {"limit": limit, "kind": ask.kind, "instrument": ask.instrument}
    values["detectors"] = list(dict.fromkeys((asked.detector, "")))
    counts: dict[int, int] = {}
    ids: list[int] = []
    timeless = ask.mid is None
    if settings:
        for stage, number, product in connection.execute(_stages(asked.now, timeless, ask.drafts), values):
            if product is None:
                counts[stage] = number
            else:
                ids.append(product)
    total: int = connection.execute(_total(asked.now), values).scalar_one()
    counts[KEYS] = total - sum(counts.values())
    if len(ids) < limit and counts[KEYS]:
        values["limit"] = limit - len(ids)
        ids += connection.execute(_others(asked.now, timeless), values).scalars()
    return counts, histories(connection, asked, ids, memory)


def histories(
    connection: Connection, asked: Asked, products: Sequence[int], memory: Memory
) -> list[Candidate]:
    """All that is known of some products: a row for each certification that lives, else one row.

    Parameters
    ----------
    connection : Connection
    asked : Asked
    products : sequence of int
    memory : Memory
    """
    if not products:
        return []
    values = {"products": list(products), "revision": asked.revision}
    known = {row.id: row for row in connection.execute(_PRODUCTS, values)}
    ended = set(connection.execute(_ENDED, values).scalars())
    found: dict[int, list[Candidate]] = {number: [] for number in known}
    dead: dict[int, Candidate] = {}
    for row in connection.execute(_EVENTS, values):
        if row.kind == "withdrawn":
            dead[row.product] = _uncertified(row, memory, "withdrawn", row.revision, row.why)
            found[row.product] = []
        elif row.revision in ended:
            dead[row.product] = _uncertified(row, memory, "superseded", row.revision)
        else:
            found[row.product].append(_certified(row, memory, asked.tags))
    for number, row in known.items():
        if not found[number]:
            found[number] = [dead.get(number) or _uncertified(row, memory, "draft", row.revision)]
    return [candidate for number in products for candidate in found.get(number, ())]


def _certified(row: Any, memory: Memory, tags: Mapping[int, int]) -> Candidate:
    setting = memory.settings[row.setting]
    return Candidate(
        identity=row.identity,
        kind=setting.kind,
        instrument=setting.instrument,
        keys=setting.keys,
        epoch=row.epoch,
        state="certified",
        tag=memory.tags[row.tag],
        priority=tags.get(row.tag, -1),
        begin=None if row.begin == ALWAYS else row.begin,
        end=None if row.end == FOREVER else row.end,
        revision=row.revision,
    )


def _uncertified(row: Any, memory: Memory, state: str, revision: int, why: str | None = None) -> Candidate:
    setting = memory.settings[row.setting]
    return Candidate(
        identity=row.identity,
        kind=setting.kind,
        instrument=setting.instrument,
        keys=setting.keys,
        epoch=row.epoch,
        state=state,
        revision=revision,
        why=why or "",
    )


# --- statements -------------------------------------------------------------------------------------------

# Written into the text: drivers limit the number of parameters, and settings within a tolerance may be many.
_SETTINGS: BindParameter[Any] = bindparam("settings", expanding=True, literal_execute=True)
_TAGS: BindParameter[Any] = bindparam("tags", expanding=True, literal_execute=True)
_SOME: BindParameter[Any] = bindparam("products", expanding=True)
_UPTO: BindParameter[Any] = bindparam("revision")

_PRODUCTS = select(*_product.c["id", "identity", "setting", "epoch", "revision"]).where(
    _product.c.id.in_(_SOME)
)
_EVENTS = (
    select(
        *_event.c["product", "kind", "revision", "begin", "end", "tag", "why"],
        *_product.c["identity", "epoch", "setting"],
    )
    .select_from(_event.join(_product, _product.c.id == _event.c.product))
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


def _values(asked: Asked, settings: Sequence[Setting]) -> dict[str, Any]:
    ask = asked.ask
    reach, mid = ask.reach[ask.level - 1] if ask.level > 0 else 0, ask.mid or 0
    return {
        "settings": [setting.id for setting in settings],
        "tags": list(asked.tags),
        "revision": asked.revision,
        "mid": mid,
        "late": mid + reach,
        # At level 0 the end is exclusive; at others the distance to it may be the whole reach.
        "early": mid - reach if ask.level > 0 else mid + 1,
    }


def _is_withdrawn() -> ColumnElement[bool]:
    return exists().where(
        _withdrawal.c.product == _product.c.id,
        _withdrawal.c.kind == "withdrawn",
        _withdrawal.c.revision <= _UPTO,
    )


class _Living(NamedTuple):
    """Products beside their certifications that live, and the columns of those."""

    rows: FromClause
    revision: ColumnElement[Any]
    begin: ColumnElement[Any]
    end: ColumnElement[Any]
    tag: ColumnElement[Any]


def _living(now: bool, outer: bool = False) -> _Living:
    """Joined table by table: of a subquery SQLite would make a copy of all that is valid."""
    if now:
        rows = _product.join(_validity, _validity.c.product == _product.c.id, isouter=outer)
        rows = rows.join(_slot, _slot.c.id == _validity.c.slot, isouter=outer)
        return _Living(rows, _validity.c.event, _validity.c.begin, _validity.c.end, _slot.c.tag)
    superseded = exists().where(
        _ender.c.ends == _event.c.revision, _ender.c.kind == "superseded", _ender.c.revision <= _UPTO
    )
    lives = and_(
        _event.c.product == _product.c.id,
        _event.c.kind == "certified",
        _event.c.revision <= _UPTO,
        ~superseded,
        ~_is_withdrawn(),
    )
    rows = _product.join(_event, lives, isouter=outer)
    return _Living(rows, _event.c.revision, _event.c.begin, _event.c.end, _event.c.tag)


def _holds(living: _Living, timeless: bool) -> ColumnElement[bool]:
    if timeless:
        return true()
    return and_(
        or_(living.begin.is_(None), living.begin <= bindparam("late")),
        or_(living.end.is_(None), living.end >= bindparam("early")),
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
            *_product.c["identity", "epoch", "setting"],
            living.revision.label("revision"),
            living.begin.label("begin"),
            living.end.label("end"),
            living.tag.label("tag"),
        )
        .select_from(living.rows)
        .where(_product.c.setting.in_(_SETTINGS), living.tag.in_(_TAGS), _holds(living, timeless))
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
            *_product.c["identity", "epoch", "setting", "revision"],
            func.row_number().over(partition_by=_product.c.setting, order_by=_away(timeless)).label("place"),
        )
        .where(_product.c.setting.in_(_SETTINGS), _product.c.revision <= _UPTO, ~used)
        .subquery()
    )
    return select(ranked).where(ranked.c.place <= 3)


@cache
def _stages(now: bool, timeless: bool, drafts: bool) -> Select[Any]:
    """Products of the settings: counted by stage, and those of the highest stages."""
    living, certificate = _living(now, outer=True), _event.alias("certificate")
    certified = exists().where(
        certificate.c.product == _product.c.id,
        certificate.c.kind == "certified",
        certificate.c.revision <= _UPTO,
    )
    unliving = case((_is_withdrawn(), WITHDRAWN), (certified, SUPERSEDED), else_=LEFT if drafts else DRAFT)
    stage = case(
        (living.revision.is_(None), unliving),
        (living.tag.not_in(_TAGS), TAG),
        (_holds(living, timeless), LEFT),
        else_=VALIDITY,
    )
    each = (
        select(*_product.c["id", "epoch", "identity"], func.max(stage).label("stage"))
        .select_from(living.rows)
        .where(_product.c.setting.in_(_SETTINGS), _product.c.revision <= _UPTO)
        .group_by(_product.c.id)
        .cte("each")
    )
    near = func.abs(each.c.epoch - bindparam("mid"))
    first = (
        select(each.c.stage, literal(0).label("number"), each.c.id)
        .order_by(
            case((each.c.stage == DRAFT, SUPERSEDED), else_=each.c.stage).desc(),  # one rule refuses both
            *(() if timeless else (each.c.epoch.is_(None), near)),
            each.c.identity,
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
