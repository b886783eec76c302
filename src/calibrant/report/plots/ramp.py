"""Ramps: slopes, how well they fit, jumps."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from calibrant.frame import DQ
from calibrant.product import Product
from calibrant.report.plots.drawing import Picture
from calibrant.report.plots.look import Look
from calibrant.report.plots.panels import panels, product_facts, shown_plane
from calibrant.report.plots.pixels import shown
from calibrant.report.plots.sheets import titled

CHI2 = (0.0, 3.0)
"""First and last grey of the reduced chi squared: 1 is what gain and read noise foretell."""


def slope_map(product: Product) -> Figure:
    """The slope of every pixel.

    Parameters
    ----------
    product : Product
        Kind ``ramp``.
    """
    return panels([
        Picture(
            shown_plane(product, "data"), Look(), title=titled(product, "slopes"),
            facts=product_facts(product), quantity="slope",
        )
    ])  # fmt: skip


def chi2_map(product: Product) -> Figure:
    """Reduced chi squared of every pixel about its slope.

    Parameters
    ----------
    product : Product
        Kind ``ramp``; pixels of fewer than two differences have none.
    """
    freedom = product.planes["count"].astype(np.float32) - np.float32(1)
    chi2 = np.full(freedom.shape, np.nan, np.float32)
    np.divide(product.planes["chi2"], freedom, out=chi2, where=freedom > 0)
    return panels([
        Picture(
            shown(chi2), Look(CHI2), title=titled(product, "reduced chi squared"),
            facts=product_facts(product), quantity="reduced chi squared",
        )
    ])  # fmt: skip


def jump_map(product: Product) -> Figure:
    """Pixels with a jump, or with saturated reads.

    Parameters
    ----------
    product : Product
        Kind ``ramp``.
    """
    return panels([
        Picture(
            shown_plane(product, "data"), Look("median", low=-20.0, high=20.0),
            title=titled(product, "jumps and saturation"), facts=product_facts(product),
            flags=int(DQ.JUMP_DET | DQ.SATURATED), quantity="slope",
        )
    ])  # fmt: skip
