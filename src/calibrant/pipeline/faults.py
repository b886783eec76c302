"""Faults of headers that would end the work later: told, and the file left out, before a pixel is read."""

from __future__ import annotations

from collections.abc import Callable

from calibrant.exposures import Exposures
from calibrant.frame import Exposure
from calibrant.instrument import Instrument
from calibrant.pipeline.recipe import Recipe


def without_faults(exposures: Exposures, recipe: Recipe) -> tuple[Exposures, list[tuple[str, str]]]:
    """Exposures that can be used, and the others: file and sentence.

    Parameters
    ----------
    exposures : Exposures
        All that was found.
    recipe : Recipe
        Steps that are switched off need no facts.
    """
    found = [(exposure, fault(exposure, exposures.instrument, recipe)) for exposure in exposures]
    told = [(one.path or "a frame", f"{one.path or 'a frame'}: {word}") for one, word in found if word]
    if not told:
        return exposures, []
    return exposures.take([index for index, (_, word) in enumerate(found) if not word]), told


def fault(exposure: Exposure, instrument: Instrument, recipe: Recipe) -> str:
    """What is wrong with the header of a frame; empty if nothing is."""
    return next((sentence for rule in RULES if (sentence := rule(exposure, instrument, recipe))), "")


def _no_time(exposure: Exposure, instrument: Instrument, recipe: Recipe) -> str:
    """Dark current is a rate: a dark, or what a dark is subtracted from, has a time."""
    lit = exposure.kind == "flat" or exposure.kind in instrument.science
    if exposure.kind != "dark" and not (lit and "dark" not in exposure.applied):
        return ""
    if not recipe.enabled("dark"):
        return ""
    time = exposure.get("darktime")
    time = exposure.get("exptime") if time is None else time
    if time is None:
        return (
            "neither a dark time nor an exposure time is known; "
            "add EXPTIME to the header, or a rule for it to the instrument file"
        )
    if not 0 <= time < float("inf") or (exposure.kind == "dark" and time == 0):
        return f"the exposure time of a {exposure.kind} cannot be {time:g} s; correct EXPTIME in the header"
    return ""


RULES: tuple[Callable[[Exposure, Instrument, Recipe], str], ...] = (_no_time,)
