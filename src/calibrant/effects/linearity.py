"""Linearity: signals that are not proportional to the light, made so; see docs/effects/linearity.md.

``corrected = measured + f(measured)``, f of each amplifier from flats of different light.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._amplifiers import Region, read, regions
from calibrant.effects._assembly import place_plane, places_table
from calibrant.effects._input import check_products
from calibrant.effects._linearity_fit import Choice, Model, Response, respond
from calibrant.effects._lit import lit_flats
from calibrant.effects.common import Record, facts, label, product_keys
from calibrant.errors import HistoryError, OptionError, SelectionError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.covariance import clipped
from calibrant.stack.pixel import Curve, PixelStep, apply_steps
from calibrant.stack.source import Source

NAME = "linearity"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ("dark", "flat", "gain")
KIND = Kind(
    "linearity",
    quantities={
        "nonlinearity": "Largest correction of an amplifier within its validity, per cent of the signal.",
        "valid_low": "Lowest level of the series; below it the correction runs to 0 at no signal.",
        "valid_high": "Highest level that the correction was measured at.",
        "turnoff": "Highest level that follows the straight line within the limit; none if all do.",
        "residual_rms": "Scatter of the corrected levels about the ideal line, per cent.",
        "c2": "Factor of the squared signal in the correction.",
        "c3": "Factor of the cubed signal in the correction.",
        "shutter_offset": "Time that the light is on longer than stated.",
    },
)
MATCH_AS = "bias"  # it belongs to the electronics, as the bias does
UNITS = {
    "linearity.mean": "adu",
    "linearity.line": "adu",
    "linearity.residual_before": "%",
    "linearity.residual_after": "%",
    "curve.measured": "adu",
    "curve.correction": "adu",
    "curve.sigma": "adu",
}
NODES = 257
"""Of the table of a curve: linear in between, a parabola of 1 % at the top is met within 4e-8 of the top."""
DIODE = "photodiode"
CLIP = 5.0
LOST = 0.01  # of an amplifier's pixels: more that are saturated make a mean that is too small

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Options:
    order: int = 3
    knots: int = 8
    straight: tuple[float, float] = (30.0 / 65535.0, 20000.0 / 65535.0)
    limit: float = 3.0
    offset: bool = True
    saturation: float | None = None

    def __post_init__(self) -> None:
        low, high = self.straight
        if not (0 <= low < high <= 1):
            raise OptionError(
                "the straight part is two fractions of the range",
                where="straight",
                expected="0 <= low < high <= 1",
                got=self.straight,
            )
        if self.order < 2 or self.knots < 3 or not self.limit > 0:
            raise OptionError(
                "a polynomial of linearity has at least order 2, a spline 3 knots, and a limit is positive",
                got=f"order {self.order}, {self.knots} knots, limit {self.limit:g} %",
            )


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    model: Model = "spline",
    against: str = "auto",
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
    **options: Any,
) -> Product:
    """Correction of each amplifier from flats of different exposure time or light.

    Parameters
    ----------
    exposures : Exposures
        Flats of one detector and setting, adu, in any order; through the overscan (and crosstalk), or with a
        bias among the products. One frame at a time is in memory.
    products : mapping of Product
        ``bias``: subtracted. ``gain``, ``bias``, ``read_noise``: for the weights.
    model : {"spline", "polynomial", "quadratic"}
    against : str
        What the light is proportional to: ``exptime``, or the name of a fact such as what a photodiode
        counted; ``auto``: ``photodiode`` where every frame has it, else ``exptime``.
    progress, runner, budget
        As everywhere.
    **options
        order : int, 3. Of the polynomial: u^2 ... u^order.
        knots : int, 8. Of the spline, at equal distances.
        straight : (float, float). Part of the range [fractions of the saturation level] that a first line is
        laid through; levels below it are left out. 30 and 20 000 adu of 16 bits.
        limit : float, 3 %. Deviation from that line at which an amplifier turns off.
        offset : bool, True. Whether there may be signal at no light: a slow shutter, stray light, a pedestal.
        saturation : float, adu. Raw values from which on a pixel is left out; None takes the instrument's.

    Returns
    -------
    Product
        Quantities nonlinearity and residual_rms [%], valid_low, valid_high and turnoff [adu], c2 [1/adu] and
        c3 [1/adu2] for each amplifier, NaN where it is dead; shutter_offset [s]; tables linearity and curve.

    Raises
    ------
    SelectionError
        No flats, mixed ones, or levels of light that tell no amplifier's curve.
    HeaderError
        If a frame does not say its light.
    HistoryError
        If nothing takes the zero level away.
    """
    del runner, budget
    check_products(products)
    given, wanted = dict(products or {}), _Options(**options)
    record = Record({"model": model, "against": against, **asdict(wanted)})
    series, sources = lit_flats(
        exposures, given, NAME, MATCH_AS, record, saturation=wanted.saturation, forbids=("flat", "gain", NAME)
    )
    fact, light = _light(series, against)
    record.options["against"] = fact
    known = facts(series, given, saturation=wanted.saturation)
    places = regions(series)
    mean, sigma = _levels(sources, places, known.gain or 1.0, known.read_noise or 0.0, progress)
    top = known.saturation or float(np.nanmax(mean, initial=1.0))
    choice = Choice(
        model=model,
        order=wanted.order,
        knots=wanted.knots,
        low=wanted.straight[0] * top,
        high=wanted.straight[1] * top,
        limit=wanted.limit / 100.0,
        offset=wanted.offset,
    )
    found = [respond(light, mean[:, k], sigma[:, k], choice) for k in range(len(places))]
    if not any(response.found for response in found):
        raise SelectionError(
            "the flats do not tell how linear any amplifier is",
            got=f"{places[0].name}: {found[0].notes[0]}".removeprefix(": "),
            do="take flats of more levels, from little light to near saturation",
        )
    record.notes += _notes(places, found)
    names = [label(exposure, index) for index, exposure in enumerate(series)]
    tables = {"linearity": _table(names, light, mean, places, found), "curve": _curves(places, found)}
    if len(places) > 1:
        tables["amplifiers"] = places_table([place.readout for place in places], series[0].shape)
    quantities = [q for place, r in zip(places, found, strict=True) for q in _quantities(place, r, choice)]
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys=product_keys(series, MATCH_AS),
        epoch=series.epoch,
        units=UNITS,
        tables=tables,
        quantities=(*quantities, *_shutter(found, fact, record)),
        provenance=record.provenance(NAME, series, given),
    )


def _light(series: Exposures, against: str) -> tuple[str, NDArray[np.float64]]:
    """What the light is proportional to, and its values."""
    fact = against
    if against == "auto":
        stated = all(isinstance(exposure.get(DIODE), (int, float)) for exposure in series)
        fact = DIODE if stated else "exptime"
    series.require(fact)
    light = np.array([exposure.get(fact) for exposure in series], np.float64)
    levels = len(np.unique(light))
    if levels < 3:
        raise SelectionError(
            "flats of at least three levels of light are needed",
            where=fact,
            got=f"{levels} in {len(series)} flats",
            do="take flats of more exposure times, or name the fact that says their light (against)",
        )
    return fact, light


def _levels(
    sources: Sequence[Source],
    places: Sequence[Region],
    gain: float,
    read_noise: float,
    progress: Progress | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean signal and its noise, adu, (frames, amplifiers); NaN where pixels are saturated or missing."""
    mean = np.full((len(sources), len(places)), math.nan)
    sigma = np.full_like(mean, math.nan)
    for index, source in enumerate(sources):
        image = read(source)
        for number, place in enumerate(places):
            pixels = place.of(image)
            missing = np.count_nonzero(np.isnan(pixels)) / pixels.size
            limits = clipped(pixels, CLIP)
            if missing <= LOST and limits.count > 1:
                mean[index, number] = limits.mean
                noise = max(limits.mean, 0.0) / gain + read_noise**2
                sigma[index, number] = math.sqrt(max(noise, 1e-12) / limits.count)
        if progress is not None:
            progress(index + 1, len(sources), "flats")
    return mean, sigma


