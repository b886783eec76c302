"""Gain: from counts to electrons, ``electrons = gain * adu``; see docs/effects/gain.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._amplifiers import regions
from calibrant.effects._assembly import place_plane, places_table
from calibrant.effects._gain_curve import Options, Solve
from calibrant.effects._gain_levels import amplifiers, light_of, of_pairs, told
from calibrant.effects._gain_lines import crossing as crossing
from calibrant.effects._gain_lines import local_slope as local_slope
from calibrant.effects._gain_lines import noise_against_signal as noise_against_signal
from calibrant.effects._gain_lines import pixel_levels as pixel_levels
from calibrant.effects._gain_lines import straight_lines as straight_lines
from calibrant.effects._gain_lines import variance_against_mean as variance_against_mean
from calibrant.effects._gain_lines import variance_over_mean as variance_over_mean
from calibrant.effects._gain_lines import what_gain_changes as what_gain_changes
from calibrant.effects._gain_tables import UNITS, remarks, straight_note, tables
from calibrant.effects._input import check_products
from calibrant.effects._lit import lit_flats
from calibrant.effects._pairs import extract, pair_up
from calibrant.effects.common import Record, begin, label, product_keys
from calibrant.errors import ConfigError, OptionError, SelectionError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import Readout
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.pixel import PixelStep, apply_steps
from calibrant.stack.run import default_runner

NAME = "gain"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    "gain",
    planes={"data": "Gain of each pixel, where it was measured pixel by pixel."},
    quantities={
        "gain": "Electrons per count of an amplifier; the place is its name.",
        "read_noise": "Noise at zero light: of the curve, or of bias or overscan where only pairs were used.",
        "a00": "How much a pixel's own charge changes its area, per electron; below 0 for a CCD.",
        "turnoff": "Highest mean level that lies on the curve, adu.",
        "full_well": "The same in electrons.",
        "chi2": "Per degree of freedom of the fit.",
        "pairs": "Pairs of flats that were used.",
        "noise_ratio": "Read noise of the curve over that of bias or overscan.",
    },
)
MATCH_AS = "bias"
LEVELLED = {"overscan", "bias", "pedestal"}
ELECTRONS = {"adu": "electron", "adu/s": "electron/s"}

Progress = Callable[[int, int, str], None]
MOST_LAGS = 64  # of each direction: charge reaches no farther, and time grows with the square
Gains = float | Mapping[str, float] | None


def measure(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    model: Literal["exponential", "full", "quadratic", "linear"] = "exponential",
    lags: int = 10,
    pair_by: str = "exptime",
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
    **options: Any,
) -> Product:
    """Gain and read noise of each amplifier from pairs of flats: the photon transfer curve.

    Where fewer than three levels of light are there, the gain is that of the pairs,
    ``g = mean / (var(D) / 2 - r**2)``, and the product says so.

    Parameters
    ----------
    exposures : Exposures
        Flats of one detector and setting, adu, two or more of each light; through the overscan, or with a
        bias among the products. Darks may stay in: their electrons make noise as all others do.
    products : mapping of Product
        ``bias``: subtracted. ``bias``, ``read_noise`` or ``overscan``: read noise [adu] to compare with.
    model : {"exponential", "full", "quadratic", "linear"}
    lags : int
        Covariances of 0 .. lags - 1 rows and columns; 0 for none.
    pair_by : str
        ``exptime``, the name of another fact such as what a photodiode counted, or ``sequence``.
    progress, runner, budget
        As everywhere; two frames are held in memory, and amplifiers are worked on by the runner.
    **options
        edge : int, 0. Pixels at each side of an amplifier that are left out.
        minimum : int, 1000. Good pixels that an amplifier must have in a pair.
        saturation : float, adu. Raw values from which on a pixel is left out; None takes the instrument's.
        read_noise : float, adu. Instead of that of products.
        sigma_clip : float, 5. Levels farther from the curve are left out.
        max_signal : float, adu. Higher levels are not used.
        bootstrap : int, 0. Draws for the sigmas; 0 takes those of the fit.
        seed : int, 0. Of these draws.

    Returns
    -------
    Product
        Quantities gain [electron/adu], read_noise [electron], a00 [1/electron], turnoff [adu], full_well
        [electron], chi2, pairs and noise_ratio of each amplifier, NaN where it is dead; tables ptc,
        covariances, a_matrix, straight; and the places of the amplifiers where there are several.

    Raises
    ------
    SelectionError
        No flats, mixed ones, or no two that make a pair.
    OptionError
        If an option has no meaning.
    HistoryError
        If nothing takes the zero level away.
    BudgetError
        If two frames do not fit into the memory.
    """
    check_products(products)
    if not 0 <= lags <= MOST_LAGS:
        raise OptionError("too few lags, or too many", where="lags", expected=f"0 to {MOST_LAGS}", got=lags)
    given, choice = dict(products or {}), Options(**options)
    record = Record({"model": model, "lags": lags, "pair_by": pair_by, **asdict(choice)})
    series, sources = lit_flats(exposures, given, NAME, MATCH_AS, record, saturation=choice.saturation)
    pairs, notes = pair_up(series, pair_by)
    record.notes += notes
    if not pairs:
        raise SelectionError(
            "no two flats make a pair",
            expected=f"two flats of one {pair_by}",
            got="; ".join(notes) or None,
            do="take two flats of each light, or pair them by sequence",
        )
    found = extract(
        sources, pairs, regions(series), lags=lags, edge=choice.edge, minimum=choice.minimum,
        runner=runner, budget=budget, progress=progress,
    )  # fmt: skip
    parts = amplifiers(series, regions(series), found, given, choice.read_noise)
    task = Solve(model, lags, choice, light_of(parts, pairs, series))
    results = list(default_runner(runner).map(task, parts))
    parts = [one.part for one in results]
    record.options["estimator"] = "ptc" if any(one.fit is not None for one in results) else "pair"
    names = [label(exposure, index) for index, exposure in enumerate(series)]
    columns = of_pairs(pairs, names, [exposure.duration for exposure in series])
    made = tables(results, columns, lags)
    units = {name: unit for name, unit in UNITS.items() if name.partition(".")[0] in made}
    if len(parts) > 1:
        made["amplifiers"] = places_table([r.readout for r in regions(series)], series[0].shape)
    quantities = tuple(quantity for one in results for quantity in one.quantities())
    record.notes += [*told(parts), *remarks(results)]
    record.notes += straight_note(made["straight"], model) if "straight" in made else []
    return Product(
        NAME,
        instrument=series.instrument.name,
        keys=product_keys(series, MATCH_AS),
        epoch=series.epoch,
        units=units,
        tables=made,
        quantities=quantities,
        provenance=record.provenance(NAME, series, given),
    )


def nominal(
    exposures: Exposures,
    *,
    products: Mapping[str, Product] | None = None,
    gain: Gains = None,
    sigma: float | None = None,
    progress: Progress | None = None,
    runner: Any = None,
    budget: int | str = "512MB",
) -> Product:
    """The nominal gain: as given, else as the header states it, else as the instrument file does.

    Parameters
    ----------
    exposures : Exposures
        Of one detector and gain setting; no pixel is read.
    gain : float or mapping, optional
        e-/adu, for all amplifiers or by their names.
    sigma : float, optional
        Its standard uncertainty, e-/adu.

    Returns
    -------
    Product
        Quantity gain [electron/adu] for each amplifier; where there are several, their places as a table.

    Raises
    ------
    ConfigError
        If no gain is known.
    OptionError
        If one is not positive.
    SelectionError
        No exposures, mixed ones, or headers that state different gains.
    """
    del progress, runner, budget
    check_products(products)
    exposures = begin(exposures, MATCH_AS)
    readouts = exposures.instrument.readouts(exposures[0])
    gains = _gains(exposures, readouts, gain)
    for name, value in gains.items():
        if not (math.isfinite(value) and value > 0):
            raise OptionError(
                "a gain must be a positive number", where=name or "gain", expected="> 0 e-/adu", got=value
            )
    tables = {"amplifiers": places_table(readouts, exposures[0].shape)} if len(gains) > 1 else {}
    unit = "electron/adu"
    return Product(
        NAME,
        instrument=exposures.instrument.name,
        keys=product_keys(exposures, MATCH_AS),
        epoch=exposures.epoch,
        tables=tables,
        quantities=tuple(Quantity("gain", value, sigma, unit, name) for name, value in gains.items()),
        provenance=Record(
            options={"estimator": "nominal", "gain": gain if gain is None else dict(gains)}
        ).provenance(NAME, exposures, products or {}),
    )


def _gains(exposures: Exposures, readouts: tuple[Readout, ...], gain: Gains) -> dict[str, float]:
    names = [readout.name for readout in readouts]
    if isinstance(gain, Mapping):
        if set(gain) != set(names):
            raise OptionError(
                "gains must be given for every amplifier", expected=", ".join(names), got=", ".join(gain)
            )
        return {name: float(gain[name]) for name in names}
    if gain is not None:
        return dict.fromkeys(names, float(gain))
    stated = {exposure.gain for exposure in exposures}
    if len(stated) > 1:
        raise SelectionError(
            "the headers state different gains",
            got=", ".join(sorted(str(value) for value in stated)),
            do="group the exposures by gain first",
        )
    header = stated.pop()
    own = {readout.name: readout.gain for readout in readouts}
    if len(names) > 1 and all(value is not None for value in own.values()):
        return {name: float(value) for name, value in own.items() if value is not None}
    stated_gain = exposures.instrument.nominal(exposures[0])[0] if header is None else header
    if stated_gain is None:
        raise ConfigError(
            "no gain is known: neither the header nor the instrument file states one",
            where=exposures.instrument.name,
            do="add gain to its detector, or give gain=...",
        )
    return dict.fromkeys(names, float(stated_gain))


def mean_gain(product: Product) -> float:
    """Mean gain of the amplifiers, e-/adu; those whose gain is not a number do not count.

    Raises
    ------
    SelectionError
        If the product is no gain.
    """
    if product.kind != NAME:
        raise SelectionError("not a gain", expected=f"a product of kind {NAME}", got=product.kind)
    known = _known(product)
    return float(np.mean(known)) if known.size else math.nan


def _known(product: Product) -> NDArray[np.float64]:
    """Gains of the amplifiers that have one."""
    return np.array([q.value for q in product if q.name == "gain" and math.isfinite(q.value)])


def plane_of(product: Product) -> NDArray[np.float32] | None:
    """Gain of each pixel, e-/adu, (rows, cols); None where one number holds for all."""
    if "data" in product.planes:
        return np.asarray(product.data, np.float32)
    values = {quantity.place: quantity.value for quantity in product if quantity.name == "gain"}
    if "amplifiers" not in product.tables or len(set(values.values())) < 2:
        return None
    return place_plane(product.tables["amplifiers"], values)


SAMPLE = 1 << 18
"""Pixels of a flat that its middle is taken of: of a scatter of 1 % it is known to 2e-5 then."""


def even_gain(product: Product, flat: Product | None = None) -> float:
    """The one gain after a flat that was measured in adu, e-/adu.

    Such a flat is the response R over the gain g, each pixel's, divided by its median. After it, electrons
    are ``adu * median(flat * g)``: even light then becomes what the pixel of the median response makes of it,
    whatever the gains. Where the flat is not at hand, the harmonic mean of the amplifiers stands in: good as
    far as they are lit alike.

    Parameters
    ----------
    product : Product
        Kind ``gain``. Amplifiers whose gain is not a number do not count.
    flat : Product, optional
        Kind ``flat``, the one that was divided out. Pixels that it flags DO_NOT_USE do not count.
    """
    plane = plane_of(product)
    if flat is not None and plane is not None and plane.shape == flat.data.shape:
        step = max(1, flat.data.size // SAMPLE) | 1  # odd, so that all columns come into it
        both = flat.data.ravel()[::step] * plane.ravel()[::step]
        if "dq" in flat.planes:
            both = both[(flat.planes["dq"].ravel()[::step] & np.uint32(DQ.DO_NOT_USE)) == 0]
        if np.isfinite(both).any():
            return float(np.nanmedian(both))
    known = _known(product)
    return float(1.0 / np.mean(1.0 / known)) if known.size else math.nan


def step(
    exposure: Exposure, product: Product, *, unit: str = "adu", even: bool | Product = False
) -> PixelStep:
    """``data *= gain``: adu to electron, adu/s to electron/s; variances by its square.

    A known sigma of the gain goes to `systematic`, as common to all pixels of an amplifier. Pixels of an
    amplifier whose gain is not a number are flagged NO_GAIN_VALUE and DO_NOT_USE.

    Parameters
    ----------
    exposure : Exposure
        Not looked at: the gain is the product's.
    product : Product
        Of `measure`, or measured otherwise: quantities gain [electron/adu].
    unit : str
        Of the data before the step.
    even : bool or Product
        Whether a flat has made the amplifiers alike, or that flat: then `even_gain` holds for all pixels.

    Raises
    ------
    UnitError
        If the data are not in counts.
    """
    if unit not in ELECTRONS:
        raise UnitError("a gain turns counts into electrons", expected=" or ".join(ELECTRONS), got=unit)
    flat = even if isinstance(even, Product) else None
    mean = even_gain(product, flat) if even is not False else mean_gain(product)
    plane = None if even is not False else plane_of(product)
    relative = _relative(product, None if plane is None else plane.shape)
    common: dict[str, Any] = {"product": product.identity, "unit": ELECTRONS[unit], "requires_unit": unit}
    if plane is None and not np.any(relative) and math.isfinite(mean):
        return PixelStep(NAME, scale=mean, options={"gain": mean}, **common)
    # As a division, so that the sigma of the gain can go with it.
    divisor: NDArray[Any] = np.float32(1.0) / np.asarray(mean if plane is None else plane, np.float32)
    variance: NDArray[Any] = np.square(relative * divisor)
    return PixelStep(
        NAME,
        divisor=divisor,
        divisor_variance=variance if np.any(relative) else None,
        divisor_flag=DQ.NO_GAIN_VALUE,
        options={"gain": mean},
        **common,
    )


def _relative(product: Product, shape: tuple[int, ...] | None) -> NDArray[np.float32]:
    """Sigma of the gain over the gain: of each pixel, or the largest where one number holds for all."""
    gains = [q for q in product if q.name == "gain"]
    values = {q.place: (q.sigma or 0.0) / q.value if math.isfinite(q.value) else 0.0 for q in gains}
    if shape is None or "amplifiers" not in product.tables or set(values) == {""}:
        return np.asarray(max(values.values(), default=0.0), np.float32)
    return place_plane(product.tables["amplifiers"], values)


def equalise(exposure: Exposure, product: Product) -> PixelStep:
    """Counts of amplifiers of different gain as counts of their mean gain: ``data *= gain / mean``, in adu.

    For frames that are looked at or compared in counts. Masters that are subtracted afterwards must have been
    brought there too; what follows is scaled by `mean_gain` alone.
    """
    mean = mean_gain(product)
    plane = plane_of(product)
    return PixelStep(
        f"{NAME}.equalise",
        product=product.identity,
        divisor=None if plane is None else np.asarray(np.float32(mean) / plane, np.float32),
        divisor_flag=DQ.NO_GAIN_VALUE,
        requires_unit="adu",
        options={"gain": mean},
    )


def apply(frame: Frame, product: Product) -> Frame:
    """The frame in electrons, with a variance plane.

    Where the frame has none, and the product knows the read noise R [electron], it is
    ``variance = R**2 + max(electrons, 0)``: as long as the zero level is gone, and dark and flat are not.

    Raises
    ------
    HistoryError
        If it was done already.
    UnitError
        If the data are not in counts.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    done = {step.effect for step in frame.history} | frame.exposure.applied
    plain = frame.unit == "adu" and done & LEVELLED and not done & {"dark", "flat"}
    noise = _noise_of(product) if frame.variance is None and plain else None
    if noise is None:
        return apply_steps(frame, [step(frame.exposure, product, unit=frame.unit)])
    return apply_steps(frame, _with_variance(frame.exposure, product, noise))


