"""Words of the command line as values: rejections with their numbers, lists of numbers."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from calibrant.errors import OptionError

if TYPE_CHECKING:
    from calibrant.stack.reject import Rejection

REJECT_HELP = (
    "none, sigma, minmax, percentile, pclip, winsorised, linearfit, gesd, avsigclip or ccdclip; "
    "with options as in 'sigma:3', 'minmax:1,2' or 'sigma:3,centre=mean,iterations=2'."
)


def parse_rejection(words: str) -> Rejection:
    """A rejection from ``name`` or ``name:value,option=value``; values in the order of its options.

    Raises
    ------
    OptionError
        If there is no such rejection or option, or a value cannot be used.
    """
    from calibrant.stack.reject import rejection

    name, _, rest = words.partition(":")
    kind = type(rejection(name.strip()))
    known = [field.name for field in fields(kind)]
    options: dict[str, Any] = {}
    for place, word in enumerate(part.strip() for part in rest.split(",") if part.strip()):
        option, equals, value = word.partition("=")
        if not equals and place >= len(known):
            raise OptionError(f"{name} takes at most {len(known)} numbers", where="--reject", got=rest)
        option, value = (option.strip(), value) if equals else (known[place], word)
        if option not in known:
            raise OptionError(
                f"{name} has no option {option!r}",
                where="--reject",
                expected=", ".join(known) or "no options",
            )
        options[option] = _value(value.strip())
    try:
        return kind(**options)
    except TypeError:
        raise OptionError("a value of the rejection cannot be used", where="--reject", got=words) from None


def _value(word: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def numbers(words: str) -> str | list[float] | None:
    """``a,b,c`` as numbers; a name stays a name; nothing is None."""
    if not words:
        return None
    try:
        return [float(word) for word in words.split(",")]
    except ValueError:
        return words
