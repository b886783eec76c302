"""Dark scaling in pixels: images of the darks, one dark against the other, and their populations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrant.errors import SelectionError
from calibrant.frame import DQ, NO_DATA
from calibrant.product import Product
from calibrant.report.plots.canvas import CURVES, INK, SMALL, dress
from calibrant.report.plots.drawing import Picture
from calibrant.report.plots.grids import EITHER
from calibrant.report.plots.look import Look
from calibrant.report.plots.panels import panels
from calibrant.report.plots.pixels import label, shown
from calibrant.report.plots.scaling import chosen, equation, facts_of, least_squares, unit_of
from calibrant.report.plots.sheets import Columns, Style, charts, drawable, sheet, short, styles, table_of

Values = NDArray[np.float64]
CELLS = 140
"""Of a density, each way."""
SIDE = 4.6
INSIDE, BRIGHT = 99.0, 99.5
"""Per cent of the pixels within the last colours: of differences about zero, and of the second dark."""
STEEP = 20.0
"""Of the brightest pixel over the median: from there on axes are logarithmic."""
LONG = 3.0
"""Ratio of the sides beyond which images stand below each other."""
DARKS = "hot"
FITTED = ("poly1", "poly2", "poly3")
"""Models whose images stand beside each other."""
CLASSES = (("normal", 0, "#8C8C8C"), ("warm", DQ.WARM, "#E69F00"), ("hot", DQ.HOT, "#D55E00"),
           ("telegraph", DQ.TELEGRAPH, "#0072B2"))  # fmt: skip
"""Populations, the flag that tells them, and a colour."""


def scaled_dark(product: Product, model: str) -> Values:
    """The first dark scaled to the second one by a model, (rows, cols).

    Raises
    ------
    SelectionError
        If the product has no such planes.
    """
    for name in ("dark_from", "dark_to", f"residual_{model}"):
        if name not in product.planes:
            raise SelectionError(f"the {product.kind} has no plane {name!r}", got=", ".join(product.planes))
    return np.asarray(product.planes["dark_to"] - product.planes[f"residual_{model}"], np.float64)


def dark_images(product: Product) -> Figure:
    """The first dark, the scaled one and the second one in the same colours, and the difference.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with the planes dark_from, dark_to and residual_<model> of the chosen model.

    Raises
    ------
    SelectionError
        If the product has no such planes.
    """
    model = chosen(product)
    pictures = [
        _dark(product, np.asarray(product.planes["dark_from"]), "dark_from"),
        _dark(product, scaled_dark(product, model), f"dark_from scaled by {model}"),
        _dark(product, np.asarray(product.planes["dark_to"]), "dark_to"),
        _difference(product, model),
    ]
    return panels(pictures, "Dark scaling: images", _columns(product))


def fitted_images(product: Product) -> Figure:
    """The scaled dark and what it leaves, of the first polynomials side by side.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with planes residual_<model>.

    Raises
    ------
    SelectionError
        If there is none.
    """
    names = [str(name) for name in table_of(product, "models", "model")["model"]]
    models = [name for name in FITTED if name in names] or [chosen(product)]
    pictures = []
    for model in models:
        scaled = _dark(product, scaled_dark(product, model), f"dark_from scaled by {model}")
        pictures += [replace(scaled, facts=(equation(product, model),)), _difference(product, model)]
    return panels(pictures, "Dark scaling: fitted darks and what they leave", _columns(product))


def _columns(product: Product) -> int | None:
    """One image below the other where they are long."""
    rows, cols = product.planes["dark_to"].shape
    return 1 if cols > LONG * rows else None


def _dark(product: Product, plane: NDArray[np.generic], title: str) -> Picture:
    """Every dark in the same colours."""
    low = float(np.nanpercentile(product.planes["dark_from"], 100 - INSIDE))
    high = float(np.nanpercentile(product.planes["dark_to"], BRIGHT))
    look = Look((low, max(high, low + 1e-9)), cmap=DARKS)
    return Picture(shown(plane, None, unit_of(product)), look, title=title)


def _difference(product: Product, model: str) -> Picture:
    residual = np.asarray(product.planes[f"residual_{model}"], np.float64)
    reach = max(float(np.nanpercentile(np.abs(residual), INSIDE)), 1e-9)
    table = table_of(product, "models", "model", "std")
    std = float(table["std"][[str(name) for name in table["model"]].index(model)])
    what = shown(residual, None, unit_of(product))
    return Picture(
        what, Look((-reach, reach), cmap=EITHER), title=f"dark_to less dark_from scaled by {model}",
        facts=(f"std {label(short(std), unit_of(product))}".replace("[", "").replace("]", ""),),
        quantity="residual",
    )  # fmt: skip


# --- one dark against the other ---


def scatter(product: Product) -> Figure:
    """The second dark against the first one as it is, and as each of some models scales it.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with the planes dark_from, dark_to, residual_<model>, dq.

    Raises
    ------
    SelectionError
        If the product has no such planes.
    """
    names = [str(name) for name in table_of(product, "models", "model")["model"]]
    wanted = ["mult", *FITTED, chosen(product), "deming"]
    models = list(dict.fromkeys(name for name in wanted if name in names))[:5]
    good = _good(product)
    used = np.asarray(product.planes.get("used", good), bool)[good]
    to = np.asarray(product.planes["dark_to"], np.float64)[good]
    series = {"original": np.asarray(product.planes["dark_from"], np.float64)[good]}
    series |= {name: scaled_dark(product, name)[good] for name in models}
    columns = 2 if len(series) <= 4 else 3
    rows = -(-len(series) // columns)
    figure, grid = charts(
        "Dark scaling: dark_to against the dark before and after scaling",
        (*facts_of(product), "line: equal; colour: pixels per cell, logarithmic"),
        (rows, columns),
        (3.3, 3.0),
        (0.75, 0.62),
    )
    every = [axes for row in grid for axes in row]
    span = _span(np.concatenate([to, *series.values()]))
    for axes, (name, x) in zip(every, series.items(), strict=False):
        dress(axes, label("dark_from", unit_of(product)), label("dark_to", unit_of(product)), grid=True)
        if name != "original":
            axes.set_xlabel(label(f"scaled by {name}", unit_of(product)), fontsize=SMALL + 1, color=INK)
        _density(axes, x, to, span, span)
        axes.plot(span, span, color=CURVES[1], linewidth=0.9)
        spread = f"std of the difference {short(float(np.std((to - x)[used])))}"
        axes.set_title(
            f"{name}: {spread}" if name != "original" else f"as it is: {spread}",
            fontsize=SMALL, color=INK, loc="left", pad=3,
        )  # fmt: skip
    for axes in every[len(series) :]:
        axes.remove()
    return figure


def _good(product: Product) -> NDArray[np.bool_]:
    """Pixels with data in both darks."""
    dq = product.planes.get("dq")
    good = np.isfinite(np.asarray(product.planes["dark_to"], np.float64))
    good &= np.isfinite(np.asarray(product.planes["dark_from"], np.float64))
    return good if dq is None else good & ((dq & np.uint32(NO_DATA)) == 0)


def _span(values: Values) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.02 * (high - low) or 1.0
    return low - room, high + room


def _density(axes: Axes, x: Values, y: Values, across: tuple[float, float], up: tuple[float, float]) -> None:
    """Pixels per cell in colours, nothing where there are none: a lone pixel is seen as well as a crowd."""
    counts, _, _ = np.histogram2d(x, y, CELLS, range=(across, up))
    _cells(axes, counts, (*across, *up))


def _cells(axes: Axes, counts: Values, extent: tuple[float, float, float, float]) -> None:
    shown = np.ma.masked_equal(counts.T, 0)
    axes.imshow(
        shown, origin="lower", extent=extent, aspect="auto", interpolation="nearest", cmap="viridis",
        norm=LogNorm(0.7, max(2.0, float(counts.max()))), zorder=2,
    )  # fmt: skip


def fits_on_density(product: Product) -> Figure:
    """Every model as a curve on the density of the second dark against the first one.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with the tables ``density`` (dark_from, dark_to, count) and ``curves``.

    Raises
    ------
    SelectionError
        If the product has no such table.
    """
    density = table_of(product, "density", "dark_from", "dark_to", "count")
    curves = drawable(product, "curves", "y", "x", by="model")
    lines = [name for name in curves if name not in least_squares(curves)]
    best = chosen(product)
    low = [name for name in least_squares(curves) if name in ("add", "mult", *FITTED) or name == best]
    found = {name: curves[name] for name in dict.fromkeys([*low, *lines])}
    looks = {name: Style(look.colour, line=look.line) for name, look in styles(found).items()}
    left = len(curves) - len(found)
    figure, (axes,) = sheet(
        "Dark scaling: models on the density of the darks",
        (*facts_of(product), f"higher degrees not drawn: {left}" if left else ""),
        (SIDE,),
        [look.entry(f"{name} (chosen)" if name == best else name) for name, look in looks.items()],
    )
    unit = unit_of(product)
    dress(axes, label("dark_from", unit), label("dark_to", unit), grid=True)
    counts, extent = _grid(density["dark_from"], density["dark_to"], density["count"])
    _cells(axes, counts, extent)
    for name, rows in found.items():
        wide = 2.2 if name == best else 1.1
        axes.plot(
            rows["x"],
            rows["y"],
            color=looks[name].colour,
            linestyle=looks[name].line,
            linewidth=wide,
            zorder=3,
        )
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    return figure


def _grid(x: Values, y: Values, count: NDArray[np.int64]) -> tuple[Values, tuple[float, float, float, float]]:
    """Cells by their centres as a plane, and its edges."""
    places, ends = [], []
    for centres in (x, y):
        steps = np.diff(np.unique(centres))
        # Centres of one column differ by rounding.
        step = float(steps[steps > 1e-6 * np.ptp(centres)].min()) if np.ptp(centres) > 0 else 1.0
        places.append(np.rint((centres - centres.min()) / step).astype(int))
        ends += [float(centres.min()) - step / 2, float(centres.max()) + step / 2]
    plane = np.zeros((places[0].max() + 1, places[1].max() + 1))
    plane[places[0], places[1]] = count
    return plane, (ends[0], ends[1], ends[2], ends[3])


def populations(product: Product) -> Figure:
    """Normal, warm, hot and telegraph pixels apart, each with its own line.

    Parameters
    ----------
    product : Product
        Kind ``dark_scaling`` with the planes dark_from, dark_to, used, dq and the table ``populations``:
        population, pixels, slope, offset.

    Raises
    ------
    SelectionError
        If the product has no such table or plane.
    """
    table = table_of(product, "populations", "population", "pixels", "slope", "offset")
    if "dq" not in product.planes:
        raise SelectionError(f"the {product.kind} has no plane 'dq'")
    rows = {str(name): k for k, name in enumerate(table["population"])}
    good, inside = _good(product), _sorted(product)
    x, y = (np.asarray(product.planes[name], np.float64) for name in ("dark_from", "dark_to"))
    key = [
        Style(colour, "o").entry(f"{name}: {int(table['pixels'][rows[name]])}")
        for name, _, colour in CLASSES if name in rows
    ]  # fmt: skip
    figure, (axes,) = sheet(
        "Dark scaling: populations of pixels", (*facts_of(product), *_slopes(table, rows)), (SIDE,), key
    )
    dress(axes, label("dark_from", unit_of(product)), label("dark_to", unit_of(product)), grid=True)
    for name, bit, colour in CLASSES:
        here = good & inside & _is(product.planes["dq"], int(bit))
        axes.plot(x[here], y[here], ".", color=colour, markersize=2.2 if bit else 1.2, zorder=2 + bool(bit))
        if name in rows and np.isfinite(table["slope"][rows[name]]) and here.any():
            ends = np.linspace(x[here].min(), x[here].max(), 50)
            line = table["offset"][rows[name]] + table["slope"][rows[name]] * ends
            axes.plot(ends, line, color=INK, linewidth=2.4, zorder=5)
            axes.plot(ends, line, color=colour if bit else "white", linewidth=1.2, zorder=6)
    for set_scale, values in ((axes.set_xscale, x[good & inside]), (axes.set_yscale, y[good & inside])):
        if values.min() > 0 and values.max() > STEEP * np.median(values):
            set_scale("log")
    return figure


def _slopes(table: Columns, rows: Mapping[str, int]) -> Sequence[str]:
    told = [(name, float(table["slope"][k])) for name, k in rows.items()]
    words = ", ".join(f"{name} {slope:.3f}" for name, slope in told if np.isfinite(slope))
    return (f"slopes: {words}",) if words else ()


def _is(dq: NDArray[np.uint32], bit: int) -> NDArray[np.bool_]:
    """Pixels of a population; telegraph before hot and warm, which may be set too."""
    if bit == 0:
        return np.asarray((dq & np.uint32(DQ.WARM | DQ.HOT | DQ.TELEGRAPH)) == 0)
    return np.asarray((dq & np.uint32(bit)) != 0)


def _sorted(product: Product) -> NDArray[np.bool_]:
    """The pixels that were sorted: those fitted, and with a cut all of the rectangle around them."""
    mask = np.asarray(product.planes["used"]).astype(bool)
    table = product.tables.get("window")
    if table is not None and "uncut" in product.tables:
        (row, col), (rows, cols) = table["start"], table["stop"]
        mask[int(row) : int(rows), int(col) : int(cols)] = True
    return mask | ~_is(product.planes["dq"], 0)
