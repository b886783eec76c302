"""Charts: columns of tables that a product holds, as curves to be drawn twice: interactive, and on paper.

Which columns of which kind stands in `SPECS`, as data; nothing is fitted or averaged here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.product import Product
from calibrant.report.words import MICROSECONDS, head, plain

F8 = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]
MOST = 1200
"""Points of a curve; of longer ones every second, third ... is drawn."""
FAR = 10.0
"""Ratio of the ends of an axis from which on it is logarithmic, where that is wanted."""
ONE_TIME = 0.01
"""Dark times that differ by less than this fraction are one."""


@dataclass(frozen=True, eq=False)
class Series:
    """One curve: points (with bars of one sigma) or a line.

    Attributes
    ----------
    name : str
        Of the place or product; series of one name are shown and hidden together.
    x, y : array
        1-D, finite.
    sigma : array or None
        1-D, standard uncertainty of y.
    line : bool
    """

    name: str
    x: F8
    y: F8
    sigma: F8 | None = None
    line: bool = False


@dataclass(frozen=True, eq=False)
class Chart:
    """A picture of curves.

    Attributes
    ----------
    key : str
        What it shows, for charts that are put together.
    xlabel, ylabel : str
        With units.
    xlog, ylog : bool
    time : bool
        Whether x is a time, seconds since 1970 UTC.
    levels : sequence of (value, word)
        Lines across, in units of y: limits.
    note : str
        What the reader must know.
    """

    key: str
    title: str
    xlabel: str
    ylabel: str
    series: Sequence[Series]
    xlog: bool = False
    ylog: bool = False
    time: bool = False
    levels: Sequence[tuple[float, str]] = ()
    note: str = ""

    @property
    def names(self) -> list[str]:
        """Names of the curves, in order."""
        return list(dict.fromkeys(one.name for one in self.series))

    @property
    def words(self) -> str:
        """What is drawn, for who does not see it."""
        points = sum(len(one.x) for one in self.series if not one.line)
        low, high = self.reach("y")
        return (
            f"{self.title}: {self.ylabel} against {self.xlabel}; {len(self.names)} curves, {points} points, "
            f"from {low:.4g} to {high:.4g}"
        )

    def reach(self, axis: str) -> tuple[float, float]:
        """Least and greatest value along ``x`` or ``y``; of the latter with its levels and usual bars."""
        values = np.concatenate([getattr(one, axis) for one in self.series])
        low, high = float(values.min()), float(values.max())
        if axis == "y":
            bar = 0.0 if self.ylog else _usual([one.sigma for one in self.series if one.sigma is not None])
            ends = [low - bar, high + bar, *(value for value, _ in self.levels)]
            low, high = min(ends), max(ends)
        return low, high


@dataclass(frozen=True)
class Spec:
    """Which columns of a table are a chart.

    Attributes
    ----------
    table, x, y : str
        `x` empty counts the rows.
    by : str
        Column that tells curves apart; empty for one curve, named as its product.
    sigma, model, used : str
        Columns of uncertainties, of what is fitted, and of what was used for it.
    units : mapping
        Of columns that name none.
    names : mapping
        Of columns, where theirs says too little.
    rows : callable or None
        ``rows(columns) -> mask``: which rows are meant.
    derive : mapping
        Name of a column -> ``derive(columns)``.
    """

    key: str
    title: str
    table: str
    x: str
    y: str
    by: str = ""
    sigma: str = ""
    model: str = ""
    used: str = ""
    log: str = ""
    line: bool = False
    units: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    rows: Callable[[Columns], NDArray[np.bool_]] | None = None
    derive: Mapping[str, Callable[[Columns], NDArray[Any]]] = field(default_factory=dict)


def _parts(table: Columns) -> NDArray[Any]:
    """The sum of what a spectrum was fitted with."""
    names = ("white", "own", "common", "alternating")
    return np.asarray(np.sum([np.asarray(table[name], np.float64) for name in names], axis=0))


def _of_several_times(table: Columns) -> NDArray[np.bool_]:
    time = np.asarray(table["time"], np.float64)
    return np.full(time.shape, bool(np.ptp(time) > ONE_TIME * np.max(time)) if time.size else False)


def _of_one_time(table: Columns) -> NDArray[np.bool_]:
    return ~_of_several_times(table)


_ADU = {"level": "adu", "median": "adu", "time": "s"}
SPECS: Mapping[str, tuple[Spec, ...]] = {
    "bias": (Spec("level", "Level of each frame", "frames", "", "level", units=_ADU, line=True),),
    "dark": (
        Spec("levels", "Level against dark time", "frames", "time", "median", units=_ADU,
             rows=_of_several_times,
            names={"time": "dark time", "median": "median level"}),
        Spec("level", "Level of each frame", "frames", "", "median", units=_ADU, rows=_of_one_time,
            names={"median": "median level"},
             line=True),
    ),
    "flat": (Spec("level", "Level of each frame", "frames", "", "level", units=_ADU, line=True),),
    "gain": (
        Spec("variance", "Photon transfer: variance against mean", "ptc", "mean", "variance", "amplifier",
             "sigma", "model", "used"),
        Spec("residuals", "Photon transfer: residuals", "ptc", "mean", "residual", "amplifier", log="x",
             used="used", units={"residual": "sigma"}),
    ),
    "linearity": (
        Spec("before", "Deviation from a straight line, before the correction", "linearity", "mean",
             "residual_before", "amplifier", log="x", used="used"),
        Spec("after", "Deviation from a straight line, after the correction", "linearity", "mean",
             "residual_after", "amplifier", log="x", used="used"),
        Spec("correction", "Correction", "curve", "measured", "correction", "amplifier", line=True),
    ),
    "one_over_f": (
        Spec("spectra", "Noise spectra of single reads", "spectra", "frequency", "power", "output", "sigma",
             "sum", log="xy", rows=lambda table: np.asarray(table["scale"]) != "alternating",
             derive={"sum": _parts}),
        Spec("coherence", "Coherence with the reference columns", "coherence", "frequency", "coherence",
             "output", "sigma", log="x"),
    ),
    "fringe": (
        Spec("spectrum", "Spectrum of one column, and the fringes that were fitted", "example", "wavelength",
             "value", "", "sigma", "model", "used", names={"value": "signal"}),
        Spec("depth", "Depth of the fringes along the band", "fringes", "wavelength", "depth", "slice",
             "depth_sigma"),
        Spec("thickness", "Thickness of the etalon across the slices", "columns", "col", "D", "slice",
             "D_sigma", names={"col": "column", "D": "thickness"}, units={"col": "pixel"}),
    ),
    "charge_transfer": (
        Spec("deferred", "Deferred charge against signal", "eper", "signal", "deferred", "amplifier",
             "sigma"),
    ),
    "dark_library": (
        Spec("law", "Dark rate against temperature", "temperatures", "temperature", "rate", sigma="sigma",
             log="y", units={"temperature": "deg_C"}),
    ),
}  # fmt: skip
COUNTED, TIME = "frame, in order", "time [UTC]"
CURVES = 18
"""In one chart of several products."""
TRENDS = 6
"""Quantities of a history that are drawn, the first ones."""


def _usual(sigmas: Sequence[F8]) -> float:
    """The median of the bars: a few large ones at an edge are cut, so that the others are seen."""
    known = np.concatenate([np.zeros(0), *(sigma[np.isfinite(sigma)] for sigma in sigmas)])
    return float(np.median(known)) if known.size else 0.0


def charts(product: Product, name: str) -> list[Chart]:
    """The charts of a product; those whose columns it does not have, or without a number, are left out.

    Parameters
    ----------
    product : Product
    name : str
        Of the product, where a curve has no other.
    """
    made = (_chart(product, spec, name) for spec in SPECS.get(product.kind, ()))
    return [*(chart for chart in made if chart is not None), *_trend(product)]


def _chart(product: Product, spec: Spec, name: str) -> Chart | None:
    table = dict(product.tables.get(spec.table, {}))
    needed = {column for column in (spec.x, spec.y, spec.by) if column}
    if not needed <= set(table) or not len(table[spec.y]):
        return None
    table |= {new: make(table) for new, make in spec.derive.items()}
    if spec.rows is not None:
        keep = spec.rows(table)
        table = {column: np.asarray(values)[keep] for column, values in table.items()}
    table.setdefault("", np.arange(len(table[spec.y]), dtype=np.float64))
    series = [one for part, rows in _by(table, spec.by, name) for one in _curves(part, rows, spec)]
    if not series:
        return None
    out = 0
    if spec.used and spec.used in table:
        out = int(np.sum(~np.asarray(table[spec.used], bool) & np.isfinite(_float(table[spec.y]))))
    thinned = any(len(rows[spec.y]) > MOST for _, rows in _by(table, spec.by, name))
    notes = [f"{out} points were left out of the fit" if out and spec.model else "",
             "long curves are drawn with some of their points" if thinned else ""]  # fmt: skip
    units = {
        column: product.units.get(f"{spec.table}.{column}", spec.units.get(column, "")) for column in needed
    }
    x = np.concatenate([one.x for one in series])
    return Chart(
        key=spec.key,
        title=spec.title,
        xlabel=head(spec.names.get(spec.x, spec.x), units[spec.x]) if spec.x else COUNTED,
        ylabel=head(spec.names.get(spec.y, spec.y), units[spec.y]),
        series=series,
        xlog="x" in spec.log and bool(x.max() > FAR * x.min()),
        ylog="y" in spec.log,
        note="; ".join(note for note in notes if note),
    )


def _by(table: Columns, by: str, name: str) -> Iterator[tuple[str, Columns]]:
    if not by:
        yield name, table
        return
    words = np.asarray(table[by]).astype(str)
    for part in dict.fromkeys(words.tolist()):
        label = f"{plain(by)} {part}" if part.isdigit() else part
        yield label, {column: np.asarray(values)[words == part] for column, values in table.items()}


def _curves(name: str, rows: Columns, spec: Spec) -> Iterator[Series]:
    """The points, and the line of what was fitted to them."""
    sigma = _float(rows[spec.sigma]) if spec.sigma and spec.sigma in rows else None
    points = _series(name, rows, spec, spec.y, sigma, spec.line)
    if points is not None:
        yield points
    if points is not None and spec.model and spec.model in rows:
        # A single curve has room for another colour.
        model = _series(name if spec.by else "fit", rows, spec, spec.model, None, True)
        yield from [] if model is None else [model]


def _series(name: str, rows: Columns, spec: Spec, column: str, sigma: F8 | None, line: bool) -> Series | None:
    x, y = _float(rows[spec.x]), _float(rows[column])
    good = np.isfinite(x) & np.isfinite(y)
    good &= (x > 0) if "x" in spec.log else True
    good &= (y > 0) if "y" in spec.log else True
    if not good.any():
        return None
    order = np.flatnonzero(good)[np.argsort(x[good], kind="stable")]
    order = order[:: -(-len(order) // MOST)]
    return Series(name, x[order], y[order], None if sigma is None else sigma[order], line)


def _float(values: Any) -> F8:
    return np.asarray(values, np.float64)


def _trend(product: Product) -> Iterator[Chart]:
    """The table ``trend`` of a history of products: a chart for each quantity that has two epochs or more."""
    table = product.tables.get("trend", {})
    if not {"quantity", "value", "epoch", "place", "detector"} <= set(table):
        return
    names = np.asarray(table["quantity"]).astype(str)
    where = [f"{d} {p}".strip() for d, p in zip(table["detector"], table["place"], strict=True)]
    rows = {**table, "time": _float(table["epoch"]) / MICROSECONDS, "where": np.array(where, str)}
    for name in list(dict.fromkeys(names.tolist()))[:TRENDS]:
        own = {column: np.asarray(values)[names == name] for column, values in rows.items()}
        spec = Spec(f"trend_{name}", f"{plain(name).capitalize()} over the epochs", "trend", "time", "value",
                    "where", "sigma")  # fmt: skip
        series = [one for part, each in _by(own, spec.by, name) for one in _curves(part, each, spec)]
        if series and max(len(one.x) for one in series) > 1:
            yield Chart(spec.key, spec.title, TIME, f"{plain(name)}, in its unit", series, time=True)


def together(found: Iterable[tuple[str, Chart]]) -> list[Chart]:
    """Charts of products of one kind, each of one curve with the name of its product, as one chart.

    Parameters
    ----------
    found : iterable of (kind, chart)
        In order.
    """
    groups: dict[tuple[str, ...], Chart] = {}
    for kind, chart in found:
        place = (kind, chart.key, chart.xlabel, chart.ylabel)
        if place in groups:
            first = groups[place]
            groups[place] = replace(first, series=[*first.series, *chart.series])
        else:
            title = f"{plain(kind).capitalize()}: {chart.title[0].lower()}{chart.title[1:]}"
            groups[place] = replace(chart, title=title)
    return [part for chart in groups.values() for part in _parted(_named(chart))]


def _parted(chart: Chart) -> Iterator[Chart]:
    """Several charts of a part of the curves each, where nobody could tell all of them apart."""
    names = chart.names
    if len(names) <= CURVES:
        yield chart
        return
    for start in range(0, len(names), CURVES):
        some = names[start : start + CURVES]
        title = f"{chart.title}, {some[0]} to {some[-1]}"
        yield replace(chart, title=title, series=[one for one in chart.series if one.name in some])


def _named(chart: Chart) -> Chart:
    """The name of the only curve in the title."""
    _, _, what = chart.title.partition(": ")
    return replace(chart, title=f"{chart.names[0]}: {what}") if len(chart.names) == 1 else chart


def single(product: Product) -> bool:
    """Whether the charts of a product have one curve each, so that those of several go together."""
    return all(not spec.by for spec in SPECS.get(product.kind, ()))