def _table(
    names: Sequence[str],
    light: NDArray[np.float64],
    mean: NDArray[np.float64],
    places: Sequence[Region],
    found: Sequence[Response],
) -> dict[str, NDArray[Any]]:
    """Every level of every amplifier."""
    return {
        "amplifier": np.repeat([place.name for place in places], len(names)),
        "frame": np.tile(names, len(places)),
        "light": np.tile(light, len(places)),
        "mean": mean.T.ravel(),
        "line": np.concatenate([response.line for response in found]),
        "residual_before": 100.0 * np.concatenate([response.before for response in found]),
        "residual_after": 100.0 * np.concatenate([response.after for response in found]),
        "used": np.concatenate([response.used for response in found]),
    }


def _curves(places: Sequence[Region], found: Sequence[Response]) -> dict[str, NDArray[Any]]:
    """The correction of each amplifier at equal distances from 0 to the end of its validity."""
    measured = [np.linspace(0.0, response.top, NODES) for response in found]
    curves = [
        (r.correction(u), r.error(u)) if r.found else (u, u) for r, u in zip(found, measured, strict=True)
    ]
    return {
        "amplifier": np.repeat([place.name for place in places], NODES),
        "measured": np.concatenate(measured),
        "correction": np.concatenate([correction for correction, _ in curves]),
        "sigma": np.concatenate([sigma for _, sigma in curves]),
    }


def _quantities(place: Region, response: Response, choice: Choice) -> list[Quantity]:
    name, used = place.name, response.used
    rms = 100.0 * float(np.sqrt(np.mean(response.after[used] ** 2))) if used.any() else math.nan
    largest = math.nan
    if response.found:
        u = np.linspace(0.0, response.top, NODES)[1:]
        largest = 100.0 * float(np.max(np.abs(response.correction(u)) / u))
    values = [
        Quantity("nonlinearity", largest, None, "%", name),
        Quantity("valid_low", response.bottom, None, "adu", name),
        Quantity("valid_high", response.top, None, "adu", name),
        Quantity(
            "turnoff",
            response.turnoff,
            response.turnoff_sigma if math.isfinite(response.turnoff_sigma) else None,
            "adu",
            name,
        ),
        Quantity("residual_rms", rms, None, "%", name),
    ]
    if choice.model == "spline":
        return values
    for power in range(2, 3 if choice.model == "quadratic" else choice.order + 1):
        unit = "1/adu" if power == 2 else f"1/adu{power - 1}"
        value, sigma = math.nan, None
        if response.found:
            per = response.top ** (power - 1)
            value = float(response.coefficients[power - 2]) / per
            sigma = float(response.sigmas[power - 2]) / per
        values.append(Quantity(f"c{power}", value, sigma, unit, name))
    return values


