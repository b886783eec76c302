"""Verdicts: measured numbers against limits, and against their own history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from calibrant.errors import OptionError, SelectionError
from calibrant.product import Product, Provenance, Quantity, Table

Limit = float | tuple[float, float] | list[float]
FAR = 3.0  # sigmas from its history that are told
FEWEST = 2  # earlier products that make a history


def check_limits(limits: Mapping[str, Limit] | None, known: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Limits as pairs: a number is the largest absolute value.

    Raises
    ------
    OptionError
        If a limit has no meaning, or no such quantity is measured.
    """
    found = {}
    for name, limit in (limits or {}).items():
        if name not in known:
            raise OptionError(
                f"nothing is measured that is called {name!r}", where="limits", expected=", ".join(known)
            )
        pair = limit if isinstance(limit, (tuple, list)) else (-limit, limit)
        if len(pair) != 2 or not float(pair[0]) <= float(pair[1]):
            raise OptionError(
                "a limit is a number, or the lowest and the highest", where=f"limits[{name}]", got=limit
            )
        found[name] = (float(pair[0]), float(pair[1]))
    return found


def verdicts(
    product: Product,
    limits: Mapping[str, tuple[float, float]],
    history: Sequence[Product] = (),
) -> Table:
    """A line for each quantity: its value, its limits, what it used to be, and a word.

    Parameters
    ----------
    limits : mapping
        Name of a quantity -> lowest and highest value; for all places.
    history : sequence of Product
        Earlier ones, of which two make a history: 3 sigmas from their mean are told, sigma being that of the
        value and of the scatter of the earlier ones.
    """
    lines = [_line(one, limits, [_value(old, one) for old in history]) for one in product.quantities]
    names = ("quantity", "place", "value", "sigma", "low", "high", "before", "before_sigma", "verdict")
    columns = list(zip(*lines, strict=True)) or [()] * len(names)
    text = {"quantity", "place", "verdict"}
    return {
        name: np.array(column, str if name in text else np.float64)
        for name, column in zip(names, columns, strict=True)
    }


def _value(product: Product, like: Quantity) -> float:
    try:
        return product.quantity(like.name, like.place).value
    except SelectionError:
        return math.nan


def _line(
    one: Quantity, limits: Mapping[str, tuple[float, float]], earlier: Sequence[float]
) -> tuple[str | float, ...]:
    low, high = limits.get(one.name, (math.nan, math.nan))
    known = np.array([value for value in earlier if math.isfinite(value)])
    before = scatter = math.nan
    word = "no limit" if math.isnan(low) else "ok"
    if len(known) >= FEWEST:
        before = float(known.mean())
        scatter = float(known.std(ddof=1) * math.sqrt(1 + 1 / len(known)))
        far = abs(one.value - before) > FAR * math.hypot(scatter, one.sigma or 0.0)
        word = "unlike history" if far else "ok"
    if one.value < low or one.value > high:
        word = "beyond limit"
    sigma = math.nan if one.sigma is None else one.sigma
    return one.name, one.place, one.value, sigma, low, high, before, scatter, word


def count(table: Table, word: str) -> int:
    """How many lines have this verdict."""
    return int((np.asarray(table["verdict"]) == word).sum())


def judged(
    product: Product, limits: Mapping[str, tuple[float, float]], history: Sequence[Product] = ()
) -> Product:
    """The product with its table ``verdict``, and a note of what is beyond limits or unlike its history."""
    table = verdicts(product, limits, history)
    words = [
        f"{count(table, word)} {word}" for word in ("beyond limit", "unlike history") if count(table, word)
    ]
    notes = (*product.provenance.notes, *([f"verdict: {', '.join(words)}"] if words else []))
    return replace(
        product,
        tables={**product.tables, "verdict": table},
        provenance=replace(product.provenance, notes=notes),
    )


def trend(products: Sequence[Product], name: str) -> Product:
    """Each quantity in time, and a verdict on the last epoch of each detector: kind ``{name}_trend``.

    Tables ``trend`` (detector, epoch [us since 1970], quantity, place, value, sigma) and ``verdict``.
    """
    of: dict[str, list[Product]] = {}
    for one in sorted(products, key=lambda product: product.epoch or 0):
        of.setdefault(str(one.keys.get("detector", "")), []).append(one)
    lines = [
        (detector, one.epoch or 0, q.name, q.place, q.value, math.nan if q.sigma is None else q.sigma)
        for detector, many in of.items() for one in many for q in one.quantities
    ]  # fmt: skip
    kinds = (str, np.int64, str, str, np.float64, np.float64)
    names = ("detector", "epoch", "quantity", "place", "value", "sigma")
    columns = zip(*lines, strict=True)
    series: Table = {key: np.array(c, kind) for key, kind, c in zip(names, kinds, columns, strict=True)}
    judgements = {key: verdicts(many[-1], _limits(many[-1]), many[:-1]) for key, many in of.items()}
    parts = list(judgements.values())
    verdict: Table = {
        "detector": np.repeat(list(judgements), [len(table["value"]) for table in parts]),
        **{key: np.concatenate([table[key] for table in parts]) for key in parts[0]},
    }
    return Product(
        f"{name}_trend",
        instrument=products[0].instrument,
        keys={"detector": next(iter(of))} if len(of) == 1 else {},
        epoch=max((one.epoch or 0 for one in products), default=None),
        tables={"trend": series, "verdict": verdict},
        quantities=(
            Quantity("unlike_history", float(count(verdict, "unlike history"))),
            Quantity("beyond_limit", float(count(verdict, "beyond limit"))),
        ),
        provenance=Provenance(name, parents=tuple(one.identity for one in products)),
    )


def _limits(product: Product) -> dict[str, tuple[float, float]]:
    stated = product.provenance.options.get("limits") or {}
    return {name: (float(low), float(high)) for name, (low, high) in stated.items()}
