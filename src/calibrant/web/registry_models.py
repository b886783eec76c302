"""What the pages of a registry tell, as plain data: the same for the page and for its JSON twin."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from calibrant.comparison import compare as compared
from calibrant.errors import OptionError
from calibrant.registry import Registry, plain
from calibrant.registry.words import as_of_of, value_of

Query = Mapping[str, str]
Model = dict[str, Any]

STATES = ("draft", "certified", "superseded", "withdrawn")
ON_A_PAGE = 100
"""Products or exposures on one page of a list."""
NEWEST = 20
"""Events on the first page."""
_KEY = re.compile(r"(sha256:)?[0-9a-fA-F]{6,64}")
POINTS = 5000
"""Of a trend, the newest."""


def overview(registry: Registry, query: Query) -> Model:
    """What the registry holds, and what was reported last."""
    return {
        "url": registry.url,
        "revision": registry.revision,
        "totals": registry.totals(),
        "kinds": registry.kinds(),
        "states": list(STATES),
        "tags": registry.tags(),
        "frozen": registry.contexts(),
        "events": [plain.event(event) for event in registry.events(limit=NEWEST)],
    }


def products(registry: Registry, query: Query) -> Model:
    """Products of a filter, with their validity."""
    chosen = {name: query.get(name) or None for name in ("kind", "instrument", "tag", "state")}
    total = registry.count(**chosen)
    page = _page(query, total)
    found = registry.products(**chosen, limit=ON_A_PAGE, offset=page["offset"])
    return {
        "filters": chosen,
        "choices": _choices(registry),
        **page,
        "products": [plain.entry(entry) for entry in found],
    }


def product(registry: Registry, query: Query) -> Model:
    """One product: facts, quantities, limits, validity, events."""
    entry = registry.entry(key_of(query["ref"]))
    verdict, last = registry.verdict(entry.identity), registry.last_certified(entry.identity)
    return {
        "product": plain.entry(entry),
        "quantities": registry.values(entry.identity),
        "verdict": None if verdict is None else plain.verdict(verdict),
        "events": [plain.event(event) for event in registry.events(entry.identity)],
        "last_certified": None if last is None else plain.entry(last),
    }


def exposures(registry: Registry, query: Query) -> Model:
    """Raw exposures of a filter."""
    chosen = {name: query.get(name) or None for name in ("kind", "instrument", "detector", "exposure")}
    found = registry.exposures(**chosen, limit=ON_A_PAGE + 1, offset=_number(query, "offset"))
    return {
        "filters": chosen,
        "choices": _choices(registry),
        "offset": _number(query, "offset"),
        "size": ON_A_PAGE,
        "more": len(found) > ON_A_PAGE,
        "exposures": found[:ON_A_PAGE],
    }


def explain(registry: Registry, query: Query) -> Model:
    """Why this calibration: the question as asked and, once a kind is named, its answer."""
    names = ("kind", "exposure", "detector", "instrument", "time", "filter", "tag", "as_of", "level", "keys")
    asked: Model = {name: query.get(name, "").strip() for name in names}
    asked["drafts"] = query.get("drafts", "") not in ("", "0", "false", "no")
    answer = plain.explanation(registry.explain(asked["kind"], **_question(asked))) if asked["kind"] else None
    return {"asked": asked, "choices": _choices(registry), "answer": answer}


def lineage(registry: Registry, query: Query) -> Model:
    """Where a thing comes from."""
    return plain.lineage(registry.lineage(key_of(query["ref"])))


def trend(registry: Registry, query: Query) -> Model:
    """A quantity of all products of a kind, by epoch."""
    names = ("kind", "quantity", "instrument", "detector", "place")
    asked = {name: query.get(name, "").strip() for name in names}
    known = registry.quantities(asked["kind"]) if asked["kind"] else []
    if asked["kind"] and not asked["quantity"] and known:
        asked["quantity"] = known[0]
    points, low, high = [], None, None
    if asked["quantity"]:
        rules = {name: asked[name] or None for name in ("instrument", "detector", "place")}
        found = registry.trend(asked["kind"], asked["quantity"], **rules, limit=POINTS)
        points = [plain.point(point) for point in found]
        low, high = _limits(registry, asked["quantity"], points)
    return {
        "asked": asked,
        "choices": {**_choices(registry), "quantities": known},
        "points": points,
        "low": low,
        "high": high,
    }


def compare(registry: Registry, query: Query) -> Model:
    """Two products side by side: what differs beyond its errors."""
    entries = [registry.entry(key_of(query.get(name, ""))) for name in ("a", "b")]
    found = compared(registry.read(entries[0].identity), registry.read(entries[1].identity))
    return {
        "a": plain.entry(entries[0]),
        "b": plain.entry(entries[1]),
        "agrees": found.agrees,
        "verdict": found.verdict,
        "rows": found.rows(),
        "flags": [vars(flag) for flag in found.flags],
        "notes": list(found.notes),
    }


MODELS: Mapping[str, Callable[[Registry, Query], Model]] = {
    "overview": overview,
    "products": products,
    "product": product,
    "exposures": exposures,
    "explain": explain,
    "lineage": lineage,
    "trend": trend,
    "compare": compare,
}


def key_of(text: str) -> str:
    """An identity or hash, or the beginning of one, as a client may name a thing; never a path.

    Raises
    ------
    OptionError
        If it is none.
    """
    if not _KEY.fullmatch(text.strip()):
        raise OptionError(
            "this names no product", expected="its identity, or six digits of it or more", got=text[:80]
        )
    return text.strip()


# --- parts ------------------------------------------------------------------------------------------------


def _choices(registry: Registry) -> Model:
    return {
        "kinds": sorted(registry.kinds()),
        "instruments": registry.instruments(),
        "tags": sorted(registry.tags()),
        "states": list(STATES),
    }


def _page(query: Query, total: int) -> Model:
    offset = min(_number(query, "offset"), max(0, (total - 1) // ON_A_PAGE * ON_A_PAGE))
    return {"offset": offset, "size": ON_A_PAGE, "total": total, "more": offset + ON_A_PAGE < total}


def _number(query: Query, name: str) -> int:
    text = query.get(name, "") or "0"
    if not text.isdecimal() or len(text) > 9:
        raise OptionError(f"{name} is no number", expected="a whole number from 0", got=text[:40])
    return int(text)


def _question(asked: Model) -> Model:
    """Arguments of `Registry.explain`; a further fact is name=value, several by commas."""
    facts = {}
    for word in filter(None, (part.strip() for part in asked["keys"].split(","))):
        name, equals, value = (part.strip() for part in word.partition("="))
        if not (name.isidentifier() and equals and value):
            raise OptionError("this is no fact", where="keys", expected="name=value", got=word[:40])
        facts[name] = value_of(value)
    given = {name: asked[name] or None for name in ("exposure", "detector", "instrument", "time")}
    tags = tuple(part.strip() for part in asked["tag"].split(",") if part.strip())
    return {
        **facts,
        **({"filter": asked["filter"]} if asked["filter"] else {}),
        **given,
        "tag": tags or None,
        "as_of": as_of_of(asked["as_of"] or None),
        "level": _number(asked, "level"),
        "drafts": asked["drafts"],
    }


def _limits(registry: Registry, name: str, points: list[Model]) -> tuple[float | None, float | None]:
    """Limits that the newest verified product of a trend was held against for this quantity."""
    for identity in dict.fromkeys(point["identity"] for point in reversed(points)):
        verdict = registry.verdict(identity)
        for item in () if verdict is None else verdict.items:
            if item.name in (name, f"quantity.{name}"):
                return item.low, item.high
    return None, None
