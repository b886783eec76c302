"""Reading instrument files, and explaining what is wrong in one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from calibrant.errors import ConfigError
from calibrant.instrument.model import Instrument
from calibrant.instrument.remarks import Place, remarks
from calibrant.instrument.vocabulary import nearest

GENERIC = "generic-ccd"
# Tables whose entries add to those of the file that is extended; everything else replaces.
MERGED = (
    "header",
    "keys",
    "time",
    "binning",
    "match",
    "tolerance",
    "relative_tolerance",
    "minimum",
    "levels",
    "readout",
)


@dataclass(frozen=True)
class Finding:
    """One mistake in an instrument file.

    Attributes
    ----------
    place : str
        Dotted place in the file, such as ``detectors.main.shape``.
    what : str
        What is wrong there.
    do : str
        What mends it.
    line : int or None
        Line in the file, from 1.
    level : str
        ``error``: the file cannot be used; ``warning``: it can.
    """

    place: str
    what: str
    do: str = ""
    line: int | None = None
    level: str = "error"

    def __str__(self) -> str:
        where = f"line {self.line}, {self.place}" if self.line else self.place
        return f"{self.level}: {where}: {self.what}" + (f"; {self.do}" if self.do else "") + "."


def names() -> list[str]:
    """Names of the instruments that come with the package."""
    folder = files("calibrant") / "instruments"
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(name_or_path: str | Path) -> Instrument:
    """The instrument of a name, or of a TOML file.

    Raises
    ------
    ConfigError
        If there is none of that name, or the file has a mistake; `check` lists all of them.
    """
    text, place, stamp = _text(name_or_path)
    return _load(text, place, stamp)


@lru_cache(maxsize=32)
def _load(text: str, place: str, stamp: str) -> Instrument:
    instrument, findings = _validate(text, place)
    errors = [finding for finding in findings if finding.level == "error"]
    if instrument is None or errors:
        first, more = errors[0], len(errors) - 1
        line = f" (line {first.line})" if first.line else ""
        others = f"and {more} more: see `instrument check`" if more else ""
        raise ConfigError(
            f"{first.place}{line}: {first.what}",
            where=place,
            do="; ".join(filter(None, (first.do, others))),
        )
    return instrument


def recognise(header: Mapping[str, Any], path: str = "") -> str:
    """Name of the instrument whose file recognises a header or its file's name; ``generic-ccd`` if none."""
    return next((name for name in names() if load(name).recognises(header, path)), GENERIC)


