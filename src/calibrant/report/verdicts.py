"""Verdicts: what others found of a product in one word and one sentence. Nothing is measured here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibrant.comparison import Comparison
from calibrant.product import Product, Quantity
from calibrant.registry.records import Entry, Item, Verdict
from calibrant.report.matter import Subject
from calibrant.report.words import UNKNOWN, count, label, limits, number, plain, with_unit

PASS, ATTENTION, FAIL, OPEN = "pass", "attention", "fail", "not verified"
ORDER = (FAIL, ATTENTION, PASS, OPEN)
"""Of sentences: the ones that decide first."""
ORDER_OF_TABLE = (FAIL, ATTENTION, OPEN, PASS)
"""Of products: what asks for somebody first."""
QUANTITY = "quantity."
TABLE = "verdict"
"""The table of a product that judges its own quantities: quantity, place, value, low, high, verdict."""
WORDS = {"beyond limit": FAIL, "unlike history": ATTENTION, "ok": PASS}
TOLD = 3
"""Failures that are named in the sentence."""


@dataclass(frozen=True)
class Standing:
    """The verdict on a product.

    Attributes
    ----------
    word : str
        `PASS`, `ATTENTION`, `FAIL` or `OPEN`.
    reason : str
        One sentence.
    """

    word: str
    reason: str


@dataclass(frozen=True)
class Check:
    """One value, or equal judgements on many places of it, against its limits; all in words.

    Attributes
    ----------
    mark : str
        `PASS`, `FAIL`, or `ATTENTION` if the value could not be measured.
    """

    name: str
    place: str
    value: str
    limits: str
    mark: str
    note: str = ""


def standing(subject: Subject, product: Product, found: Comparison | None) -> Standing:
    """What stands to be said of a product: its worst finding first.

    Parameters
    ----------
    subject : Subject
    product : Product
    found : Comparison or None
        With its reference.
    """
    findings = [*_findings(subject, product), *_compared(subject, found)]
    worst = next((word for word in (FAIL, ATTENTION, PASS) if any(one == word for one, _ in findings)), OPEN)
    told = sorted(findings, key=lambda each: ORDER.index(each[0]))
    return Standing(worst, "; ".join(dict.fromkeys(sentence for _, sentence in told)))


def _findings(subject: Subject, product: Product) -> Iterator[tuple[str, str]]:
    """Words and sentences, from the registry, the verdict, and the product's own table."""
    yield from _registered(subject.entry)
    own = own_items(product)
    if subject.verdict is not None:
        yield _judged(subject.verdict.items, subject.verdict.frames, subject.source)
    if own:
        yield _own(product)
    if subject.verdict is None and not own:
        yield OPEN, subject.why or "nobody verified it"


def _registered(entry: Entry | None) -> Iterator[tuple[str, str]]:
    if entry is None:
        return
    if entry.state == "withdrawn":
        why = str(entry.facts.get("withdrawn") or "no reason given")
        yield FAIL, f"withdrawn from the registry: {why}"
    for sentence in entry.tainted:
        yield ATTENTION, sentence


def _judged(items: Sequence[Item], frames: Sequence[str], source: str) -> tuple[str, str]:
    on = f"on {count(len(frames), 'frame')}" if frames else "on its own numbers"
    where = f"{on}{f', {source}' if source else ''}"
    wrong = [item for item in items if not item.passed and _known(item)]
    blind = [item for item in items if not _known(item)]
    if not items:
        return OPEN, f"no limit of the recipe has a meaning for it ; {where}"
    if wrong:
        told = "; ".join(_told(item) for item in wrong[:TOLD])
        more = f"; and {len(wrong) - TOLD} more" if len(wrong) > TOLD else ""
        return FAIL, f"{len(wrong)} of {count(len(items), 'limit')} broken: {told}{more}; {where}"
    if blind:
        names = ", ".join(dict.fromkeys(plain(_base(item.name)) for item in blind))
        why = next((item.note for item in blind if item.note), "it could not be measured")
        return ATTENTION, f"not measured: {names}, {why.rstrip('.')}; {where}"
    return PASS, f"{_kept(items)}; {where}"


def _kept(items: Sequence[Item]) -> str:
    nearest = max(items, key=_nearness)
    kept = "its limit kept" if len(items) == 1 else f"all {len(items)} limits kept"
    return f"{kept}, the closest by {_told(nearest)}" if _nearness(nearest) >= 0 else kept


def _nearness(item: Item) -> float:
    """How far a value has gone from its best one to the limit on its side: 1 is on it; -1 if there is none.

    The best is what a perfect product has: 0, or of a ratio 1; the middle where neither is allowed.
    """
    if item.value is None or item.low is None or item.high is None:
        return -1.0
    best = next((one for one in (0.0, 1.0) if item.low <= one <= item.high), (item.low + item.high) / 2)
    edge = item.high if item.value >= best else item.low
    return abs((item.value - best) / (edge - best)) if edge != best else 0.0


def _told(item: Item) -> str:
    value = with_unit(number(item.value), item.unit)
    return f"{label(_base(item.name), item.place)} {value} ({limits(item.low, item.high)})"


