"""Rules that translate header cards and file names into facts: what a TOML file can say about them.

The formulas of these files are value maps, groups of regular expressions, units and polynomials, and nothing
else: an instrument file is data, and reading it runs no code of its author.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from functools import cached_property
from pathlib import PurePath
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from calibrant.errors import HeaderError
from calibrant.times import from_jd, from_mjd, parse_time


class Header(Protocol):
    """What rules ask of a header."""

    def get(self, key: str, /) -> Any:
        """The value of a keyword, None if the card is missing."""
        ...


class Cards:
    """A header for rules, that mostly ask for cards which are not there: those are answered from a set.

    `more` are facts that rules ask for like cards, such as what the name of the file says.
    """

    __slots__ = ("_header", "_present", "_seen")

    def __init__(self, header: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> None:
        self._header = header
        self._seen: dict[str, Any] = dict(more or {})
        self._present = frozenset(header) | frozenset(self._seen)

    def get(self, key: str) -> Any:
        """The value of a keyword, None if the card is missing."""
        if key not in self._present:
            return None
        if key not in self._seen:
            self._seen[key] = self._header.get(key)
        return self._seen[key]


UNKNOWN_WORDS = frozenset({"", "n/a", "na", "nan", "none", "null", "unknown", "undefined", "inf"})
UNITS: dict[str, tuple[float, float]] = {
    # value in our unit = value * factor + zero
    "": (1.0, 0.0),
    "s": (1.0, 0.0),
    "ms": (1e-3, 0.0),
    "us": (1e-6, 0.0),
    "min": (60.0, 0.0),
    "h": (3600.0, 0.0),
    "C": (1.0, 0.0),
    "K": (1.0, -273.15),
    "electron/adu": (1.0, 0.0),
    "electron": (1.0, 0.0),
    "adu": (1.0, 0.0),
}
INVERSE = "adu/electron"


def _keyword(text: str) -> str:
    return text.strip().upper().removeprefix("HIERARCH ").strip()


Keyword = Annotated[str, AfterValidator(_keyword)]
"""A keyword as headers index it: upper case, without HIERARCH."""


class Model(BaseModel):
    """A table of an instrument file: frozen, and a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


def plain(value: Any) -> str:
    """Text with case and space folded, for value maps: ``Light Frame  `` and ``LIGHTFRAME`` are one."""
    return "".join(str(value).split()).lower().replace("_", "").replace("-", "")


