"""Dark library: the map of rates, activation energies, and how well the law holds at each temperature."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.frame import DQ
from calibrant.product import Product
from calibrant.report.plots.canvas import CURVES, FAINT, INK, dress
from calibrant.report.plots.drawing import Picture
from calibrant.report.plots.histograms import bin_edges
from calibrant.report.plots.look import Look
from calibrant.report.plots.panels import panels, product_facts, quantity_text, shown_plane
from calibrant.report.plots.pixels import label
from calibrant.report.plots.sheets import LOW, TALL, Style, hide_numbers, sheet, table_of, titled

MAPS = {"data": "rate", "energy": "activation energy", "bias": "zero level"}
KELVIN = 273.15
EXACT, DECADE = 2, 10.0
"""Temperatures that a law goes through, and the range of rates from which on they are logarithmic."""
POINT, LAW = Style(CURVES[0], "o"), Style(CURVES[1], line="-")


def library_maps(product: Product) -> Figure:
    """Rate at the reference temperature, activation energy, and the zero level if it was fitted.

    Parameters
    ----------
    product : Product
        Kind ``dark_library``.

    Raises
    ------
    SelectionError
        If it has none of these planes.
    """
    look = Look()
    pictures = [
        Picture(shown_plane(product, name), look, title=word, facts=_facts(product, word), quantity=word)
        for name, word in MAPS.items()
        if name in product.planes
    ]
    return panels(pictures, titled(product, "maps"))


def _facts(product: Product, word: str) -> tuple[str, ...]:
    """The quantities that belong to a map, and where it holds."""
    named = {"rate": ("rate", "reference_temperature"), "activation energy": ("activation_energy",)}
    own = named.get(word, ())
    return tuple(quantity_text(q) for q in product.quantities if q.name in own and not q.place)


def energy_histogram(product: Product) -> Figure:
    """Activation energies of the pixels that show one of their own: quiet ones, and hot ones.

    Parameters
    ----------
    product : Product
        Kind ``dark_library`` with the planes energy, covariance and dq.

    Raises
    ------
    SelectionError
        If it has no energies.
    """
    if "energy" not in product.planes or "covariance" not in product.planes:
        raise SelectionError(f"the {product.kind} has no activation energies", got=", ".join(product.planes))
    energy, dq = np.asarray(product.planes["energy"], np.float64), product.planes["dq"]
    own = (np.asarray(product.planes["covariance"]) != 0) & np.isfinite(energy)
    groups = {
        "quiet pixels": (energy[own & (dq == 0)], Style(CURVES[0], line="-")),
        "hot pixels": (energy[own & ((dq & np.uint32(DQ.HOT)) != 0)], Style(CURVES[1], line="-")),
    }
    groups = {name: one for name, one in groups.items() if one[0].size}
    if not groups:
        raise SelectionError("no pixel shows an activation energy of its own")
    marks = {
        name.replace("_", " "): (quantity.value, Style(colour, line=line))
        for name, colour, line in (("activation_energy", INK, "--"), ("level_energy", FAINT, ":"))
        for quantity in product.quantities
        if quantity.name == name and not quantity.place
    }
    key = [look.entry(f"{name}: {values.size}") for name, (values, look) in groups.items()]
    key += [look.entry(name) for name, (_, look) in marks.items()]
    figure, (axes,) = sheet(titled(product, "activation energies"), product_facts(product), (TALL,), key)
    dress(axes, label("activation energy", "eV"), "pixels per bin", grid=True)
    edges = bin_edges([values for values, _ in groups.values()])
    for values, look in groups.values():
        counts = np.histogram(values, edges)[0]
        axes.stairs(counts, edges, baseline=None, color=look.colour, linewidth=1.3)
    for value, look in marks.values():
        axes.axvline(value, color=look.colour, linestyle=look.line, linewidth=1.1)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.set_xlim(edges[0], edges[-1])
    return figure


def library_law(product: Product) -> Figure:
    """Median rate against temperature with the law, its residuals, and those of the levels of all darks.

    Parameters
    ----------
    product : Product
        Kind ``dark_library`` with the tables ``temperatures`` (temperature, rate, law) and ``frames``
        (temperature, shift).

    Raises
    ------
    SelectionError
        If it has no such table.
    """
    rates = table_of(product, "temperatures", "temperature", "rate", "law")
    frames = table_of(product, "frames", "temperature", "shift", "time")
    several = len(rates["temperature"]) > EXACT
    figure, axes = sheet(
        titled(product, "rate against temperature"),
        (*product_facts(product), "" if several else "two temperatures: the law goes through both"),
        (TALL, LOW, LOW) if several else (TALL, LOW),
        [POINT.entry("median of the pixels"), LAW.entry("law")],
    )
    order = np.argsort(rates["temperature"])
    at, rate, law = (np.asarray(rates[name], np.float64)[order] for name in ("temperature", "rate", "law"))
    dress(axes[0], "", label("rate", "adu/s"), grid=True)
    axes[0].plot(*_curve(at, law), color=LAW.colour, linewidth=1.2)
    axes[0].plot(at, rate, "o", color=POINT.colour, markersize=5)
    if min(rate.min(), law.min()) > 0 and rate.max() > DECADE * rate.min():
        axes[0].set_yscale("log")
    if several:
        dress(axes[1], "", "rate less law [%]", grid=True)
        axes[1].plot(at, 100 * (rate / law - 1), "o", color=POINT.colour, markersize=5)
    dress(axes[-1], label("temperature", "°C"), label("level of a dark\nless line", "adu"), grid=True)
    axes[-1].plot(frames["temperature"], frames["shift"], ".", color=POINT.colour, markersize=5)
    for one in axes[1:]:
        one.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    hide_numbers(axes)
    return figure


def _curve(at: NDArray[np.float64], law: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """The law between its temperatures: ln rate is a line in 1/T."""
    if law.min() <= 0:
        return at, law
    grid = np.linspace(at[0], at[-1], 200)
    inverse = -1.0 / (at + KELVIN)  # rising, as interpolation needs it
    return grid, np.exp(np.interp(-1.0 / (grid + KELVIN), inverse, np.log(law)))