def _known(item: Item) -> bool:
    return item.value is not None and math.isfinite(item.value)


def _base(name: str) -> str:
    return name.removeprefix(QUANTITY)


def _own(product: Product) -> tuple[str, str]:
    """What the product's own table says."""
    table = product.tables[TABLE]
    words = np.asarray(table["verdict"]).astype(str).tolist()
    for bad in ("beyond limit", "unlike history"):
        which = [
            label(str(table["quantity"][i]), str(table["place"][i]))
            for i, word in enumerate(words)
            if word == bad
        ]
        if which:
            more = f" and {len(which) - TOLD} more" if len(which) > TOLD else ""
            verb = "beyond their limits" if bad == "beyond limit" else "unlike their history"
            return WORDS[bad], f"{verb}: {', '.join(which[:TOLD])}{more}"
    judged = sum(word == "ok" for word in words)
    if judged:
        return PASS, f"{judged} of its numbers within their limits or like their history"
    return OPEN, "its numbers have neither limits nor a history"


def own_items(product: Product) -> list[Item]:
    """The product's own table as items; empty if it has none that can be understood."""
    table = product.tables.get(TABLE)
    if table is None or not {"quantity", "place", "value", "low", "high", "verdict"} <= set(table):
        return []
    units = {(q.name, q.place): q.unit for q in product.quantities}
    columns = [np.asarray(table[name]).tolist() for name in ("quantity", "place", "value", "low", "high")]
    return [
        Item(str(name), value, _bound(low), _bound(high), units.get((str(name), str(place)), ""), str(place))
        for name, place, value, low, high in zip(*columns, strict=True)
    ]


def _bound(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _compared(subject: Subject, found: Comparison | None) -> Iterator[tuple[str, str]]:
    """The comparison as a finding: of weight only where no limit of the recipe has judged the difference."""
    if found is None:
        return
    items = subject.verdict.items if subject.verdict is not None else ()
    judged = any(item.name.startswith("difference") for item in items)
    yield (
        OPEN if found.agrees or judged else ATTENTION,
        f"against {subject.against or short_of(found)}: {brief(found)}",
    )


def short_of(found: Comparison) -> str:
    """The beginning of the other identity."""
    return found.other.removeprefix("sha256:")[:12]


def brief(found: Comparison) -> str:
    """``agrees``, or the largest differences."""
    departures = list(found.departures)
    if not departures:
        return "agrees"
    more = f" and {len(departures) - TOLD} more" if len(departures) > TOLD else ""
    return f"differs: {'; '.join(plain(one) for one in departures[:TOLD])}{more}"


def checks(verdict: Verdict | None, own: Iterable[Item] = ()) -> list[Check]:
    """Lines of values with their limits; places that pass share a line, each that fails has its own."""
    items = [
        *(verdict.items if verdict is not None else ()),
        *(one for one in own if limits(one.low, one.high)),
    ]
    by_name: dict[str, list[Item]] = {}
    for item in items:
        by_name.setdefault(item.name, []).append(item)
    return [line for several in by_name.values() for line in _lines(several)]


def _lines(items: Sequence[Item]) -> Iterator[Check]:
    good = [item for item in items if item.passed]
    if len(good) > 1:
        values = sorted(item.value for item in good if item.value is not None)
        first = good[0]
        ends = dict.fromkeys([number(values[0]), number(values[-1])])
        span = with_unit(" … ".join(ends), first.unit)
        bounds = with_unit(limits(first.low, first.high), first.unit)
        yield Check(plain(_base(first.name)), f"{len(good)} places", span, bounds, PASS)
        items = [item for item in items if not item.passed]
    for item in items:
        mark = PASS if item.passed else FAIL if _known(item) else ATTENTION
        value = with_unit(number(item.value), item.unit) if _known(item) else "not measured"
        bounds = with_unit(limits(item.low, item.high), item.unit)
        yield Check(plain(_base(item.name)), item.place or UNKNOWN, value, bounds, mark, item.note)


def bounds(
    verdict: Verdict | None, own: Iterable[Item], quantities: Iterable[Quantity]
) -> Mapping[tuple[str, str], Item]:
    """Items by name and place, to mark the quantities that they judge.

    A value of frames may bear the name of a quantity and mean another number: it marks nothing.
    """
    items = [*own, *(verdict.items if verdict is not None else ())]
    bounded = {(_base(item.name), item.place): item for item in items if limits(item.low, item.high)}
    same = {(q.name, q.place) for q in quantities if _is_of(bounded.get((q.name, q.place)), q)}
    return {place: item for place, item in bounded.items() if place in same}


def _is_of(item: Item | None, quantity: Quantity) -> bool:
    if item is None:
        return False
    if item.name.startswith(QUANTITY):
        return True
    same = item.value == quantity.value or not _known(item)
    return same and item.unit == quantity.unit


def tally(standings: Iterable[Standing]) -> list[tuple[str, int]]:
    """How many products stand where, the best first."""
    words = [one.word for one in standings]
    return [(word, words.count(word)) for word in (PASS, ATTENTION, FAIL, OPEN)]
