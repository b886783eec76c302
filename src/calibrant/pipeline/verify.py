"""Verify: a product judged on frames that were processed with it, before anybody certifies it."""

from __future__ import annotations

from collections.abc import Mapping

from calibrant.exposures import Exposures
from calibrant.instrument import Instrument
from calibrant.pipeline.limits import frames_needed, products_needed
from calibrant.pipeline.recipe import Recipe
from calibrant.product import Product
from calibrant.registry.records import Verdict

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
        Kind ``bias``, ``dark``, ``flat`` or ``defects``; of any other kind only its quantities, and its
        difference to the reference, are judged.
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
    raise NotImplementedError