def _notes(places: Sequence[Region], found: Sequence[Response]) -> list[str]:
    """One sentence for all amplifiers of which the same is to be said."""
    said: dict[str, list[str]] = {}
    for place, response in zip(places, found, strict=True):
        for note in response.notes:
            said.setdefault(note, []).append(place.name)
    words = {
        note: f"amplifier{'s' if len(names) > 1 else ''} {', '.join(names)}" for note, names in said.items()
    }
    return [f"{words[note]}: {note}" if names != [""] else note for note, names in said.items()]


def _shutter(found: Sequence[Response], fact: str, record: Record) -> list[Quantity]:
    """Light that is not stated, as a time; a note where it is surely there."""
    times = [(r.offset / r.slope, r.offset_sigma / r.slope) for r in found if r.found and r.offset_sigma > 0]
    if fact != "exptime" or not times:
        return []
    value, sigma = (float(np.median(column)) for column in zip(*times, strict=True))
    if abs(value) > 3 * sigma:
        more = "longer" if value > 0 else "shorter"
        record.notes.append(f"the light is on {abs(value):.3g} s {more} than the exposure times say")
    return [Quantity("shutter_offset", value, sigma, "s")]


def step(exposure: Exposure, product: Product) -> PixelStep:
    """``data += f(data)``; variances by (1 + slope of f)^2.

    Above its validity the correction stays as it is there, and values are flagged NONLINEAR; from the
    turn-off on SATURATED. Amplifiers without a correction are left as they are, and flagged NO_LIN_CORR.

    Parameters
    ----------
    exposure : Exposure
        Not looked at: the correction is the product's.
    product : Product
        Of `measure`: table ``curve``; quantities valid_high and turnoff [adu].

    Raises
    ------
    SelectionError
        If the product is no linearity.
    """
    del exposure
    if product.kind != NAME:
        raise SelectionError("not a linearity", expected=f"a product of kind {NAME}", got=product.kind)
    column = product.tables["curve"]["amplifier"]
    names = [str(name) for name in column[np.flatnonzero(np.append(True, column[1:] != column[:-1]))]]
    table = product.tables["curve"]["correction"].reshape(len(names), -1)
    measured = product.tables["curve"]["measured"].reshape(table.shape)
    found: NDArray[np.bool_] = np.all(np.isfinite(table), axis=1)
    index, missing = _planes(product, names, found)
    return PixelStep(
        NAME,
        product=product.identity,
        curve=Curve(
            table=np.where(found[:, None], table, 0.0).astype(np.float32),
            start=np.where(found, measured[:, 0], 0.0).astype(np.float32),
            spacing=np.where(found, measured[:, 1] - measured[:, 0], 1.0).astype(np.float32),
            low=np.full(len(names), np.nan, np.float32),
            high=_limits(product, "valid_high", names),
            saturation=_limits(product, "turnoff", names),
            index=index,
        ),
        dq=missing,
        requires_unit="adu",
    )


def _limits(product: Product, name: str, amplifiers: Sequence[str]) -> NDArray[np.float32]:
    known = {quantity.place: quantity.value for quantity in product if quantity.name == name}
    return np.array([known.get(amplifier, math.nan) for amplifier in amplifiers], np.float32)


def _planes(
    product: Product, names: Sequence[str], found: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8] | int, NDArray[np.uint32] | None]:
    """The amplifier of each pixel, and flags where there is no correction."""
    flags = np.where(found, 0, int(DQ.NO_LIN_CORR)).astype(np.uint32)
    if "amplifiers" not in product.tables:
        return 0, None if found.all() else flags.reshape(1, 1)
    numbers = {name: number for number, name in enumerate(names)}
    index = place_plane(product.tables["amplifiers"], numbers, np.uint8)
    return index, None if found.all() else flags[index]


def apply(frame: Frame, product: Product) -> Frame:
    """The frame with signals proportional to the light.

    Parameters
    ----------
    frame : Frame
        adu, its zero level removed (overscan or bias); dark, flat and gain not.
    product : Product
        As of `step`.

    Raises
    ------
    HistoryError
        If it was done already, or a later step was.
    ShapeError, UnitError
        If the product does not fit.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    if not any(frame.did(effect) for effect in ("overscan", "bias", "pedestal")):
        raise HistoryError(
            "linearity needs the zero level to be removed first",
            where=frame.name,
            do="apply the overscan or the bias before",
        )
    return apply_steps(frame, [step(frame.exposure, product)])
