"""Options: whether the effects know what a recipe tells them, seen before anything is made."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_type_hints

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from calibrant.effects import (
    bias,
    brighter_fatter,
    charge_transfer,
    cosmic_rays,
    dark,
    defects,
    flat,
    fringe_frame,
    overscan,
    pedestal,
)
from calibrant.effects._fringe_fit import Boxes
from calibrant.effects._sky_sources import Search
from calibrant.errors import ConfigError
from calibrant.pipeline.recipe import Recipe

GIVEN = {
    "exposures",
    "frame",
    "product",
    "products",
    "progress",
    "runner",
    "budget",
    "instrument",
    "response",
}
"""Parameters that the pipeline gives, and no recipe."""

MEASURE: Mapping[str, tuple[Callable[..., Any], ...]] = {
    "bias": (bias.measure,),
    "dark": (dark.measure,),
    "flat": (flat.measure, flat._Options),
    "defects": (defects.measure, defects.Limits),
}
"""Kind of master -> what takes its options: their names, types and defaults stand in the signatures."""

APPLY: Mapping[str, tuple[Callable[..., Any], ...]] = {
    "overscan": (overscan.apply, overscan.LevelModel),
    "pedestal": (pedestal.measure,),
    "charge_transfer": (charge_transfer.apply,),
    "brighter_fatter": (brighter_fatter.apply,),
    "fringe_frame": (fringe_frame.apply, Search, Boxes),
    "cosmic_rays": (cosmic_rays.apply, cosmic_rays.find),
}
"""The same of the steps of a frame."""

SHORT = {
    "method": Literal["median", "mean", "constant", "polynomial", "spline", "cubic"],
    "skip": int | tuple[int, int],
}
"""What a table of an overscan may say besides: see `calibrant.effects.overscan.model_of`."""


def check_options(recipe: Recipe) -> None:
    """See that every option of a recipe is one of its effect, and of the right type.

    Raises
    ------
    ConfigError
        Naming the option, with the nearest spelling, or what is allowed.
    """
    for kind in recipe.measure:
        _check(f"measure.{kind}", taken_by(MEASURE.get(kind, ())), recipe.measure_options(kind))
    for step in recipe.steps_options:
        known = taken_by(APPLY.get(step, ()))
        if step == "overscan":
            known |= SHORT
        _check(f"steps_options.{step}", known, recipe.options(step))


def check_taken(where: str, takers: tuple[Callable[..., Any], ...], options: Mapping[str, Any]) -> None:
    """See that options are parameters of one of `takers`, and of the right type.

    Raises
    ------
    ConfigError
        As of `check_options`; `where` is said.
    """
    _check(where, taken_by(takers), options)


def taken_by(takers: tuple[Callable[..., Any], ...]) -> dict[str, Any]:
    """Name -> type of the options of an effect; Any where the type cannot be told."""
    found: dict[str, Any] = {}
    for taker in takers:
        hints: Mapping[str, Any] = {}
        with contextlib.suppress(NameError):  # of modules that are imported for the type checker only
            hints = get_type_hints(taker.__init__ if isinstance(taker, type) else taker)  # type: ignore[misc]
        for name, parameter in inspect.signature(taker).parameters.items():
            if name not in GIVEN and parameter.kind is not parameter.VAR_KEYWORD:
                found[name] = hints.get(name, Any)
    return found


def _check(where: str, known: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in known:
            raise ConfigError(f"unknown option {name!r}", where=where, do=_nearest(name, known))
        if name == "parallel" and isinstance(value, Mapping):  # a table like that around it
            _check(f"{where}.{name}", {key: known[key] for key in known if key != name}, value)
        else:
            _check_type(f"{where}.{name}", known[name], value)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    listed = f"known are: {', '.join(known)}" if known else "it takes none"
    return f"did you mean {close[0]!r}?" if close else listed


def _check_type(where: str, hint: Any, value: Any) -> None:
    """A value as a recipe can write it: lists for tuples, whole numbers for others, but no text for them."""
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticSchemaGenerationError:
        return
    try:
        adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        # Classes that no recipe can write are not for it to name; what is left to the effect is not judged.
        said = [one["msg"].removeprefix("Input should be ") for one in error.errors()]
        allowed = [words for words in dict.fromkeys(said) if "isinstance" not in words]
        if not allowed:
            return
        raise ConfigError(
            f"{where} has a value that means nothing", expected=" or ".join(allowed), got=repr(value)
        ) from None
