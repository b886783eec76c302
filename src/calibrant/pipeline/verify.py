"""Verify: a product judged on frames that were processed with it, before anybody certifies it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping

from calibrant.comparison import compare
from calibrant.errors import ConfigError
from calibrant.exposures import Exposures
from calibrant.instrument import Instrument
from calibrant.pipeline._verify_frames import Frames, frames_of
from calibrant.pipeline._verify_values import Values, measured
from calibrant.pipeline.limits import DIFFERENCE, QUANTITY, VALUES, check, frames_needed, products_needed
from calibrant.pipeline.recipe import Recipe
from calibrant.product import Product
from calibrant.registry.records import Item, Verdict

__all__ = ["frames_needed", "products_needed", "verify"]


def verify(
    product: Product,
    *,
    recipe: Recipe,
    instrument: Instrument,
    exposures: Exposures | None = None,
    products: Mapping[str, Product] | None = None,
    reference: Product | None = None,
) -> Verdict:
    """Measure frames that are processed with a product, and hold each value against the recipe's limits.

    Parameters
    ----------
    product : Product
        Kind ``bias``, ``dark``, ``flat`` or ``defects``; of any other kind only the numbers that it states,
        and its difference to the reference, are judged.
    recipe : Recipe
        Its table ``[verify.<kind>]`` says what is measured.
    instrument : Instrument
    exposures : Exposures, optional
        Raw frames, see `frames_needed`; others among them are passed over.
    products : mapping of Product
        Kind -> what prepares these frames, see `products_needed`.
    reference : Product, optional
        The last certified one of the same kind and setting.

    Returns
    -------
    Verdict
        One item for each limit and place. A value that could not be measured has None, and fails.

    Raises
    ------
    ConfigError
        If the recipe has no limits for the kind.
    ShapeError, UnitError, SelectionError
        If the reference cannot be compared with the product.
    """
    bounds = recipe.limits_of(product.kind)
    if not bounds:
        raise ConfigError(
            f"the recipe {recipe.name} has no limits for products of kind {product.kind}",
            where=f"[verify.{product.kind}]",
            expected="a table of values, each with its lowest and highest",
            do=f"add the table [verify.{product.kind}] to the recipe; it may bound any quantity.NAME",
        )
    check({product.kind: bounds}, recipe.name)
    frames = frames_of(product, products or {}, instrument, recipe, exposures)
    own = any(name in VALUES.get(product.kind, {}) for name in bounds)
    values = measured(frames) if own else Values()
    notes = _against(product, reference, values)
    items = [
        item
        for name, (low, high) in bounds.items()
        for item in _items(product, name, low, high, values, frames)
    ]
    return Verdict(
        identity=product.identity,
        kind=product.kind,
        items=tuple(items),
        recipe=recipe.name,
        frames=tuple(frames.names),
        notes=tuple(dict.fromkeys([*frames.sentences, *notes, *_passed_over(bounds, values)])),
    )


def _against(product: Product, reference: Product | None, values: Values) -> list[str]:
    """The difference to the last certified product, into `values`; returns what there is to say."""
    if reference is None or reference.identity == product.identity:
        why = "no other product was certified before" if reference is None else "the last one is this product"
        values.absent |= dict.fromkeys(DIFFERENCE, why)
        return []
    found = compare(product, reference)
    data = found.plane()
    numbers, change = ("difference", "difference_width", "difference_outliers"), ""
    if data is not None and data.pull is not None:
        change = f", data by {data.difference:+.3g} {data.unit}".rstrip()
        values.put("difference", data.pull, "sigma")
        values.put("difference_width", data.width or 0.0, "sigma")
        values.put("difference_outliers", data.outliers or 0.0)
    else:
        values.absent |= dict.fromkeys(numbers, "the products state no errors of pixels to compare")
    if "dq" in product.planes and "dq" in reference.planes:
        values.put("difference_flags", found.flagged_once)
    else:
        values.absent["difference_flags"] = "one of the products has no flags"
    told = f"against the last certified one, {reference.identity.removeprefix('sha256:')[:12]}{change}"
    return [f"{told}: {found.verdict}", *found.notes]


def _passed_over(bounds: Iterable[str], values: Values) -> list[str]:
    """Which limits have no meaning for this product, and why; those of one reason together."""
    why: dict[str, list[str]] = {}
    for name in bounds:
        if name in values.absent and name not in values.found:
            why.setdefault(values.absent[name], []).append(name)
    return [f"passed over, {reason}: {', '.join(names)}" for reason, names in why.items()]


def _items(
    product: Product, name: str, low: float, high: float, values: Values, frames: Frames
) -> Iterator[Item]:
    """The items of one limit: one for each place, or one that says why there is none."""

    def item(value: float | None, unit: str = "", place: str = "", note: str = "") -> Item:
        lowest, highest = (bound if math.isfinite(bound) else None for bound in (low, high))
        return Item(name, value, lowest, highest, unit, place, note)

    if name.startswith(QUANTITY):
        wanted = name.removeprefix(QUANTITY)
        for found in product:
            if found.name == wanted:
                yield item(found.value, found.unit, found.place)
        if not any(found.name == wanted for found in product):
            yield item(None, note=_no_quantity(product, wanted))
    elif name in values.found:
        for place, value in values.found[name].items():
            yield item(value.value, value.unit, place, value.note)
    elif name not in values.absent:
        yield item(None, note=frames.lack or "it could not be measured on these frames")


def _no_quantity(product: Product, name: str) -> str:
    known = sorted({quantity.name for quantity in product})
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}"
    return f"the {product.kind} has no quantity {name!r}; {hint}"