def _noise_of(product: Product) -> NDArray[np.float32] | None:
    """Read noise of each pixel, or of all, electron; None if the product does not know it everywhere."""
    values = {q.place: q.value for q in product if q.name == "read_noise" and q.unit == "electron"}
    gains = {q.place: q.value for q in product if q.name == "gain"}
    if not values or any(not math.isfinite(values.get(p, math.nan)) for p, g in gains.items() if g > 0):
        return None
    if "amplifiers" not in product.tables:
        return np.asarray(np.float32(max(values.values())))
    return place_plane(product.tables["amplifiers"], values)


def _with_variance(exposure: Exposure, product: Product, noise: NDArray[np.float32]) -> list[PixelStep]:
    """Two steps: noise is made in counts of one gain, so all are brought to those of the mean gain first."""
    mean, plane = mean_gain(product), plane_of(product)
    whole = step(exposure, product)
    if plane is None:
        return [replace(whole, read_noise=np.asarray(noise / np.float32(mean)), gain=mean)]
    first = equalise(exposure, product)
    assert whole.divisor is not None
    if whole.divisor_variance is not None:
        ratio = np.float32(mean**2)
        first = replace(first, divisor_variance=np.asarray(whole.divisor_variance * ratio, np.float32))
    last_step = PixelStep(
        NAME,
        product=product.identity,
        read_noise=np.nan_to_num(noise / np.float32(mean)),
        gain=mean,
        scale=mean,
        unit="electron",
        requires_unit="adu",
        options={"gain": mean},
    )
    return [first, last_step]
