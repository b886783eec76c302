"""How masters are taken from frames: the pixel steps of bias, dark and flat; flats need the first two."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import HeaderError, HistoryError, SelectionError, UnitError
from calibrant.frame import Exposure
from calibrant.product import Product
from calibrant.stack.pixel import PixelStep

TIME_TOLERANCE = 1e-3  # relative; shutters state their times to a millisecond at best


def name_of(exposure: Exposure) -> str:
    """A word for an exposure in messages."""
    return exposure.path or exposure.identifier or "frame in memory"


def dark_time(exposure: Exposure) -> float:
    """Seconds of collecting dark current: DARKTIME, else the exposure time.

    Raises
    ------
    HeaderError
        If neither is known, or it is negative.
    """
    time = exposure.dark_time if exposure.dark_time is not None else exposure.duration
    if time is None:
        raise HeaderError(
            "neither a dark time nor an exposure time is known",
            where=name_of(exposure),
            do="add EXPTIME to the header, or a rule for it to the instrument file",
        )
    if not time >= 0:
        raise HeaderError(
            "an exposure time cannot be negative", where=name_of(exposure), expected=">= 0 s", got=time
        )
    return float(time)


def error_plane(product: Product, name: str = "data") -> NDArray[Any] | None:
    """Variance of the independent errors of a master: from the noise model where known, else the scatter.

    The scatter of few frames is itself uncertain (by half for three of them), the noise model is not.
    """
    prefix = "" if name == "data" else f"{name}_"
    planes = product.planes
    found = planes.get(f"{prefix}propagated")
    return planes.get(f"{prefix}variance") if found is None else found


def total_error(product: Product) -> NDArray[Any] | None:
    """Independent and systematic variance of a master together: its uncertainty for the user."""
    own, common = error_plane(product), product.planes.get("systematic")
    if own is None or common is None:
        return common if own is None else own
    total: NDArray[Any] = own + common
    return total


def check_kind(product: Product, kind: str, unit: str | tuple[str, ...]) -> None:
    """That a product is what the effect applies.

    Raises
    ------
    SelectionError
        If it is of another kind.
    UnitError
        If its data are in another unit.
    """
    if product.kind != kind:
        raise SelectionError(
            "a product of another kind was given", where=kind, expected=kind, got=product.kind
        )
    units = (unit,) if isinstance(unit, str) else unit
    if product.unit not in units:
        raise UnitError(
            f"the {kind} is in a unit that cannot be used here",
            expected=" or ".join(repr(u) for u in units),
            got=repr(product.unit),
        )


def bias_step(exposure: Exposure, product: Product) -> PixelStep:
    """``data -= bias``; its error goes to `systematic`.

    Raises
    ------
    HistoryError
        If the camera had removed a dark, and the zero level with it.
    """
    check_kind(product, "bias", "adu")
    for done in ("bias", "dark"):
        if done in exposure.applied:
            raise HistoryError(
                f"the {done} was removed before this frame reached us, and the zero level with it",
                where=name_of(exposure),
                do="leave the bias out for this frame",
            )
    return PixelStep(
        effect="bias",
        product=product.identity,
        offset=product.data,
        offset_variance=total_error(product),
        dq=product.planes.get("dq"),
    )


def dark_step(
    exposure: Exposure,
    product: Product,
    *,
    after: Collection[Product | str] = (),
    scale_up: bool = True,
    read_noise: float | NDArray[Any] | None = None,
    gain: float | None = None,
) -> PixelStep:
    """``data -= rate * t``, or ``data -= dark`` (with its bias) at the dark's own exposure time.

    Parameters
    ----------
    exposure : Exposure
        Of the frame.
    product : Product
        The dark.
    after : collection of Product or identity
        What was subtracted before. If the bias among it is the one the dark was measured with, the error
        that both share cancels in part (wholly at the dark's own exposure time), and only the rest is added.
    scale_up : bool
        Whether a rate may be used for longer times than it was measured at.
    read_noise, gain : float or array, optional
        For darks that hold their bias: read noise [adu] and gain [e-/adu]. The noise of the frame is then
        added in this same step, with the electrons of the dark, which cannot be counted once it is gone.
    """
    check_kind(product, "dark", ("adu", "adu/s"))
    if "dark" in exposure.applied:
        raise HistoryError(
            "the dark was removed before this frame reached us",
            where=name_of(exposure),
            do="leave the dark out for this frame",
        )
    time = dark_time(exposure)
    if product.unit == "adu":
        return _with_bias(exposure, product, time, read_noise, gain)
    check_reach(product, time, scale_up, name_of(exposure))
    if "bias" in product.planes:
        return _fitted(product, time, read_noise, gain)
    return PixelStep(
        effect="dark",
        product=product.identity,
        offset=product.data,
        offset_factor=time,
        offset_variance=_rate_error(product, time, after),
        dq=product.planes.get("dq"),
        options={"time": time},
    )


def check_reach(product: Product, time: float, scale_up: bool, where: str) -> None:
    """That a rate is not used beyond the times it was measured at, unless asked."""
    longest = longest_time(product)
    if longest is not None and not scale_up and time > longest * (1 + TIME_TOLERANCE):
        raise SelectionError(
            "the dark is of a shorter time than the frame, and darks are scaled down only",
            where=where,
            expected=f"at most {longest:g} s",
            got=f"{time:g} s",
            do="take longer darks, or allow scaling up",
        )


def longest_time(product: Product) -> float | None:
    """The longest dark time that went into a dark, seconds; None if it does not say."""
    for quantity in product.quantities:
        if quantity.name == "time_max":
            return quantity.value
    return None


def _with_bias(
    exposure: Exposure,
    product: Product,
    time: float,
    read_noise: float | NDArray[Any] | None,
    gain: float | None,
) -> PixelStep:
    own = float(product.keys["exptime"])
    if abs(time - own) > TIME_TOLERANCE * max(own, 1.0):
        raise SelectionError(
            "a dark that still holds its bias is never scaled to another exposure time",
            where=name_of(exposure),
            expected=f"{own:g} s",
            got=f"{time:g} s",
            do="take darks of this exposure time, or biases, or darks of two or more times",
        )
    level = product.quantity("level").value
    # A typical pixel of the dark shows read noise and its own dark electrons together.
    seen = [q.value for q in product.quantities if q.name == "noise" and np.isfinite(q.value)]
    if read_noise is not None and seen:
        read_noise = np.maximum(read_noise, seen[0])
    return PixelStep(
        effect="dark",
        product=product.identity,
        offset=product.data,
        offset_variance=error_plane(product),
        dq=product.planes.get("dq"),
        options={"time": time, "includes_bias": True},
        **_noise(read_noise, gain, product.data - np.float32(level)),
    )


def _fitted(
    product: Product, time: float, read_noise: float | NDArray[Any] | None, gain: float | None
) -> PixelStep:
    """Bias and rate of one fit: their errors are anticorrelated, so they are applied together."""
    planes, t = product.planes, np.float32(time)
    own, bias = error_plane(product), error_plane(product, "bias")
    variance = None
    if own is not None and bias is not None:
        variance = np.maximum(bias + 2 * t * planes["covariance"] + t * t * own, 0).astype(np.float32)
    return PixelStep(
        effect="dark",
        product=product.identity,
        offset=planes["bias"] + t * product.data,
        offset_variance=variance,
        dq=planes.get("dq"),
        options={"time": time, "includes_bias": True},
        **_noise(read_noise, gain, t * product.data),
    )


def _noise(
    read_noise: float | NDArray[Any] | None, gain: float | None, dark: NDArray[Any]
) -> Mapping[str, Any]:
    """Read noise and the photon noise of the dark as one plane [adu], so that one step adds both."""
    if read_noise is None or gain is None:
        return {}
    plane = np.sqrt(np.square(read_noise) + np.maximum(dark, 0) / gain).astype(np.float32)
    return {"read_noise": plane, "gain": gain}


def _rate_error(product: Product, time: float, after: Collection[Product | str]) -> NDArray[Any] | None:
    """Variance of the rate, less what it shares with the bias that was subtracted before.

    The rate is D = (d - c t_d b) / t_d summed over its frames, with c = sum of frames / sum of times. A frame
    less b and t D holds the bias error (1 - c t) b: of variance (1 - c t)^2 V(b), where the bias step has
    already added V(b). What is added here is the difference, which may be negative.
    """
    own, common = error_plane(product), product.planes.get("systematic")
    if own is None or common is None or time <= 0:
        return own if common is None else total_error(product)
    known = {item if isinstance(item, str) else item.identity for item in after}
    if not known & set(product.provenance.parents):
        return total_error(product)
    c = product.quantity("frames_per_second").value
    return (own + common * np.float32(1.0 - 2.0 / (c * time))).astype(np.float32)


def light_steps(exposure: Exposure, bias: Product | None, dark: Product | None) -> tuple[PixelStep, ...]:
    """The steps that take bias and dark from frames of light; those of them that are given."""
    steps = [] if bias is None else [bias_step(exposure, bias)]
    if dark is not None:
        steps.append(dark_step(exposure, dark, after=() if bias is None else (bias,)))
    return tuple(steps)


def flat_step(product: Product) -> PixelStep:
    """``data /= flat``; its error goes to `systematic`."""
    check_kind(product, "flat", "")
    return PixelStep(
        effect="flat",
        product=product.identity,
        divisor=product.data,
        divisor_variance=total_error(product),
        dq=product.planes.get("dq"),
    )
