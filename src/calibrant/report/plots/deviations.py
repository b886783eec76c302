"""Deviations: images that go both ways from a middle: fringes, sky flats, illumination."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from calibrant.errors import SelectionError
from calibrant.product import Product
from calibrant.report.plots.drawing import Picture
from calibrant.report.plots.grids import EITHER
from calibrant.report.plots.look import Look
from calibrant.report.plots.panels import panels, product_facts, shown_plane
from calibrant.report.plots.pixels import label
from calibrant.report.plots.series import trend
from calibrant.report.plots.sheets import table_of, titled

RATIOS = 0.2
"""Median within this of one: the image is a ratio, and its middle is one, not zero."""
INSIDE = 99.0
"""Per cent of the pixels between the last colours."""


def deviation_map(product: Product, *, plane: str = "data", reach: float | None = None) -> Figure:
    """A plane in colours that go both ways from its middle: zero, or one for what divides.

    Parameters
    ----------
    product : Product
        Such as a fringe frame, a sky flat or an illumination correction.
    plane : str
    reach : float, optional
        Deviation that has the last colours; 99 per cent of the pixels lie within it if not given.

    Raises
    ------
    SelectionError
        If there is no such plane.
    """
    if plane not in product.planes:
        raise SelectionError(
            f"the {product.kind} has no plane {plane!r}", got=", ".join(product.planes) or "no planes"
        )
    what = shown_plane(product, plane)
    good = np.asarray(what.good, np.float64)
    middle = float(np.median(good)) if good.size else 0.0
    centre = 1.0 if abs(middle - 1.0) < RATIOS else 0.0
    if reach is None:
        reach = float(np.percentile(np.abs(good - centre), INSIDE)) if good.size else 1.0
    reach = max(reach, 1e-9)
    look = Look((centre - reach, centre + reach), cmap=EITHER)
    quantity = "relative level" if centre else "signal" if what.unit else "part of the level"
    facts = product_facts(product)
    return panels([Picture(what, look, title=titled(product, "map"), facts=facts, quantity=quantity)])


def fringe_amplitudes(product: Product) -> Figure:
    """Strength of the fringes of each frame against its sky: on a line where both go together.

    Parameters
    ----------
    product : Product
        Kind ``fringe_frame`` with the table ``frames``: level, amplitude and sigma, in one unit.

    Raises
    ------
    SelectionError
        If the product has no such table, or no amplitude is a number.
    """
    frames = table_of(product, "frames", "level", "amplitude", "sigma")
    unit = product.units.get("frames.amplitude", "")
    return trend(
        frames["level"],
        frames["amplitude"],
        sigma=frames["sigma"],
        xlabel=label("level of the sky", product.units.get("frames.level", unit)),
        ylabel=label("amplitude of the fringes", unit),
        title=titled(product, "fringes of each frame"),
        facts=product_facts(product),
    )
