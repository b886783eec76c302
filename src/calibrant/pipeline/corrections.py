"""Corrections that a night does not measure itself: certified ones, each left out where it cannot be done.

A frame that goes without one is no fault: its history has a line ``no_NAME`` that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import (
    amplifier_offsets,
    brighter_fatter,
    charge_transfer,
    fringe_frame,
    gain,
    illumination,
)
from calibrant.errors import SelectionError
from calibrant.frame import Applied, Exposure, Frame
from calibrant.pipeline.recipe import Recipe
from calibrant.product import Product
from calibrant.stack.pixel import MapRunner, PixelStep, apply_steps

OF_COUNTS = ("amplifier_offsets", "charge_transfer")
OF_LIGHT = ("illumination", "brighter_fatter", "fringe_frame")


@dataclass(frozen=True, eq=False)
class FrameStep:
    """An effect that needs the whole frame: it ends a pass over bands of rows."""

    effect: str
    apply: Callable[[Frame, MapRunner | None], Frame]


Step = PixelStep | FrameStep


def run_steps(frame: Frame, steps: Sequence[Step], runner: MapRunner | None = None) -> Frame:
    """Do steps in their order, neighbouring pixel steps in one pass; an empty list only decodes."""
    waiting: list[PixelStep] = []
    for step in steps:
        if isinstance(step, PixelStep):
            waiting.append(step)
            continue
        if waiting:
            frame, waiting = apply_steps(frame, waiting, runner=runner), []
        frame = step.apply(frame, runner)
    return apply_steps(frame, waiting, runner=runner) if waiting or not steps else frame


def left_out(frame: Frame) -> list[str]:
    """What the history says of corrections that there were, and that could not be done to this frame."""
    lines = {f"no_{kind}" for kind in (*OF_COUNTS, *OF_LIGHT)}
    return [step.note for step in frame.history if step.effect in lines]


def of_counts(
    exposure: Exposure, products: Mapping[str, Product], recipe: Recipe, levelled: bool
) -> Iterator[Step]:
    """Offsets of amplifiers and deferred charge, of linear counts in which the dark still is.

    Parameters
    ----------
    exposure : Exposure
    products : mapping of Product
    recipe : Recipe
    levelled : bool
        Whether the level of the overscan was taken off.
    """
    if "amplifier_offsets" in products and recipe.enabled("amplifier_offsets"):
        yield _offsets(exposure, products["amplifier_offsets"], products.get("dark"))
    if "charge_transfer" not in products or not recipe.enabled("charge_transfer"):
        return
    product, options = products["charge_transfer"], recipe.options("charge_transfer")
    if exposure.applied & set(charge_transfer.FORBIDS):
        yield _without("charge_transfer", "later steps were done before the frame reached us")
    elif not (levelled or "overscan" in exposure.applied):
        yield _without("charge_transfer", "the overscan was not subtracted")
    else:
        yield FrameStep("charge_transfer", lambda frame, _: charge_transfer.apply(frame, product, **options))


def holds_offsets(product: Product) -> bool:
    """Whether there are offsets to be subtracted: from flats alone only ratios of gains are measured."""
    return any(quantity.name == "offset" for quantity in product)


def _offsets(exposure: Exposure, product: Product, dark: Product | None) -> PixelStep:
    """The offsets, unless they leave with the dark: then they must not be subtracted twice."""
    if not holds_offsets(product):
        return _without("amplifier_offsets", "the product holds ratios of gains, and no offsets")
    own = dark is None or product.identity in dark.provenance.parents
    if "dark" in exposure.applied or not own:
        return _without("amplifier_offsets", "they are in the dark, and leave with it")
    return amplifier_offsets.step(exposure, product)


def of_flat_light(exposure: Exposure, products: Mapping[str, Product], recipe: Recipe) -> Iterator[Step]:
    """The illumination, after the flat."""
    if "illumination" not in products or not recipe.enabled("illumination"):
        return
    if not _flattened(exposure, products, recipe):
        yield _without("illumination", "no flat was divided out")
    else:
        yield illumination.step(exposure, products["illumination"])


def of_electrons(exposure: Exposure, products: Mapping[str, Product], recipe: Recipe) -> Iterator[Step]:
    """Brighter-fatter, then fringes: those are light, and take part in moving the borders of pixels."""
    if "brighter_fatter" in products and recipe.enabled("brighter_fatter"):
        if "gain" in products and recipe.enabled("gain"):
            yield _brighter_fatter(products, recipe)
        else:
            yield _without("brighter_fatter", "the frame is not in electrons")
    if "fringe_frame" in products and recipe.enabled("fringe_frame"):
        if _flattened(exposure, products, recipe):
            yield _fringes(products["fringe_frame"], recipe)
        else:
            yield _without("fringe_frame", "no flat was divided out")


def _flattened(exposure: Exposure, products: Mapping[str, Product], recipe: Recipe) -> bool:
    return "flat" in exposure.applied or ("flat" in products and recipe.enabled("flat"))


def _brighter_fatter(products: Mapping[str, Product], recipe: Recipe) -> FrameStep:
    product, options = products["brighter_fatter"], recipe.options("brighter_fatter")

    def apply(frame: Frame, runner: MapRunner | None) -> Frame:
        response = response_of(products, recipe)
        return brighter_fatter.apply(frame, product, response=response, runner=runner, **options)

    return FrameStep("brighter_fatter", apply)


def response_of(products: Mapping[str, Product], recipe: Recipe) -> NDArray[np.float32] | None:
    """What electrons were divided by: data times it are the charge of the pixels.

    A flat in adu holds the ratios of the gains, which come back with those: ``flat * illumination * gain /
    even_gain``. NaN where the flat is not above zero.

    Returns
    -------
    (rows, cols) float32 or None
        None if no flat was divided out here.
    """
    if "flat" not in products or not recipe.enabled("flat"):
        return None
    flat, known = products["flat"], products["gain"]
    response = np.array(flat.data, np.float32)
    gains = gain.plane_of(known)
    if gains is not None:
        response *= gains / np.float32(gain.even_gain(known, flat))
    if "illumination" in products and recipe.enabled("illumination"):
        response *= products["illumination"].data
    response[~(response > 0)] = np.nan
    return response


def _fringes(product: Product, recipe: Recipe) -> FrameStep:
    options = recipe.options("fringe_frame")

    def apply(frame: Frame, runner: MapRunner | None) -> Frame:
        del runner
        try:
            return fringe_frame.apply(frame, product, **options)
        except SelectionError as error:  # a crowded field hides the fringes: the frame is good without
            return frame.after(Applied("no_fringe_frame", note=_words("fringe_frame", error.what)))

    return FrameStep("fringe_frame", apply)


def _without(kind: str, why: str) -> PixelStep:
    """A line in the history for a correction that is left out."""
    return PixelStep(f"no_{kind}", note=_words(kind, why))


def _words(kind: str, why: str) -> str:
    return f"without its {kind.replace('_', ' ')} correction: {why}"