def text_of(value: Any) -> str | None:
    """A header value as text; None if it says nothing. Whole floats lose their point: 100.0 is ``100``."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value).strip()
    return None if text.lower() in UNKNOWN_WORDS else text


def number_of(value: Any, keyword: str) -> float | None:
    """A header value as a number; None if it says nothing.

    Raises
    ------
    HeaderError
        If it is text that is no number.
    """
    if isinstance(value, str):
        if value.strip().lower() in UNKNOWN_WORDS:
            return None
        try:
            return float(value)
        except ValueError:
            raise HeaderError(f"{keyword} is not a number", got=repr(value)) from None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise HeaderError(f"{keyword} is not a number", got=repr(value)) from None
    return number if abs(number) < float("inf") else None


def lines_of(value: Any) -> list[str]:
    """The lines of a card that may stand several times, such as HISTORY."""
    if value is None:
        return []
    if isinstance(value, str):
        return value.splitlines()
    return [str(line) for line in value] if hasattr(value, "__iter__") else [str(value)]


def name_pattern(glob: str) -> re.Pattern[str]:
    """A glob on file names as a regular expression, blind to case; with a slash in it, on the whole path."""
    return re.compile(translate(f"*{glob}" if "/" in glob else glob), re.IGNORECASE)


class Alternative(Model):
    """One keyword that may hold a fact, and what rules it out.

    Attributes
    ----------
    unless : list of str
        Cards whose presence rules it out.
    unit : str
        Of its number, where it differs from the rule's.
    polynomial : list of float
        As of `FactRule`, of this keyword alone.
    least, below : float
        The number in the header lies in least <= number < below, else this alternative does not count: a
        formula of several branches is one keyword several times.
    """

    keyword: Keyword
    unless: tuple[Keyword, ...] = ()
    unit: str | None = None
    polynomial: tuple[float, ...] = ()
    least: float | None = None  # infinities would not survive JSON, in which registries keep instruments
    below: float | None = None

    def get(self, header: Header) -> Any:
        """The value; None if the card is missing or ruled out."""
        value = header.get(self.keyword)
        if value is None or (self.unless and any(header.get(card) is not None for card in self.unless)):
            return None
        return value

    def holds(self, value: float) -> bool:
        """Whether a number in the header lies in its range."""
        return (self.least is None or self.least <= value) and (self.below is None or value < self.below)


class FactRule(Model):
    """Where one fact stands: a group of the file's name first, then keywords in order, then a default.

    Attributes
    ----------
    keywords : list of str or Alternative
        The first card present that says something counts.
    file : str
        Regular expression on the file name; its groups, joined, are the value.
    pattern : str
        Regular expression on the card's text; its groups, joined, are the value.
    map : table
        Value -> value, blind to case and space; values that are not in it stay, unless `only_map`.
    unit : str
        Of numbers: s, ms, us, min, h; C, K; electron/adu or adu/electron; electron, adu.
    polynomial : list of float
        Coefficients c0, c1, ... of the number in the header, for sensors that give a voltage.
    min, max : float
        Numbers outside say nothing.
    default : any
        Where nothing else says it.
    """

    keywords: tuple[Alternative, ...] = ()
    file: str | None = None
    pattern: str | None = None
    map: dict[str, str | float | int] = Field(default={})
    only_map: bool = False
    unit: str | None = None
    polynomial: tuple[float, ...] = ()
    min: float | None = None
    max: float | None = None
    type: Literal["number", "text"] | None = None
    default: str | float | int | None = None

    @field_validator("keywords", mode="before")
    @classmethod
    def _plain_keywords(cls, value: Any) -> Any:
        value = [value] if isinstance(value, (str, dict)) else value
        if not isinstance(value, (list, tuple)):
            return value
        return tuple({"keyword": item} if isinstance(item, str) else item for item in value)

    @cached_property
    def _map(self) -> dict[str, Any]:
        return {plain(key): value for key, value in self.map.items()}

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        return _compiled(self.file), _compiled(self.pattern)

    def read(self, header: Header, name: str, number: bool, strict: bool = False) -> Any:
        """The fact as a number or text; None if unknown.

        Parameters
        ----------
        header : mapping
            Keyword -> value.
        name : str
            File name without folders.
        number : bool
            Whether the fact is a number by its nature.
        strict : bool
            Whether a card that should be a number and is not is an error; else the next one is asked.
        """
        number = self.type == "number" if self.type else number
        file_pattern, pattern = self._patterns
        if file_pattern is not None:
            found = file_pattern.search(name)
            if found:
                value = self._value(_joined(found), number, "the file name" if strict else None)
                if value is not None:
                    return value
        for alternative in self.keywords:
            raw = alternative.get(header)
            if raw is None:
                continue
            if pattern is not None:
                match = pattern.search(str(raw))
                raw = None if match is None else _joined(match)
            place = alternative.keyword if strict else None
            value = self._value(raw, number, place, alternative)
            if value is not None:
                return value
        return self.default

    def _value(self, raw: Any, number: bool, place: str | None, one: Alternative | None = None) -> Any:
        if raw is None:
            return None
        if self.map:
            mapped = self._map.get(plain(raw))
            if mapped is not None:
                return float(mapped) if number else mapped
            if self.only_map:
                return None
        if not number:
            return text_of(raw)
        try:
            value = number_of(raw, place or "")
        except HeaderError:
            if place is not None:
                raise
            return None
        if value is None or (one is not None and not one.holds(value)):
            return None
        return self._number(value, one)

    def _number(self, value: float, one: Alternative | None) -> float | None:
        unit = (one.unit if one else None) or self.unit
        polynomial = (one.polynomial if one else ()) or self.polynomial
        if polynomial:
            value = sum(c * value**power for power, c in enumerate(polynomial))
        if unit == INVERSE:
            value = 1.0 / value if value else float("nan")
        elif unit:
            factor, zero = UNITS[unit]
            value = value * factor + zero
        if (self.min is not None and not value >= self.min) or (
            self.max is not None and not value <= self.max
        ):
            return None
        return value if value == value else None


def _joined(match: re.Match[str]) -> str:
    """The groups of a match one after the other: the wanted parts of a card, without what lies between."""
    return "".join(group for group in match.groups() if group is not None)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    return None if pattern is None else re.compile(pattern, re.IGNORECASE)


class TimeRule(Model):
    """Where the beginning of the exposure stands.

    Attributes
    ----------
    stamp : list of str
        Keywords of date and time, or of the date alone.
    clock : list of str
        Keywords of the time of day, used if the stamp has none.
    mjd, jd : list of str
        Keywords of Julian dates, used if there is no stamp.
    scale_keyword : str
        Keyword of the time scale.
    scale : str
        Where that keyword is missing.
    """

    stamp: tuple[Keyword, ...] = ("DATE-OBS", "DATE-BEG")
    clock: tuple[Keyword, ...] = ("TIME-OBS", "UT", "UTC")
    mjd: tuple[Keyword, ...] = ("MJD-OBS", "MJD-BEG")
    jd: tuple[Keyword, ...] = ("JD",)
    scale_keyword: Keyword = "TIMESYS"
    scale: str = "UTC"

    def read(self, header: Header) -> int | None:
        """Microseconds since 1970 UTC; None if no card says it."""
        scale = str(header.get(self.scale_keyword) or self.scale)
        for keyword in self.stamp:
            text = header.get(keyword)
            if isinstance(text, str) and text.strip():
                clock = self._clock(header) if len(text.strip()) <= 10 else None
                try:
                    return parse_time(text, clock, scale)
                except HeaderError as error:
                    raise HeaderError(
                        f"{keyword} is {error.what}", expected=error.expected, got=error.got
                    ) from None
        for keywords, convert in ((self.mjd, from_mjd), (self.jd, from_jd)):
            for keyword in keywords:
                days = header.get(keyword)
                if days is not None:
                    number = number_of(days, keyword)
                    return None if number is None else convert(number, scale)
        return None

    def _clock(self, header: Header) -> str | None:
        found = (header.get(keyword) for keyword in self.clock)
        return next((text for text in found if isinstance(text, str) and ":" in text), None)


class BinningRule(Model):
    """Where the binning stands: a keyword for each axis, or one text ``cols rows`` for both."""

    rows: tuple[Keyword, ...] = ("YBINNING", "CCDYBIN", "YBIN")
    cols: tuple[Keyword, ...] = ("XBINNING", "CCDXBIN", "XBIN")
    both: tuple[Keyword, ...] = ("CCDSUM", "BINNING")
    default: tuple[int, int] = (1, 1)

    def read(self, header: Header) -> tuple[int, int]:
        """Rows, columns."""
        rows, cols = self._axis(header, self.rows), self._axis(header, self.cols)
        if rows and cols:
            return rows, cols
        for keyword in self.both:
            numbers = re.findall(r"\d+", str(header.get(keyword) or ""))
            if numbers:
                return int(numbers[-1]), int(numbers[0])
        return rows or cols or self.default[0], cols or rows or self.default[1]

    @staticmethod
    def _axis(header: Header, keywords: tuple[str, ...]) -> int | None:
        for keyword in keywords:
            value = header.get(keyword)
            if value is not None:
                number = number_of(value, keyword)
                return None if number is None else int(number)
        return None


class KindRule(Model):
    """One rule for the kind of an exposure; the first that answers counts.

    Either `file` (a glob) or `regex` on the name, with `kind`; or a regex whose first group goes through
    `map`; or `keywords` whose text goes through `map`.
    """

    file: str | None = None
    regex: str | None = None
    keywords: tuple[Keyword, ...] = ()
    map: dict[str, str] = Field(default={})
    kind: str | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if sum((self.file is not None, self.regex is not None, bool(self.keywords))) != 1:
            raise ValueError("a kind rule has exactly one of file, regex and keywords")
        if self.file is not None and self.kind is None:
            raise ValueError("a kind rule on a file name needs kind")
        if self.kind is None and not self.map:
            raise ValueError("a kind rule without kind needs a map")
        return self

    @cached_property
    def _map(self) -> dict[str, str]:
        return {plain(key): value for key, value in self.map.items()}

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        return name_pattern(self.file) if self.file is not None else _compiled(self.regex)

    def read(self, header: Header, path: str, name: str) -> str | None:
        """The kind; None if the rule has nothing to say."""
        if self._pattern is not None:
            if self.file is not None:
                return self.kind if self._pattern.match(path if "/" in self.file else name) else None
            found = self._pattern.search(name)
            if found is None:
                return None
            return self.kind or self._map.get(plain(found[1]))
        for keyword in self.keywords:
            value = header.get(keyword)
            if value is not None:
                kind = self._map.get(plain(value))
                if kind is not None:
                    return kind
                if self.kind is not None:
                    return self.kind
        return None


class AppliedRule(Model):
    """How to see that something was done to the pixels before they reached us.

    Attributes
    ----------
    keyword : str
        The card, such as HISTORY or CALSTAT.
    contains : str
        Text in one of its lines, blind to case: then all `effects` were applied.
    letters : table
        Letter in its value -> effect, such as ``{B = "bias", D = "dark", F = "flat"}``.
    """

    keyword: Keyword
    contains: str | None = None
    effects: tuple[str, ...] = ()
    letters: dict[str, str] = Field(default={})

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.contains is None) == (not self.letters):
            raise ValueError("a rule of applied has either contains with effects, or letters")
        if self.contains is not None and not self.effects:
            raise ValueError("contains needs effects")
        return self

    def read(self, header: Header) -> set[str]:
        """Names of the effects that were applied."""
        value = header.get(self.keyword)
        if value is None:
            return set()
        if self.contains is not None:
            wanted = self.contains.lower()
            return set(self.effects) if any(wanted in line.lower() for line in lines_of(value)) else set()
        text = str(value).upper()
        return {effect for letter, effect in self.letters.items() if letter.upper() in text}


class KindRules(Model):
    """The kinds of exposures: ordered rules, and which kinds are science.

    Attributes
    ----------
    rule : list of KindRule
        The first that answers counts; rules of the file that is extended come after one's own.
    science : list of str
        Kinds that are to be calibrated.
    default : str
        Where no rule answers.
    """

    rule: tuple[KindRule, ...] = ()
    science: tuple[str, ...] = ("light",)
    default: str = "unknown"

    def read(self, header: Header, path: str, name: str) -> str:
        """The kind of an exposure."""
        for rule in self.rule:
            kind = rule.read(header, path, name)
            if kind is not None:
                return kind
        return self.default


def base_name(path: str) -> str:
    """The file's name without its folders."""
    return PurePath(path).name if "\\" in path else path.rpartition("/")[2]
