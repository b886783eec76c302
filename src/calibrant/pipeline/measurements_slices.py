"""What can be measured on an image of slices: each on one frame and its slice map, by one effect."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import flatness, fringe, row_parity, stray_light, trace
from calibrant.errors import OptionError
from calibrant.exposures.slice_maps import Maps
from calibrant.frame import Frame
from calibrant.instrument.slices import SliceMap
from calibrant.pipeline.measure_choice import Choice
from calibrant.product import Product, Quantity

Factors = str | float | Sequence[tuple[float, float]]
STANDS_OUT = 0.3  # of the highest line
FACTOR = re.compile(r"\s*([\d.eE+-]+?)\s*(?:\+-\s*([\d.eE+-]+))?\s*")


@dataclass(frozen=True, eq=False)
class Seen:
    """An exposure: its prepared frame, its slices, and what was measured on it, each made when asked for."""

    frame: Callable[[], Frame]
    slices: Callable[[], SliceMap]
    product: Callable[[], Product]


@dataclass(frozen=True)
class Sliced:
    """One thing that is measured slice by slice.

    Attributes
    ----------
    name, title : str
        On the command line, and in a sentence.
    measure : callable
        ``measure(frame, slices, **options) -> Product``.
    apply : callable or None
        ``apply(frame, product) -> Frame`` where it can be corrected in frames before others are measured.
    point : bool
        Of point sources rather than of the lamp that fills the slices.
    resolved : bool
        Whether it takes the resolving power.
    further : callable or None
        ``further(frame, slices, product, **options) -> Product``: what else the first product gives.
    against : callable or None
        ``against((one, other), **options) -> Product`` of two sources, each a `Seen`.
    check : callable or None
        Of the options, before anything is measured.
    """

    name: str
    title: str
    measure: Callable[..., Product]
    apply: Callable[[Frame, Product], Frame] | None = None
    point: bool = False
    resolved: bool = False
    further: Callable[..., Product] | None = None
    against: Callable[..., Product] | None = None
    check: Callable[[Mapping[str, Any]], None] | None = None

    @property
    def kind(self) -> str:
        """First word of the names of its products."""
        return self.name.replace("-", "_")

    @property
    def options(self) -> tuple[Callable[..., Any], ...]:
        """Whose parameters are its options; those of `Choice` and `Maps` hide others of their names."""
        more = (one for one in (self.further, self.against) if one is not None)
        return (self.measure, *more, Choice, Maps)


def _parity(frame: Frame, slices: SliceMap, *, mode: str = "gain", axis: str | None = None) -> Product:
    """Of each slice; lines along the dispersion alternate unless an axis is named."""
    return row_parity.measure(frame, slices=slices, mode=mode, axis=axis or slices.dispersion)


def _spectrum(
    frame: Frame,
    slices: SliceMap,
    product: Product,
    *,
    width: float = 1.0,
    thres: float | None = None,
    min_dist: int = 6,
    k: int = 3,
    ext: int = 3,
    lines: Literal["gauss", "pseudo_voigt"] | None = None,
) -> Product:
    """The light along traces, and its continuum by peaks and spline, as published; lines of an etalon."""
    found = trace.extract(frame, slices, product, width=width)
    table = dict(found.tables["spectrum"])
    continuum, peak = np.full(len(table["row"]), np.nan), np.zeros(len(table["row"]), bool)
    notes, quantities = list(found.provenance.notes), []
    tables: dict[str, dict[str, NDArray[Any]]] = {"spectrum": table}
    for number in dict.fromkeys(table["slice"].tolist()):
        here = np.flatnonzero(table["slice"] == number)
        _, peaks, level = fringe.norm_fringe(table["value"][here], thres or 0.0, min_dist, k, ext)
        continuum[here], peak[here[peaks]] = level, True
        quantities.append(Quantity("peaks", float(len(peaks)), None, "", str(number)))
        if len(peaks) <= k:
            notes.append(
                f"slice {number}: {len(peaks)} peaks where a spline of degree {k} needs {k + 1}: "
                + ("its degree is lower" if len(peaks) > 1 else "no continuum is known between them")
            )
        if lines is not None:
            quantities += _lines(tables, {name: column[here] for name, column in table.items()}, lines, thres)
    with np.errstate(invalid="ignore", divide="ignore"):
        table |= {"continuum": continuum, "transmission": table["value"] / continuum, "peak": peak}
    units = {"lines.wavelength": "um", "lines.wavenumber": "1/cm", "lines.fwhm": "um"} if lines else {}
    return replace(
        found,
        tables=tables,
        units={**found.units, "spectrum.continuum": frame.unit, **units},
        quantities=tuple(quantities),
        provenance=replace(found.provenance, notes=tuple(notes)),
    )


def _lines(
    tables: dict[str, dict[str, NDArray[Any]]],
    spectrum: Mapping[str, NDArray[Any]],
    shape: str,
    thres: float | None,
) -> list[Quantity]:
    """Adds the lines of a slice's spectrum to a table, and gives their spacing and what follows from it."""
    known = np.isfinite(spectrum["wavelength"])
    wave, value, sigma = (spectrum[name][known] for name in ("wavelength", "value", "sigma"))
    given = None if np.isnan(sigma).all() else sigma
    found = fringe.lines(wave, value, given, shape=shape, thres=STANDS_OUT if thres is None else thres)
    number = int(spectrum["slice"][0])
    own = found.tables["lines"]
    own = {"slice": np.full(len(own["order"]), number, np.int32), **own}
    before = tables.get("lines", {})
    tables["lines"] = {n: np.concatenate([before[n], c]) if n in before else c for n, c in own.items()}
    return [replace(quantity, place=str(number)) for quantity in found.quantities]


def _contrast(exposures: tuple[Seen, Seen]) -> Product:
    """Fringes of the one source over those of the other."""
    one, other = exposures
    return fringe.compare(other.product(), one.product())


def _ratio(exposures: tuple[Seen, Seen], *, transmissions: Factors = (), over: Factors = ()) -> Product:
    """Signal of the one source over that of the other."""
    one, other = exposures
    return flatness.ratio(
        one.frame(),
        other.frame(),
        one.slices(),
        transmissions=_factors(transmissions),
        over=_factors(over),
    )


def _check_factors(options: Mapping[str, Any]) -> None:
    for name in ("transmissions", "over"):
        _factors(options.get(name, ()))


def _factors(told: Factors) -> list[tuple[float, float]]:
    """``0.21+-0.01,0.9`` as values and sigmas."""
    if not isinstance(told, str):
        return [(float(told), 0.0)] if isinstance(told, (int, float)) else [(v, s) for v, s in told]
    found = [FACTOR.fullmatch(word) for word in told.split(",") if word.strip()]
    try:
        return [(float(one[1]), float(one[2] or 0.0)) for one in found]  # type: ignore[index]
    except (TypeError, ValueError):
        raise OptionError(
            "not transmissions", where="transmissions", expected="such as 0.21+-0.01,0.9", got=repr(told)
        ) from None


SLICED: tuple[Sliced, ...] = (
    Sliced("fringes", "fringes", fringe.measure, fringe.apply, resolved=True, against=_contrast),
    Sliced("stray-light", "stray light", stray_light.measure, stray_light.apply),
    Sliced("trace", "traces", trace.measure, point=True, further=_spectrum),
    Sliced("flatness", "the flatness", flatness.measure, against=_ratio, check=_check_factors),
    Sliced("row-parity", "the parity of rows", _parity, row_parity.apply),
)
