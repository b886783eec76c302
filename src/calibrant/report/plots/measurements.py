"""Which pictures a measurement has: by the kind of its product, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from calibrant.product import Product
from calibrant.report.plots import amplifiers, photon_transfer
from calibrant.report.plots.sheets import has

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Maker = Callable[[], "Figure"]


def figures(product: Product) -> dict[str, Maker]:
    """The pictures of a product: a word for the file's name, and what makes the figure.

    Parameters
    ----------
    product : Product
        Of any kind; one without pictures of its own, or without numbers to draw, has none.
    """
    makers = KINDS.get(product.kind)
    return {} if makers is None else dict(makers(product))


def _gain(product: Product) -> Iterator[tuple[str, Maker]]:
    if has(product, "ptc", "variance"):
        yield "curve", partial(photon_transfer.noise_curve, product)
        yield "variance", partial(photon_transfer.variance_curve, product)
    if has(product, "a_matrix", "a"):
        yield "matrix", partial(photon_transfer.matrix, product)
    yield from _amplifiers(product)


def _amplifiers(product: Product) -> Iterator[tuple[str, Maker]]:
    """Bars where there are amplifiers to compare; how well they are known on a page of its own."""
    if len(amplifiers.places(product)) > 1:
        for word, checks in (("amplifiers", False), ("checks", True)):
            names = amplifiers.drawn_names(product, checks=checks)
            if names:
                yield word, partial(amplifiers.bars, product, names)


KINDS: dict[str, Callable[[Product], Iterator[tuple[str, Maker]]]] = {"gain": _gain}
