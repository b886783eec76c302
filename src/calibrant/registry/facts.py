"""Facts as JSON text, so that equal facts are equal text, and every number comes back as it was."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from calibrant.files.records import plain, tupled
from calibrant.frame import Exposure

REREAD = "reread"
"""Event: the facts of an exposure were read again; its subject is the file, its facts are those of before."""

_FIELDS = tuple(
    (entry.name, entry.default_factory() if entry.default_factory is not MISSING else entry.default)
    for entry in fields(Exposure)
)
_NAMES = frozenset(name for name, _ in _FIELDS)


def text_of(facts: Any) -> str:
    """Facts as compact JSON, names sorted; NumPy's numbers as Python's, tuples as lists."""
    return _text(plain(facts))


def keys_text(keys: Mapping[str, Any]) -> str:
    """Keys as canonical JSON: the detector as text, a number that is none as unknown."""
    return _text({name: _key(name, value) for name, value in plain(keys).items()})


def keys_of(text: str) -> dict[str, Any]:
    """Keys from their JSON, with tuples for lists."""
    return {name: tupled(value) for name, value in json.loads(text).items()}


def exposure_json(exposure: Exposure) -> str:
    """The facts of an exposure that are not as by default."""
    known = ((name, getattr(exposure, name), usual) for name, usual in _FIELDS)
    return text_of({name: value for name, value, usual in known if value != usual})


def exposure_of(text: str) -> Exposure:
    """The exposure of `exposure_json`, exactly; facts that this version does not know are passed over."""
    facts = {name: tupled(value) for name, value in json.loads(text).items() if name in _NAMES}
    if "applied" in facts:
        facts["applied"] = frozenset(facts["applied"])
    return Exposure(**facts)


def _text(facts: Any) -> str:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))


def _key(name: str, value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(value) if name == "detector" and value is not None else value
