"""Lines of an etalon: their wavenumbers about even spacing, the spacing of neighbours, and their widths."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrant.product import Product
from calibrant.report.plots.canvas import INK, dress
from calibrant.report.plots.cuts import fit_range
from calibrant.report.plots.panels import product_facts
from calibrant.report.plots.sheets import Columns, hide_numbers, parts, sheet, styles, table_of, titled

NAMES = ("order", "wavenumber", "wavenumber_sigma", "wavelength", "fwhm", "fwhm_sigma", "good")
TALL = 2.0


def etalon_lines(product: Product) -> Figure:
    """Against wavenumber: how far lines lie from even spacing, the spacing of neighbours, and widths.

    Parameters
    ----------
    product : Product
        With the table ``lines`` of an etalon, of one spectrum or of several slices. Lines that are not good
        are left out.
    """
    table = table_of(product, "lines", *NAMES)
    one = {**table, "slice": table.get("slice", np.zeros(len(table["order"]), int))}
    slices = parts({name: values[np.asarray(table["good"], bool)] for name, values in one.items()}, "slice")
    looks = styles(slices)
    key = [look.entry(f"slice {name}") for name, look in looks.items()] if len(slices) > 1 else []
    facts = tuple(_spacing(product, name) for name in slices) if len(slices) < 4 else ()
    figure, axes = sheet(titled(product, "lines"), (*product_facts(product), *facts), (TALL,) * 3, key)
    dress(axes[0], "", "less even spacing [cm⁻¹]", grid=True)
    dress(axes[1], "", "spacing [cm⁻¹]", grid=True)
    dress(axes[2], "wavenumber [cm⁻¹]", "width (FWHM) [nm]", grid=True)
    every: list[list[NDArray[np.float64]]] = [[], [], []]
    for name, rows in slices.items():
        for axis, kept, (x, y, sigma) in zip(axes, every, _drawn(rows), strict=True):
            axis.errorbar(
                x,
                y,
                sigma,
                color=looks[name].colour,
                marker="o",
                markersize=2.8,
                linestyle="none",
                elinewidth=0.7,
            )
            kept.append(y)
    axes[0].axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    for quantity in product.quantities:
        if quantity.name == "spacing":
            axes[1].axhline(quantity.value, color=INK, linewidth=0.8, zorder=1)
    for axis, kept in zip(axes, every, strict=True):
        fit_range(axis, np.concatenate(kept), 1.0, 99.0)
    hide_numbers(axes)
    return figure


def _drawn(rows: Columns) -> list[tuple[NDArray[np.float64], ...]]:
    """Wavenumber, value and sigma: about a straight line, between neighbours, of widths."""
    order = np.argsort(rows["order"])
    n, x, sigma = (
        np.asarray(rows[name], float)[order] for name in ("order", "wavenumber", "wavenumber_sigma")
    )
    even = np.polynomial.Polynomial.fit(n, x, 1)
    near = np.diff(n) == 1
    middle, step = 0.5 * (x[1:] + x[:-1])[near], np.abs(np.diff(x))[near]
    wide, error = (1e3 * np.asarray(rows[name], float)[order] for name in ("fwhm", "fwhm_sigma"))
    return [(x, x - even(n), sigma), (middle, step, np.hypot(sigma[1:], sigma[:-1])[near]), (x, wide, error)]


def _spacing(product: Product, name: str) -> str:
    """What was found of the spacing in a slice, as a fact."""
    for quantity in product.quantities:
        if quantity.name == "spacing" and quantity.place in ("", name):
            of = f"slice {name}: " if quantity.place else ""
            return f"{of}spacing {quantity.value:.5f} ± {quantity.sigma or 0.0:.1g} cm⁻¹"
    return ""
