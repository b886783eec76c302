"""Calibrate: the steps of one science frame, in the order of the recipe, in one pass over its pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import (
    bias,
    cosmic_rays,
    crosstalk,
    dark,
    defects,
    flat,
    gain,
    linearity,
    overscan,
    pedestal,
    read_noise,
)
from calibrant.errors import ConfigError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, Exposure, Frame
from calibrant.instrument import Instrument
from calibrant.pipeline.corrections import (
    FrameStep,
    Step,
    of_counts,
    of_electrons,
    of_flat_light,
    run_steps,
)
from calibrant.pipeline.recipe import Recipe
from calibrant.product import Product
from calibrant.stack.pixel import MapRunner, PixelStep

TITLES = {
    "amplifier_offsets": "less offsets of amplifiers",
    "bias": "less bias",
    "charge_transfer": "deferred charge put back",
    "crosstalk": "less crosstalk",
    "dark": "less dark",
    "flat": "divided by flat",
    "illumination": "divided by illumination",
    "linearity": "made linear",
    "overscan": "less overscan",
    "pedestal": "at one level",
}
LACKS = {"bias": DQ.UNRELIABLE_BIAS, "dark": DQ.UNRELIABLE_DARK, "flat": DQ.NO_FLAT_FIELD}


def pixel_steps(
    exposure: Exposure, products: Mapping[str, Product], instrument: Instrument, recipe: Recipe
) -> Iterator[PixelStep]:
    """Those of `steps` that work on each pixel on its own."""
    return (one for one in steps(exposure, products, instrument, recipe) if isinstance(one, PixelStep))


def steps(
    exposure: Exposure, products: Mapping[str, Product], instrument: Instrument, recipe: Recipe
) -> Iterator[Step]:
    """The steps of a frame whose overscan and crosstalk are gone, in order.

    Parameters
    ----------
    exposure : Exposure
        Of the frame; `Exposure.applied` says what was done before.
    products : mapping of Product
        ``pedestal``, ``gain``, ``bias``, ``linearity``, ``read_noise``, ``dark``, ``flat``, ``defects``, and
        those of `calibrant.pipeline.corrections`, as far as they are known.
    """
    saturation = instrument.nominal(exposure).saturation
    # Raw counts: where an overscan was subtracted, that step has flagged them before.
    if saturation is not None and not _has_overscan(exposure, instrument, recipe):
        yield PixelStep("saturation", saturation=saturation, options={"limit": saturation})
    if "pedestal" in products:
        yield pedestal.step(exposure, products["pedestal"])
    if "bias" in products:
        yield bias.step(exposure, products["bias"])
    # A dark that holds its bias must be subtracted in one step with the noise of its electrons.
    whole = "dark" in products and bool(products["dark"].keys.get("includes_bias"))
    if "linearity" in products and recipe.enabled("linearity"):
        yield _linear(exposure, products["linearity"], whole)
    yield from of_counts(exposure, products, recipe, _has_overscan(exposure, instrument, recipe))
    noise, known = products.get("read_noise"), products.get("gain")
    if noise is not None and not whole:
        yield from read_noise.steps(exposure, noise, gain=known)
    if "dark" in products:
        after = [products["bias"]] if "bias" in products else []
        factor = None if known is None else gain.mean_gain(known)
        own = _value(noise) if whole and noise is not None else None
        yield dark.step(exposure, products["dark"], after=after, read_noise=own, gain=factor)
    if "flat" in products and recipe.enabled("flat"):
        yield flat.step(exposure, products["flat"])
    yield from of_flat_light(exposure, products, recipe)
    yield from _lacks(exposure, products, instrument, recipe)
    if "defects" in products:
        yield defects.step(exposure, products["defects"])
    if known is not None and recipe.enabled("gain"):
        flat_ = products.get("flat") if recipe.enabled("flat") else None
        # A flat in adu holds the ratios of the gains: with each amplifier's own, they would come back.
        yield gain.step(exposure, known, even="flat" in exposure.applied if flat_ is None else flat_)
    yield from of_electrons(exposure, products, recipe)
    if recipe.enabled("cosmic_rays"):
        options = recipe.options("cosmic_rays")
        yield FrameStep("cosmic_rays", lambda frame, _: cosmic_rays.apply(frame, **options))


def _linear(exposure: Exposure, product: Product, whole: bool) -> PixelStep:
    """The correction; only flags if the zero level leaves with the dark, when it is too late."""
    if not whole and "dark" not in exposure.applied:
        return linearity.step(exposure, product)
    note = "the zero level leaves with the dark: the signal itself was never there to be corrected"
    return PixelStep("no_linearity", dq=np.full((1, 1), DQ.NO_LIN_CORR, np.uint32), note=note)


def _lacks(
    exposure: Exposure, products: Mapping[str, Product], instrument: Instrument, recipe: Recipe
) -> Iterator[PixelStep]:
    """Flags of the steps that a frame goes without, in every pixel: it must not look like a complete one."""
    for kind, flag in LACKS.items():
        if not recipe.enabled(kind) or kind in products or kind in exposure.applied:
            continue
        if kind == "bias" and _zero_is_known(exposure, products, instrument, recipe):
            continue
        plane = np.full((1, 1), flag, np.uint32)
        yield PixelStep(f"no_{kind}", dq=plane, note=f"there was no {kind} for this frame")


def _zero_is_known(
    exposure: Exposure, products: Mapping[str, Product], instrument: Instrument, recipe: Recipe
) -> bool:
    """Whether something else than a bias takes the zero level away: a dark that holds it, or the overscan."""
    whole = "dark" in products and bool(products["dark"].keys.get("includes_bias"))
    return whole or "dark" in exposure.applied or _has_overscan(exposure, instrument, recipe)


def _value(noise: Product) -> NDArray[Any] | float:
    """Read noise as a plane where it is known, else one number, adu."""
    plane = noise.planes.get("read_noise")
    return float(np.median([q.value for q in noise])) if plane is None else plane


def known_noise(
    one: Exposures, products: Mapping[str, Product], noise_of_darks: float | None
) -> dict[str, Product]:
    """Gain and read noise of an exposure, as far as they are known.

    The gain is a measured one, if there is one among the products, else the nominal one. The read noise is
    that of the bias, else the nominal one, else that of darks, adu.
    """
    found: dict[str, Product] = {}
    with contextlib.suppress(ConfigError):
        found["gain"] = products["gain"] if "gain" in products else gain.nominal(one)
    given = {**found, **{kind: products[kind] for kind in ("bias",) if kind in products}}
    try:
        found["read_noise"] = read_noise.measure(one, products=given)
    except ConfigError:
        if noise_of_darks is not None:
            found["read_noise"] = read_noise.measure(one, read_noise=noise_of_darks)
    return found


def calibrate(
    frame: Frame,
    products: Mapping[str, Product],
    instrument: Instrument,
    recipe: Recipe,
    *,
    runner: MapRunner | None = None,
) -> Frame:
    """A raw frame, calibrated.

    Parameters
    ----------
    frame : Frame
        Raw, adu; its pixels may still be in the file.
    products : mapping of Product
        As of `steps`, and ``crosstalk``.
    runner : Runner, optional
        Maps bands of rows over threads.

    Returns
    -------
    Frame
        float32 with variance, systematic and dq; in electrons where the gain is known, else adu.
    """
    frame = without_overscan(frame, instrument, recipe, lazy=True, runner=runner)
    frame = without_crosstalk(frame, products, recipe)
    return run_steps(frame, list(steps(frame.exposure, products, instrument, recipe)), runner)


def without_overscan(
    frame: Frame,
    instrument: Instrument,
    recipe: Recipe,
    *,
    lazy: bool = False,
    runner: MapRunner | None = None,
) -> Frame:
    """The frame trimmed and less its overscan, if it has one; `lazy`, `runner` as of `overscan.apply`."""
    if not _has_overscan(frame.exposure, instrument, recipe):
        return frame
    options = recipe.options("overscan")
    return overscan.apply(frame, instrument=instrument, lazy=lazy, runner=runner, **options)


def without_crosstalk(frame: Frame, products: Mapping[str, Product], recipe: Recipe) -> Frame:
    """The frame less the crosstalk of its amplifiers, if it is known; its pixels as lazy as they were."""
    if "crosstalk" not in products or not recipe.enabled("crosstalk"):
        return frame
    return crosstalk.apply(frame, products["crosstalk"])


def _has_overscan(exposure: Exposure, instrument: Instrument, recipe: Recipe) -> bool:
    return recipe.enabled("overscan") and overscan.has_overscan(exposure, instrument)


def stages(
    frame: Frame, products: Mapping[str, Product], instrument: Instrument, recipe: Recipe
) -> Iterator[tuple[str, Frame]]:
    """The frame after each step that changes the look of its counts: raw, less overscan, less bias, less
    dark, divided by flat.

    For pictures: each stage is made from the start, so that it is what the recipe makes of it.
    """
    yield "raw", frame.load()
    trimmed = without_overscan(frame, instrument, recipe).load()
    if trimmed.history:
        yield TITLES["overscan"], trimmed
    clean = without_crosstalk(trimmed, products, recipe)
    if clean is not trimmed:
        yield TITLES["crosstalk"], clean
    found = list(steps(frame.exposure, products, instrument, recipe))
    for count, step in enumerate(found, 1):
        if step.effect in TITLES:
            yield TITLES[step.effect], run_steps(clean, found[:count])
