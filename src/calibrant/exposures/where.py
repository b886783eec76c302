"""Selections: facts by value, and the text form ``exptime>10 and kind=dark``. Text is parsed, never run."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from calibrant.errors import HeaderError, OptionError
from calibrant.frame import Exposure
from calibrant.instrument import Instrument
from calibrant.times import parse_time

Predicate = Callable[[Exposure], bool]
TUPLES = frozenset({"binning", "shape"})
TIMES = frozenset({"start", "mid"})
EXTRA_NAMES = ("file", "folder", "exposure", "darktime")
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>"[^"]*"|'[^']*')
      | (?P<op><=|>=|!=|==|=|<|>|~|&&|\|\||&|\||!|\(|\)|\[|\]|,)
      | (?P<word>[^\s<>=!~&|()\[\],"']+)
    )""",
    re.VERBOSE,
)
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SYNONYMS = {"&&": "and", "&": "and", "||": "or", "|": "or", "!": "not", "==": "="}


def fact(exposure: Exposure, key: str) -> Any:
    """One fact of an exposure by name; also ``file`` (its name) and ``folder``."""
    if key == "file":
        return None if exposure.path is None else exposure.path.replace("\\", "/").rpartition("/")[2]
    if key == "folder":
        return None if exposure.path is None else exposure.path.replace("\\", "/").rpartition("/")[0]
    return exposure.get(key)


def check_name(key: str, exposures: Iterable[Exposure], instrument: Instrument) -> None:
    """See that a fact of that name can exist.

    Raises
    ------
    OptionError
        If no rule and no exposure knows it; the nearest spelling is named.
    """
    if key in instrument.fact_names or key in EXTRA_NAMES:
        return
    free = {name for exposure in exposures for name in exposure.keys}
    if key in free:
        return
    known = sorted({*instrument.fact_names, *EXTRA_NAMES, *free})
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    raise OptionError(
        f"exposures have no fact {key!r}" + (f" (did you mean {near[0]!r}?)" if near else ""),
        expected=None if near else ", ".join(name for name in known if "_of_" not in name),
    )


def equals(key: str, wanted: Any, instrument: Instrument) -> Predicate:
    """A predicate: the fact is `wanted`, one of several, or what a function says of it."""
    if callable(wanted):
        return lambda exposure: bool(wanted(fact(exposure, key)))
    several = isinstance(wanted, (set, frozenset, list)) or (isinstance(wanted, tuple) and key not in TUPLES)
    options = [_wanted(key, value) for value in (wanted if several else [wanted])]
    return lambda exposure: any(_agrees(key, fact(exposure, key), value, instrument) for value in options)


def _wanted(key: str, value: Any) -> Any:
    """A value as the fact holds it: ``1x2`` or 2 for a binning, ISO text for a time."""
    if key in TUPLES:
        if isinstance(value, int):
            return (value, value)
        if isinstance(value, str):
            numbers = tuple(int(number) for number in re.findall(r"\d+", value))
            return numbers if len(numbers) != 1 else numbers * 2
        return tuple(value)
    if key in TIMES and isinstance(value, str):
        try:
            return parse_time(value)
        except HeaderError as error:
            raise OptionError(error.what, where=key, expected=error.expected, got=error.got) from None
    return value


def _agrees(key: str, value: Any, wanted: Any, instrument: Instrument) -> bool:
    if isinstance(value, (set, frozenset)):
        return value >= set(wanted) if isinstance(wanted, (set, frozenset)) else wanted in value
    if isinstance(value, str) and isinstance(wanted, (int, float)):
        return value == f"{wanted:g}"
    if isinstance(value, (int, float)) and isinstance(wanted, str):
        number = _number(wanted)
        return number is not None and instrument.same(key, value, number)
    if isinstance(wanted, str) and isinstance(value, str) and wanted and any(c in wanted for c in "*?"):
        return fnmatchcase(value, wanted)
    return instrument.same(key, value, wanted)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def parse_query(text: str, exposures: Sequence[Exposure], instrument: Instrument) -> Predicate:
    """A predicate from text.

    Comparisons ``= != < <= > >= ~`` (``~`` is a regular expression) and ``in [a, b]``, joined by ``and``,
    ``or``, ``not`` and parentheses. ``=`` is within the tolerance; texts may hold ``*`` and ``?``.
    An unknown fact is neither smaller nor larger than anything.

    Raises
    ------
    OptionError
        If the text cannot be read, or names a fact that does not exist.
    """
    return _Parser(text, exposures, instrument).parse()


