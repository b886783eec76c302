"""Words of the command line as questions to a registry."""

from __future__ import annotations

import re
from typing import Any

from calibrant.errors import OptionError

_OWN = ("exposure", "detector", "instrument", "time")
"""Parts of a question that have an option each, and are no facts."""


def question_of(
    exposure: str | None,
    detector: str | None,
    instrument: str | None,
    time: str | None,
    keys: list[str] | None,
    filter: str | None,
) -> dict[str, Any]:
    """Arguments of `Registry.get`.

    Raises
    ------
    OptionError
        If a key is not name=value, or is said twice.
    """
    from calibrant.registry.words import value_of

    facts: dict[str, Any] = {} if filter is None else {"filter": filter}
    for word in keys or ():
        name, equals, value = (part.strip() for part in word.partition("="))
        if not (name and equals and value):
            raise OptionError("not a fact", where="--key", expected="name=value", got=repr(word))
        if name in facts:
            raise OptionError(f"the {name} is said twice", where="--key", got=repr(word))
        if name in _OWN:
            raise OptionError(
                f"the {name} has an option of its own", where="--key", do=f"say --{name} {value}"
            )
        facts[name] = value_of(value)
    given = {"exposure": exposure, "detector": detector, "instrument": instrument, "time": time}
    return {**facts, **given}


def as_options(advice: str) -> str:
    """Advice on an argument of Python's, as advice on an option: ``detector=0`` is ``--detector 0``."""

    def option(found: re.Match[str]) -> str:
        name = found[1]
        return f"for example --{name} " if name in (*_OWN, "filter") else f"for example --key {name}="

    return re.sub(r"for example (\w+)=", option, advice)
