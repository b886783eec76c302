"""The dark that a library foretells for a time and a temperature, and its own uncertainty."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._library_law import inverse_kt
from calibrant.effects._steps import TIME_TOLERANCE, _noise, check_kind, dark_time, name_of
from calibrant.errors import HistoryError, OptionError, SelectionError
from calibrant.frame import DQ, Exposure
from calibrant.product import Product
from calibrant.stack.pixel import PixelStep


@dataclass(frozen=True, eq=False)
class Prediction:
    """A dark for one time and temperature.

    Attributes
    ----------
    data : ndarray
        float32 (rows, cols), adu; with the zero level where the library holds it.
    variance : ndarray
        float32 (rows, cols), adu2: of the prediction, not of a frame.
    dark : ndarray
        float32 (rows, cols), adu: the counts of the dark alone.
    temperature : float or None
        Of the prediction, C.
    outside : bool
        Whether time or temperature are beyond the darks of the library.
    notes : tuple of str
        Why.
    """

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    dark: NDArray[np.float32]
    temperature: float | None
    outside: bool
    notes: tuple[str, ...]


def predict(
    product: Product, exptime: float, temperature: float | None, *, after: Collection[Any] = ()
) -> Prediction:
    """As of `calibrant.effects.dark_library.predict`.

    Notes
    -----
    ``D = t R f``, ``f = exp(-E x)``, ``x = 1/kT - 1/kT_0``. With V, C the independent parts of the errors of
    R and E, and g their responses to the zero level Z: ``V(D) = (t f)^2 (V_R - 2 R x C + R^2 x^2 V_E)`` and
    ``dD/dZ = q = t f (g_R - R x g_E)``. A frame less Z and D errs by ``(1 + q) dZ`` where Z is subtracted
    too: q is near -1 at the times of the library, and the zero level cancels.
    """
    check_kind(product, "dark_library", "adu/s")
    if not exptime >= 0:
        raise OptionError("a dark time is not negative", where="exptime", got=exptime)
    at, notes = _reach(product, float(exptime), temperature)
    planes, t = product.planes, np.float32(exptime)
    rate, zero = planes["data"], planes.get("bias_propagated")
    v, q = planes["variance"], None
    gr = planes.get("bias_response")
    if zero is not None and gr is not None:
        v, q = v - gr * gr * zero, t * gr
    factor: Any = t
    if at is not None and "energy" in planes:
        x = np.float32(inverse_kt(at, product.quantity("reference_temperature").value))
        factor = t * np.exp(-planes["energy"] * x)
        rx, ve, c = rate * x, planes["energy_variance"], planes["covariance"]
        if zero is not None and gr is not None:
            ge = planes["energy_response"]
            ve, c = ve - ge * ge * zero, c - gr * ge * zero
            q = factor * (gr - rx * ge)
        v = v + rx * (rx * ve - 2 * c)
    dark = np.asarray(factor * rate, np.float32)
    variance = np.maximum(factor * factor * v, 0)
    variance = variance + _of_zero(product, q, zero, after)
    data = planes["bias"] + dark if "bias" in planes else dark
    return Prediction(data, np.asarray(variance, np.float32), dark, at, bool(notes), tuple(notes))


def _of_zero(
    product: Product, q: NDArray[Any] | None, zero: NDArray[Any] | None, after: Collection[Any]
) -> NDArray[Any] | float:
    """What the error of the zero level adds, where a bias of the same error has added its own already."""
    if q is None or zero is None:
        return 0.0
    if "bias" in product.planes:
        return np.asarray((1 + q) ** 2 * zero)
    known = {item if isinstance(item, str) else item.identity for item in after}
    shared = bool(known & set(product.provenance.parents))
    return np.asarray(((1 + q) ** 2 - 1) * zero if shared else q * q * zero)


def _reach(product: Product, time: float, temperature: float | None) -> tuple[float | None, list[str]]:
    """The temperature to predict for, and sentences on what lies beyond the library."""
    notes = []
    longest = product.quantity("time_max").value
    if time > longest * (1 + TIME_TOLERANCE):
        notes.append(f"extrapolated: {time:g} s is longer than the darks of the library (to {longest:g} s)")
    own = np.asarray(product.tables["temperatures"]["temperature"], float)
    width = product.quantity("temperature_width").value
    if "energy" not in product.planes:
        _check_only(own, width, temperature)
        return (None if np.isnan(own[0]) else float(own[0])), notes
    if temperature is None:
        raise SelectionError(
            "the temperature is unknown, and the library is of several",
            expected=f"{own.min():.1f} to {own.max():.1f} C",
            do="give temperature in degrees C",
        )
    nearest = float(own[np.argmin(np.abs(own - temperature))])
    if abs(nearest - temperature) <= width / 2:
        return nearest, notes
    if not own.min() < temperature < own.max():
        notes.append(
            f"extrapolated: {temperature:g} C is beyond the library ({own.min():.1f} to {own.max():.1f} C)"
        )
    return float(temperature), notes


def _check_only(own: NDArray[np.float64], width: float, temperature: float | None) -> None:
    if temperature is None or np.isnan(own[0]):
        return
    if abs(temperature - own[0]) > width:
        raise SelectionError(
            "the library is of one temperature, and has no law for others",
            expected=f"{own[0]:.1f} C, within {width:g} K",
            got=f"{temperature:g} C",
            do="take darks of other temperatures into the library",
        )


def step_of(
    exposure: Exposure,
    product: Product,
    *,
    after: Collection[Any],
    temperature: float | None,
    read_noise: float | NDArray[Any] | None,
    gain: float | None,
) -> PixelStep:
    """As of `calibrant.effects.dark_library.step`."""
    if "dark" in exposure.applied:
        raise HistoryError(
            "the dark was removed before this frame reached us",
            where=name_of(exposure),
            do="leave the dark out for this frame",
        )
    time = dark_time(exposure)
    found = predict(product, time, exposure.temperature if temperature is None else temperature, after=after)
    dq = product.planes["dq"]
    if found.outside:
        dq = dq | np.uint32(DQ.UNRELIABLE_DARK)
    whole = bool(product.keys.get("includes_bias"))
    options: dict[str, Any] = {"time": time, "temperature": found.temperature, "library": True}
    return PixelStep(
        effect="dark",
        product=product.identity,
        offset=found.data,
        offset_variance=found.variance,
        dq=dq,
        options=options | ({"includes_bias": True} if whole else {}),
        note="; ".join(found.notes),
        **(_noise(read_noise, gain, found.dark) if whole else {}),
    )