class _Parser:
    """Recursive descent over the tokens of a query."""

    def __init__(self, text: str, exposures: Sequence[Exposure], instrument: Instrument) -> None:
        self.text, self.exposures, self.instrument = text, exposures, instrument
        self.tokens = self._split(text)
        self.at = 0

    def _split(self, text: str) -> list[tuple[str, bool]]:
        """Tokens, each with whether it was quoted."""
        tokens, at = [], 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if found is None:
                raise self._error(f"cannot read {text[at:].strip()!r}")
            quoted = found["quoted"]
            word = found["op"] or found["word"] or ""
            tokens.append((quoted[1:-1], True) if quoted is not None else (_SYNONYMS.get(word, word), False))
            at = found.end()
        return tokens

    def _error(self, what: str) -> OptionError:
        return OptionError(
            f"the selection {self.text!r} cannot be understood: {what}",
            expected="for example: exptime>10 and kind=dark",
        )

    def _peek(self) -> str | None:
        """The next token in lower case, if it is not quoted."""
        if self.at < len(self.tokens) and not self.tokens[self.at][1]:
            return self.tokens[self.at][0].lower()
        return None

    def _accept(self, word: str) -> bool:
        if self._peek() == word:
            self.at += 1
            return True
        return False

    def _next(self, what: str) -> str:
        if self.at >= len(self.tokens):
            raise self._error(f"it ends where {what} should stand")
        self.at += 1
        return self.tokens[self.at - 1][0]

    def parse(self) -> Predicate:
        """The whole text."""
        if not self.tokens:
            raise self._error("it is empty")
        predicate = self._either()
        if self.at < len(self.tokens):
            raise self._error(f"{self.tokens[self.at][0]!r} does not belong there")
        return predicate

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._accept("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda exposure: any(part(exposure) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._one()]
        while self._accept("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda exposure: all(part(exposure) for part in parts)

    def _one(self) -> Predicate:
        if self._accept("not"):
            inner = self._one()
            return lambda exposure: not inner(exposure)
        if self._accept("("):
            inner = self._either()
            if not self._accept(")"):
                raise self._error("a parenthesis is not closed")
            return inner
        return self._comparison()

    def _comparison(self) -> Predicate:
        key = self._next("the name of a fact")
        check_name(key, self.exposures, self.instrument)
        if self._accept("in"):
            return equals(key, self._listed(), self.instrument)
        sign = self._next("a comparison")
        value = self._next("a value")
        if sign == "=":
            return equals(key, value, self.instrument)
        if sign == "!=":
            same = equals(key, value, self.instrument)
            return lambda exposure: not same(exposure)
        if sign == "~":
            return self._matches(key, value)
        if sign in _ORDER:
            return self._ordered(key, _ORDER[sign], value)
        raise self._error(f"{sign!r} is no comparison")

    def _listed(self) -> list[str]:
        closing = "]" if self._accept("[") else ")" if self._accept("(") else None
        if closing is None:
            raise self._error("after 'in' comes a list such as [a, b]")
        values = [self._next("a value")]
        while self._accept(","):
            values.append(self._next("a value"))
        if not self._accept(closing):
            raise self._error("a list is not closed")
        return values

    def _matches(self, key: str, pattern: str) -> Predicate:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise self._error(f"{pattern!r} is not a regular expression ({error})") from None
        return lambda exposure: (
            fact(exposure, key) is not None and bool(compiled.search(str(fact(exposure, key))))
        )

    def _ordered(self, key: str, compare: Callable[[Any, Any], bool], text: str) -> Predicate:
        wanted = _wanted(key, text) if key in TIMES | TUPLES else _number(text)

        def predicate(exposure: Exposure) -> bool:
            value = fact(exposure, key)
            if value is None:
                return False
            if isinstance(value, str):
                number = _number(value)
                both = number is not None and isinstance(wanted, float)
                return compare(number, wanted) if both else compare(value, text)
            if wanted is None:
                raise self._error(f"{key} is a number, and {text!r} is none")
            return compare(value, wanted)

        return predicate
