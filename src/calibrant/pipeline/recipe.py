"""Recipe: which effects, in which order, with which options. Data from TOML, never code."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from calibrant.errors import ConfigError
from calibrant.pipeline import limits

Step = Literal[
    "overscan", "crosstalk", "pedestal", "bias", "linearity", "amplifier_offsets", "charge_transfer",
    "read_noise", "dark", "flat", "illumination", "defects", "gain", "brighter_fatter", "fringe_frame",
    "cosmic_rays",
]  # fmt: skip
ORDER: tuple[str, ...] = get_args(Step)
CALIBRATIONS = ("bias", "dark", "flat")
"""Kinds of raw frames that masters are made of."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recipe(_Model):
    """The order of the work and its options.

    Attributes
    ----------
    steps : tuple of str
        Effects applied to a science frame, in order.
    gap : mapping
        Kind of calibration -> days, at least 1: where none was taken for longer, what came before and after
        are different epochs, each with a master of its own. Kinds that are not named are never cut by time.
    minimum : mapping
        Kind -> number of frames below which the reader is warned.
    required : mapping
        Kind -> whether a science frame without such a master is an error.
    measure : mapping
        Kind of master -> options of its `measure`.
    steps_options : mapping
        Step -> options of its `apply`; ``enabled = false`` switches it off.
    verify : mapping
        Kind of product -> name of a value -> lowest and highest that pass, inclusive: those of
        ``limits.toml``, and the recipe's own before them; see `calibrant.pipeline.limits`. Not part of a
        dump: it changes no pixel, and must not make a frame stale.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str
    title: str = ""
    steps: tuple[Step, ...]
    gap: Mapping[str, Annotated[float, Field(ge=1)]] = Field(default_factory=dict)
    minimum: Mapping[str, int] = Field(default_factory=dict)
    required: Mapping[str, bool] = Field(default_factory=dict)
    measure: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    steps_options: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    verify: Mapping[str, Mapping[str, tuple[float, float]]] = Field(default_factory=dict, exclude=True)

    @field_validator("verify", mode="before")
    @classmethod
    def _dotted(cls, tables: Any) -> Any:
        """Names with a dot are one name, with or without quotes in the file."""
        if not isinstance(tables, Mapping):
            return tables
        return {
            kind: limits.flattened(table) if isinstance(table, Mapping) else table
            for kind, table in tables.items()
        }

    @field_validator("steps_options")
    @classmethod
    def _switches(cls, options: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """``enabled`` is true or false: any other word would count as true."""
        for step, values in options.items():
            if not isinstance(values.get("enabled", True), bool):
                raise ValueError(f"{step}.enabled is true or false, not {values['enabled']!r}")
        return options

    def enabled(self, step: str) -> bool:
        """Whether `step` is in the recipe and not switched off."""
        return step in self.steps and bool(self.steps_options.get(step, {}).get("enabled", True))

    def options(self, step: str) -> dict[str, Any]:
        """Options of `apply` of `step`."""
        return {name: value for name, value in self.steps_options.get(step, {}).items() if name != "enabled"}

    def limits_of(self, kind: str) -> limits.Limits:
        """What bounds the values of a product of `kind`; empty if the recipe has no such table."""
        return self.verify.get(kind, {})

    def measure_options(self, kind: str) -> dict[str, Any]:
        """Options of `measure` for masters of `kind`."""
        return dict(self.measure.get(kind, {}))


def names() -> list[str]:
    """Names of the recipes that come with Calibrant."""
    folder = resources.files("calibrant.pipeline") / "recipes"
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def load(name_or_path: str | Path, changes: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe by its name or from a TOML file.

    Parameters
    ----------
    name_or_path : str or path
        ``ccd``, or the path of a file.
    changes : mapping, optional
        Dotted names and new values as text, e.g. ``{"steps_options.gain.enabled": "false"}``.

    Raises
    ------
    ConfigError
        If there is no such recipe, or a key or value in it is wrong.
    """
    text, where = _text(name_or_path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}", where=where, do="correct the line") from None
    values["verify"] = _with_defaults(values.get("verify", {}))
    for dotted, value in (changes or {}).items():
        _set(values, dotted, value)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise _explained(error, where) from None
    _check_order(recipe, where)
    limits.check(recipe.verify, where)
    return recipe


def _text(name_or_path: str | Path) -> tuple[str, str]:
    path = Path(name_or_path)
    if path.suffix == ".toml":
        try:
            return path.read_text(), str(path)
        except OSError as error:
            raise ConfigError(f"the recipe cannot be read ({error.strerror})", where=str(path)) from None
    if str(name_or_path) not in names():
        close = difflib.get_close_matches(str(name_or_path), names(), 1)
        hint = (
            f"did you mean {close[0]!r}?"
            if close
            else f"choose one of: {', '.join(names())}, or a .toml file"
        )
        raise ConfigError(f"there is no recipe {str(name_or_path)!r}", do=hint)
    return (
        resources.files("calibrant.pipeline") / "recipes" / f"{name_or_path}.toml"
    ).read_text(), f"{name_or_path}.toml"


def _with_defaults(own: Any) -> Any:
    """Tables of limits: the default ones, where the recipe does not say otherwise."""
    if not isinstance(own, Mapping):
        return own
    tables = dict(limits.defaults())
    for kind, table in own.items():
        tables[kind] = (
            {**tables.get(kind, {}), **limits.flattened(table)} if isinstance(table, Mapping) else table
        )
    return tables


def _set(values: dict[str, Any], dotted: str, text: str) -> None:
    *path, last = dotted.split(".")
    for name in path:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{dotted!r} does not lead to an option", where="--set")
    try:
        values[last] = json.loads(text)
    except json.JSONDecodeError:
        values[last] = text


def _explained(error: ValidationError, where: str) -> ConfigError:
    """The first mistake, as a sentence with the nearest spelling."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in Recipe.model_fields.items()]
        close = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known)}"
        return ConfigError(f"unknown key {place!r}", where=where, do=hint)
    if first["type"] == "literal_error":
        close = difflib.get_close_matches(str(first["input"]), ORDER, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(ORDER)}"
        return ConfigError(f"{place} has the unknown value {first['input']!r}", where=where, do=hint)
    if place.startswith("verify."):
        sentence = f"{place}: a table of limits has two numbers for each name"
        got = repr(first.get("input"))
        return ConfigError(sentence, where=where, expected="[low, high], inf where there is none", got=got)
    return ConfigError(f"{place}: {first['msg'].lower()}", where=where, got=repr(first.get("input")))


def _check_order(recipe: Recipe, where: str) -> None:
    """The order of the steps is fixed by physics; a recipe may leave some out."""
    places = [ORDER.index(step) for step in recipe.steps]
    if places != sorted(set(places)):
        raise ConfigError(
            "the steps are out of order",
            where=where,
            expected=", ".join(step for step in ORDER if step in recipe.steps),
            got=", ".join(recipe.steps),
        )
    _check_kinds(recipe, where)


def _check_kinds(recipe: Recipe, where: str) -> None:
    """Each table is about steps that there are."""
    for table in ("steps_options", "measure", "gap", "minimum", "required"):
        known = CALIBRATIONS if table == "gap" else ORDER
        for kind in getattr(recipe, table):
            if kind not in known:
                close = difflib.get_close_matches(kind, known, 1)
                raise ConfigError(
                    f"unknown step {table}.{kind}",
                    where=where,
                    do=f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known)}",
                )
