"""Ramps: slopes, how well they fit, jumps; superbias and dark ramps."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from calibrant.frame import DQ
from calibrant.product import Product
from calibrant.report.plots.canvas import dress
from calibrant.report.plots.drawing import Picture
from calibrant.report.plots.look import Look
from calibrant.report.plots.panels import panels, product_facts, shown_plane
from calibrant.report.plots.pixels import label, shown
from calibrant.report.plots.sheets import TALL, parts, sheet, styles, table_of, titled

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


def superbias_map(product: Product) -> Figure:
    """Level of every pixel after the reset, and how it scatters from ramp to ramp.

    Parameters
    ----------
    product : Product
        Kind ``superbias``.
    """
    noise = np.sqrt(product.planes["variance"] * product.planes["count"])
    facts = product_facts(product)
    pictures = [
        Picture(shown_plane(product, "data"), Look(), "level", facts, quantity="level"),
        Picture(shown(noise, None, "adu"), Look(), "scatter from ramp to ramp", quantity="scatter"),
    ]
    return panels(pictures, titled(product, "level and scatter"))


def dark_ramp_map(product: Product) -> Figure:
    """The last read of a dark ramp, above the first one.

    Parameters
    ----------
    product : Product
        Kind ``dark_ramp``.
    """
    what = shown(product.data[-1], product.planes["dq"], "adu")
    look = Look("median", low=-3.0, high=8.0)
    facts = (*product_facts(product), "last read above the first one")
    return panels([Picture(what, look, titled(product, "map"), facts, quantity="dark signal")])


def dark_ramp_curves(product: Product) -> Figure:
    """Median of each read and output above the first read.

    Parameters
    ----------
    product : Product
        Kind ``dark_ramp`` with the table ``reads`` (output, time, level).
    """
    outputs = parts(table_of(product, "reads", "output", "time", "level"), "output")
    looks = styles(outputs)
    key = [look.entry(f"output {name}") for name, look in looks.items()]
    figure, (axes,) = sheet(titled(product, "dark signal"), product_facts(product), (TALL,), key)
    dress(axes, "time after the first read [s]", label("median dark signal", "adu"), grid=True)
    for name, look in looks.items():
        axes.plot(
            outputs[name]["time"], outputs[name]["level"], color=look.colour, marker=look.marker,
            markersize=3, linewidth=1.0,
        )  # fmt: skip
    return figure


def linearity_maps(product: Product) -> Figure:
    """Correction of every pixel half-way to its highest signal, and that signal.

    Parameters
    ----------
    product : Product
        Kind ``ramp_linearity``.
    """
    planes = product.planes
    half = 0.5 * planes["valid_high"]
    share = 100 * (planes["c2"] * half + planes["c3"] * half**2)
    facts = product_facts(product)
    pictures = [
        Picture(shown(share, None, "%"), Look(), "correction at half of valid_high", facts, quantity="share"),
        Picture(shown_plane(product, "valid_high"), Look(), "highest signal", quantity="signal"),
    ]
    return panels(pictures, titled(product, "linearity"))
