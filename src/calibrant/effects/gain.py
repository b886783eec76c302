"""Gain: from counts to electrons, ``electrons = gain * adu``; see docs/effects/gain.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._assembly import place_plane, places_table
from calibrant.effects._input import check_products
from calibrant.effects.common import Record, begin, product_keys
from calibrant.errors import ConfigError, OptionError, SelectionError, UnitError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import Readout
from calibrant.product import Kind, Product, Quantity
from calibrant.stack.pixel import PixelStep, apply_steps

NAME = "gain"
REACH = "pixel"
NEEDS: tuple[str, ...] = ()
FORBIDS: tuple[str, ...] = ()
KIND = Kind(
    "gain",
    planes={"data": "Gain of each pixel, where it was measured pixel by pixel."},
    quantities={"gain": "Electrons per count of an amplifier; the place is its name."},
)
MATCH_AS = "bias"
UNITS = {"adu": "electron", "adu/s": "electron/s"}

Progress = Callable[[int, int, str], None]
Gains = float | Mapping[str, float] | None


def measure(
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
        provenance=Record(options={"gain": gain if gain is None else dict(gains)}).provenance(
            NAME, exposures, products or {}
        ),
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
    nominal = exposures.instrument.nominal(exposures[0])[0] if header is None else header
    if nominal is None:
        raise ConfigError(
            "no gain is known: neither the header nor the instrument file states one",
            where=exposures.instrument.name,
            do="add gain to its detector, or give gain=...",
        )
    return dict.fromkeys(names, float(nominal))


def mean_gain(product: Product) -> float:
    """Mean gain of the amplifiers, e-/adu.

    Raises
    ------
    SelectionError
        If the product is no gain.
    """
    if product.kind != NAME:
        raise SelectionError("not a gain", expected=f"a product of kind {NAME}", got=product.kind)
    return float(np.mean([quantity.value for quantity in product if quantity.name == "gain"]))


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
    values = [quantity.value for quantity in product if quantity.name == "gain"]
    return float(1.0 / np.nanmean(1.0 / np.asarray(values)))


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
    if unit not in UNITS:
        raise UnitError("a gain turns counts into electrons", expected=" or ".join(UNITS), got=unit)
    flat = even if isinstance(even, Product) else None
    mean = even_gain(product, flat) if even is not False else mean_gain(product)
    sigmas = [quantity.sigma for quantity in product if quantity.name == "gain"]
    plane = None if even is not False else plane_of(product)
    relative = max((s for s in sigmas if s is not None), default=0.0) / mean
    common: dict[str, Any] = {"product": product.identity, "unit": UNITS[unit], "requires_unit": unit}
    if plane is None and not relative:
        return PixelStep(NAME, scale=mean, options={"gain": mean}, **common)
    # As a division, so that the sigma of the gain can go with it.
    divisor: NDArray[Any] = np.float32(1.0) / np.asarray(mean if plane is None else plane, np.float32)
    variance: NDArray[Any] = np.square(np.float32(relative) * divisor)
    return PixelStep(
        NAME,
        divisor=divisor,
        divisor_variance=variance if relative else None,
        divisor_flag=DQ.NO_GAIN_VALUE,
        options={"gain": mean},
        **common,
    )


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
    """The frame in electrons.

    Raises
    ------
    HistoryError
        If it was done already.
    UnitError
        If the data are not in counts.
    """
    frame.require(NAME, needs=NEEDS, forbids=FORBIDS)
    return apply_steps(frame, [step(frame.exposure, product, unit=frame.unit)])