def source_text(name_or_path: str | Path) -> str:
    """The TOML text of an instrument, to copy and change for one's own.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    return _text(name_or_path)[0]


def check(path: str | Path) -> list[Finding]:
    """Everything that is wrong, or odd, in an instrument file; an empty list if nothing is.

    Raises
    ------
    ConfigError
        If the file is missing or cannot be read.
    """
    text, place, _ = _text(path)
    return _validate(text, place)[1]


def locate(name_or_path: str | Path, place: Place, what: str, do: str = "") -> Finding:
    """A mistake at a place of an instrument file, with its line there."""
    text = _text(name_or_path)[0]
    place = _written(place, tomllib.loads(text))
    return Finding(_dotted(place), what, do, _line(text, place))


def _text(name_or_path: str | Path) -> tuple[str, str, str]:
    """Text of the file, its place for messages, and a stamp of its time."""
    path = Path(name_or_path)
    if path.suffix == ".toml" or len(path.parts) > 1:
        try:
            return path.read_text(encoding="utf-8"), str(path), str(path.stat().st_mtime_ns)
        except FileNotFoundError:
            raise ConfigError("no such instrument file", where=str(path)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("the instrument file cannot be read", where=str(path), got=error) from None
    name = str(name_or_path)
    if name not in names():
        raise ConfigError(
            f"no instrument is called {name!r}{nearest(name, names())}",
            expected=", ".join(names()),
            do="give one of these, or the path of a .toml file",
        )
    return (files("calibrant") / "instruments" / f"{name}.toml").read_text(encoding="utf-8"), name, ""


def _validate(text: str, place: str) -> tuple[Instrument | None, list[Finding]]:
    try:
        own = tomllib.loads(text)
        data = _extended(own, place)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        number = int(line[1]) if line else text.count("\n") + 1
        return None, [Finding("file", f"not TOML: {error}", "mend its syntax", number)]
    except ConfigError as error:
        return None, [Finding("extends", error.what, error.do or "", _line(text, ("extends",)))]
    try:
        instrument = Instrument.model_validate(data)
    except ValidationError as error:
        shift = _prepended(own, data)
        return None, [_of_pydantic(entry, text, shift) for entry in error.errors()]
    found = []
    for where, what, do, level in remarks(instrument):
        written = _written(where, data)
        found.append(Finding(_dotted(written), what, do, _line(text, written), level))
    return instrument, found


def _written(place: Place, data: Mapping[str, Any]) -> Place:
    """The place as the file has it: detectors that are alike stand in one table."""
    if place[:1] != ("detectors",) or len(place) < 2 or place[1] in data.get("detectors", {}):
        return place
    tables = data.get("detectors", {}).items()
    return next(((place[0], t, *place[2:]) for t, one in tables if place[1] in one.get("names", ())), place)


def _extended(own: dict[str, Any], place: str) -> dict[str, Any]:
    """The file merged with the one it extends: rules of its own come first, its facts replace."""
    base_name = own.get("extends")
    if base_name is None:
        return own
    if base_name == own.get("name"):
        raise ConfigError("the file extends itself", where=place)
    text, base_place, _ = _text(base_name)
    base = _extended(tomllib.loads(text), base_place)
    # What recognises the base does not recognise those that extend it.
    merged = {**base, "recognise": {}, **own}
    for table in MERGED:
        if isinstance(own.get(table), dict):
            merged[table] = {**base.get(table, {}), **own[table]}
    if isinstance(own.get("kinds"), dict):
        kinds = {**base.get("kinds", {}), **own["kinds"]}
        kinds["rule"] = [*_list(own["kinds"].get("rule")), *_list(base.get("kinds", {}).get("rule"))]
        merged["kinds"] = kinds
    if "applied" in own:
        merged["applied"] = [*_list(own["applied"]), *_list(base.get("applied"))]
    return merged


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _prepended(own: dict[str, Any], data: dict[str, Any]) -> bool:
    return own.get("extends") is not None and data is not own


def _of_pydantic(entry: Mapping[str, Any], text: str, extended: bool) -> Finding:
    place: Place = tuple(part for part in entry["loc"] if not str(part).startswith("function-"))
    line = _line(text, place)
    if entry["type"] == "extra_forbidden":
        known = _keys_at(place[:-1])
        return Finding(
            _dotted(place),
            f"unknown key {place[-1]!r}{nearest(str(place[-1]), known)}",
            f"known here: {', '.join(known)}",
            line,
        )
    what = str(entry["msg"]).removeprefix("Value error, ")
    got = entry.get("input")
    if isinstance(got, (str, int, float)):
        what += f", got {got!r}"
    source = " (perhaps in the file it extends)" if extended and line is None else ""
    return Finding(_dotted(place), (what[:1].lower() + what[1:]).rstrip(".") + source, "", line)


def _keys_at(place: Place) -> list[str]:
    """Keys that the model at a place of the file knows."""
    model: Any = Instrument
    for part in place:
        model = _inner(model, str(part))
    return [name for one in _models(model) for name in one.model_fields]


def _inner(annotation: Any, part: str) -> Any:
    """Type of what stands under a key or index of a model, a dict, a tuple, or a union of these."""
    for model in _models(annotation):
        field = model.model_fields.get(part)
        return None if field is None else field.annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return arguments[1]
    if origin is tuple:
        return arguments[0]
    return next((found for one in arguments if (found := _inner(one, part)) is not None), None)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The model that a type is, or may be."""
    options = [annotation, *(() if get_origin(annotation) in (dict, tuple) else get_args(annotation))]
    return [one for one in options if isinstance(one, type) and issubclass(one, BaseModel)]


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "file"


def _line(text: str, place: Place) -> int | None:
    """Line of a key: its table's header if the key itself is not found below it."""
    tables = [str(part) for part in place if not isinstance(part, int)]
    indices = [part for part in place if isinstance(part, int)]
    lines = text.splitlines()
    for depth in range(len(tables), -1, -1):
        start = _table_line(lines, tables[:depth], indices[-1] if indices else 0)
        if start is None:
            continue
        if depth == len(tables):
            return start + 1
        key = re.compile(rf"^\s*[\"']?{re.escape(tables[depth])}[\"']?\s*[=.]")
        for number in range(start + (depth > 0), len(lines)):
            if depth and lines[number].lstrip().startswith("["):
                break
            if key.match(lines[number]):
                return number + 1
        if depth:
            return start + 1
    return None


def _table_line(lines: list[str], tables: list[str], index: int) -> int | None:
    if not tables:
        return 0
    name = r"\s*\.\s*".join(rf"[\"']?{re.escape(table)}[\"']?" for table in tables)
    header = re.compile(rf"^\s*\[(\[?)\s*{name}\s*\]")
    found = [number for number, line in enumerate(lines) if header.match(line)]
    return None if not found else found[min(index, len(found) - 1)]
