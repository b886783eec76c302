"""The Instrument and its detectors, as validated and frozen models."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import Field, field_validator

from calibrant.errors import ConfigError, HeaderError
from calibrant.frame import Exposure
from calibrant.instrument.clock import Border, Clock
from calibrant.instrument.detector import Detector, Layout
from calibrant.instrument.focal_plane import FocalPlane
from calibrant.instrument.readout import Readout, header_sections, image_shape, of_outputs, readouts_of
from calibrant.instrument.rules import (
    AppliedRule,
    BinningRule,
    Cards,
    FactRule,
    Header,
    KindRules,
    Model,
    TimeRule,
    base_name,
)
from calibrant.instrument.slicer import Resolution, SliceRules
from calibrant.instrument.slices import SliceMap
from calibrant.instrument.stated import amplifier_key, stated_sections
from calibrant.instrument.timing import ReadoutRules, no_readout

NUMBERS = frozenset({"exptime", "darktime", "temperature", "gain", "read_noise", "saturation"})
PLANE_KEYS = ("hdu", "plane")
"""Free facts of an exposure that is a plane of a cube: the name of its HDU, and its number from 0."""
LEVELS = 3
STRICT = frozenset({"duration", "dark_time"})
"""Facts that nothing can be measured without: a card that cannot be read is an error, not passed over."""
ATTRIBUTE = {"exptime": "duration", "darktime": "dark_time"}
"""Names in instrument files and match keys that differ from those of `Exposure`."""


class HeaderRules(Model):
    """Where each fact of an exposure stands; the names are those of match keys."""

    exptime: FactRule = FactRule()
    darktime: FactRule = FactRule()
    temperature: FactRule = FactRule()
    filter: FactRule = FactRule()
    mode: FactRule = FactRule()
    gain_setting: FactRule = FactRule()
    offset_setting: FactRule = FactRule()
    detector: FactRule = FactRule(default="0")
    campaign: FactRule = FactRule()
    identifier: FactRule = FactRule()
    object: FactRule = FactRule()
    unit: FactRule = FactRule(default="adu")
    gain: FactRule = FactRule()
    read_noise: FactRule = FactRule()
    saturation: FactRule = FactRule()


class Nominal(NamedTuple):
    """Gain [e-/adu], read noise [e-] and saturation [adu] as stated, None where unknown."""

    gain: float | None
    read_noise: float | None
    saturation: float | None


class Newest(Model):
    """How versions of one file are told apart.

    Attributes
    ----------
    group : list of str
        Facts that all versions share.
    rank : list of str
        Facts that are numbers: the largest first one is the newest, among equals the largest second one ...
    """

    group: tuple[str, ...] = Field(min_length=1)
    rank: tuple[str, ...] = Field(min_length=1)


class Instrument(Model):
    """Everything about a camera that its files do not say in a common language.

    Attributes
    ----------
    recognise : table of str
        Keyword -> regular expression; a header in which all of them are found is this instrument's. What
        `file_name` finds stands under ``FILE.NAME``.
    header : HeaderRules
        Where facts stand.
    keys : table of FactRule
        Free facts by name, kept in `Exposure.keys`.
    kinds : KindRules
    applied : list of AppliedRule
    detectors : table of Detector
        By name; detectors that are alike share one table, with `names`.
    focal_plane : FocalPlane or None
        Where they stand, if there are several.
    readout : ReadoutRules or None
        How arrays that are read up the ramp are clocked, and their reference pixels.
    slices : SliceRules or None
        Where slices lie, and what they see.
    match : table of list of str
        Kind of master -> facts that must agree with a frame.
    tolerance, relative_tolerance : table of float
        Fact -> difference that is still the same, absolute and as a fraction.
    minimum : table of int
        Kind -> number of frames below which a master is worth a warning.
    levels : table of list of float
        Kind -> days outside its validity at which a calibration is still of level 1, 2, 3: good, probably
        acceptable, a risk.
    recipe : str
        Name of the recipe that suits its frames: ``ccd`` for images, ``spectrum`` for spectra.
    file_name : list of str
        Regular expressions on the file name, the first that fits counts: what its group ``(?P<name>...)``
        holds is found by rules under the keyword ``FILE.NAME``.
    newest : Newest or None
        How versions of one file are told apart, if there are several.
    columns : list of str
        Facts that a list of its exposures shows.
    """

    name: str
    title: str = ""
    extends: str | None = None
    recognise: dict[str, str] = Field(default={})
    header: HeaderRules = HeaderRules()
    keys: dict[str, FactRule] = Field(default={})
    time: TimeRule = TimeRule()
    binning: BinningRule = BinningRule()
    kinds: KindRules = KindRules()
    applied: tuple[AppliedRule, ...] = ()
    detectors: dict[str, Detector] = Field(default={})
    focal_plane: FocalPlane | None = None
    layout: Layout = Layout()
    readout: ReadoutRules | None = None
    slices: SliceRules | None = None
    match: dict[str, tuple[str, ...]] = Field(default={})
    tolerance: dict[str, float] = Field(default={})
    relative_tolerance: dict[str, float] = Field(default={})
    minimum: dict[str, int] = Field(default={})
    levels: dict[str, tuple[float, ...]] = Field(default={})
    recipe: str = "ccd"
    file_name: tuple[str, ...] = ()
    newest: Newest | None = None
    columns: tuple[str, ...] = ()

    @field_validator("file_name", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("detectors")
    @classmethod
    def _each_by_name(cls, tables: dict[str, Detector]) -> dict[str, Detector]:
        found: dict[str, Detector] = {}
        for table, detector in tables.items():
            for name in detector.names or (table,):
                if found.setdefault(name, detector) != detector:
                    raise ValueError(f"two tables describe the detector {name!r}")
        return found

    @field_validator("levels")
    @classmethod
    def _rising(cls, levels: dict[str, tuple[float, ...]]) -> dict[str, tuple[float, ...]]:
        for kind, days in levels.items():
            steps = zip((0.0, *days), (*days, float("inf")), strict=True)
            if not 1 <= len(days) <= LEVELS or not all(one < other for one, other in steps):
                raise ValueError(
                    f"levels of {kind} are up to {LEVELS} numbers of days, positive and rising: {list(days)}"
                )
        return levels

    @property
    def science(self) -> tuple[str, ...]:
        """Kinds of exposures that are to be calibrated."""
        return self.kinds.science

    @cached_property
    def _facts(self) -> tuple[tuple[str, FactRule, bool], ...]:
        rules = ((name, getattr(self.header, name)) for name in HeaderRules.model_fields)
        return tuple(
            (ATTRIBUTE.get(name, name), rule, name in NUMBERS)
            for name, rule in rules
            if rule.keywords or rule.file or rule.default is not None
        )

    @cached_property
    def _grammar(self) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(pattern, re.IGNORECASE) for pattern in self.file_name)

    def _said_by(self, name: str) -> dict[str, str]:
        """What the name of a file says, by the keywords that rules ask for."""
        found = next(filter(None, (pattern.search(name) for pattern in self._grammar)), None)
        groups = found.groupdict() if found else {}
        return {f"FILE.{group.upper()}": text for group, text in groups.items() if text is not None}

    def _shape(self, cards: Header, detector: str, binning: tuple[int, int]) -> tuple[int, ...]:
        if self.layout.form == "amplifiers":
            return image_shape(self.detector(detector), binning)
        return _image_shape(cards)

    def recognises(self, header: Mapping[str, Any], path: str = "") -> bool:
        """Whether a header, and the name of its file, are this instrument's, as far as its file can tell."""
        said = self._said_by(base_name(path))
        return bool(self.recognise) and all(
            re.search(pattern, str(said.get(keyword) or header.get(keyword) or ""), re.IGNORECASE)
            for keyword, pattern in self.recognise.items()
        )

    @property
    def fact_names(self) -> tuple[str, ...]:
        """Names that match keys and selections may use."""
        computed = ("kind", "binning", "shape", "instrument", "start", "mid", "time", "path", "applied")
        planes = PLANE_KEYS if self.layout.form == "cube" else ()
        return (*HeaderRules.model_fields, "duration", "dark_time", *computed, *self.keys, *planes)

    def exposure(self, header: Mapping[str, Any], path: str = "") -> Exposure:
        """The facts of one exposure.

        Parameters
        ----------
        header : mapping
            Keyword -> value. HISTORY may be text or a list of lines.
        path : str
            Of the file; rules on names see it.

        Raises
        ------
        HeaderError
            If a card that counts holds something that cannot be read.
        """
        path = str(path)
        name = base_name(path)
        cards = Cards(header, self._said_by(name))
        try:
            facts = {
                attribute: rule.read(cards, name, number, attribute in STRICT)
                for attribute, rule, number in self._facts
            }
            keys = {key: rule.read(cards, name, False) for key, rule in self.keys.items()}
            start, binning = self.time.read(cards), self.binning.read(cards)
        except HeaderError as error:
            if error.where is None:
                error.where = path or None
            raise
        if facts.get("dark_time") is None:
            facts["dark_time"] = facts.get("duration")
        detector = facts["detector"] = str(facts.get("detector") or "0")
        keys = {key: value for key, value in keys.items() if value is not None}
        sections = self.detector(detector).from_header
        if sections is not None and self.layout.form == "single":
            keys.update(header_sections(sections, cards))
        applied = frozenset[str]().union(*(rule.read(cards) for rule in self.applied))
        return Exposure(
            kind=self.kinds.read(cards, path, name),
            start=start,
            binning=binning,
            instrument=self.name,
            shape=self._shape(cards, detector, binning),
            applied=applied,
            keys=keys,
            path=path or None,
            **facts,
        )

    def with_amplifiers(self, exposure: Exposure, headers: Mapping[str, Header]) -> Exposure:
        """The exposure with gain, read noise and sections as the headers of its amplifiers' HDUs state them.

        Parameters
        ----------
        exposure : Exposure
        headers : mapping
            Name of the amplifier -> cards of its HDU alone. A gain or read noise of the instrument file
            counts before theirs, its sections after theirs.

        Raises
        ------
        HeaderError
            If their sections do not fit together.
        """
        detector, name = self.detector(exposure.detector), base_name(exposure.path or "")
        changes: dict[str, Any] = {}
        keys = dict(exposure.keys)
        if detector.from_header is not None and detector.amplifiers:
            shape = _common_shape(headers, exposure.path)
            stated = stated_sections(detector, headers, shape, exposure.path)
            if stated:
                keys.update(stated)
                changes["shape"] = shape[0], shape[1] * len(detector.amplifiers)
        for fact in ("gain", "read_noise"):
            rule = getattr(self.header, fact)
            known = [getattr(amp, fact) for amp in detector.amplifiers]
            for index, amp in enumerate(detector.amplifiers):
                own = rule.read(headers[amp.name], name, True) if known[index] is None else None
                if own is not None:
                    keys[amplifier_key(fact, amp.name)] = known[index] = own
            if known and None not in known:
                changes[fact] = statistics.median(known)
        return replace(exposure, keys=keys, **changes)

    def detector(self, name: str = "0") -> Detector:
        """The detector of that name; the only one, if the file describes one."""
        found = self.detectors.get(name)
        if found is None and len(self.detectors) == 1:
            found = next(iter(self.detectors.values()))
        if found is None:
            found = Detector() if not self.detectors else self.detectors.get("default")
        if found is None:
            known = ", ".join(self.detectors)
            raise ConfigError(
                f"the instrument {self.name} has no detector {name!r}",
                expected=known,
                do=f"add [detectors.{name}] to its file",
            )
        return found

    def readouts(self, exposure: Exposure) -> tuple[Readout, ...]:
        """The amplifiers of an exposure, with their sections as slices of its image (binned as it is).

        Raises
        ------
        HeaderError
            If a section does not lie in the image.
        """
        detector = self.detector(exposure.detector)
        if self.readout is not None and not detector.amplifiers and exposure.shape:
            return of_outputs(detector, self.clock(exposure))
        return readouts_of(detector, exposure, self.layout.form)

    def clock(self, exposure: Exposure) -> Clock:
        """When each pixel of an exposure is read.

        Raises
        ------
        ConfigError
            If the instrument does not say it.
        HeaderError
            If what the header says cannot be.
        """
        if self.readout is None:
            raise no_readout(self.name)
        return self.readout.clock(exposure)

    def reference(self, exposure: Exposure) -> Border:
        """Reference pixels at the sides of the image of an exposure; none if the instrument knows of none."""
        return Border() if self.readout is None else self.readout.reference(exposure)

    def slice_map(self, exposure: Exposure) -> SliceMap:
        """The slices of the band of an exposure, and what they see.

        Raises
        ------
        ConfigError
            If the instrument has no slices.
        SelectionError
            If it knows no geometry of the band.
        """
        return self._slicer().slice_map(exposure)

    def resolution(self, exposure: Exposure) -> Resolution:
        """The resolving power against wavelength [um] in the band of an exposure.

        Raises
        ------
        ConfigError
            If the instrument does not say it.
        SelectionError
            If it knows no such band.
        """
        return self._slicer().resolving_power(exposure)

    def _slicer(self) -> SliceRules:
        if self.slices is None:
            raise ConfigError(
                f"the instrument {self.name} has no slices",
                do="name one that has (--instrument), or give a slice map (--slices)",
            )
        return self.slices

    def nominal(self, exposure: Exposure) -> Nominal:
        """Gain, read noise and saturation: the header's where it states them, else the file's.

        Where amplifiers differ it is the median over them; `readouts` has each.
        """
        detector = self.detector(exposure.detector)

        def stated(name: str) -> float | None:
            value: float | None = getattr(exposure, name)
            if value is not None:
                return value
            own = [getattr(amp, name) for amp in detector.amplifiers if getattr(amp, name) is not None]
            value = statistics.median(own) if own else getattr(detector, name)
            return value

        return Nominal(stated("gain"), stated("read_noise"), stated("saturation"))

    def same(self, key: str, one: Any, other: Any) -> bool:
        """Whether two values of a fact agree, within the instrument's tolerance for numbers.

        Two unknown values agree; a known one and an unknown one do not.
        """
        if isinstance(one, (int, float)) and isinstance(other, (int, float)):
            return abs(one - other) <= self.reach(key, max(abs(one), abs(other)))
        return bool(one == other)

    def reach(self, key: str, value: float) -> float:
        """The difference from `value` that still counts as the same."""
        key = {"duration": "exptime", "dark_time": "darktime"}.get(key, key)
        return max(self.tolerance.get(key, 0.0), self.relative_tolerance.get(key, 0.0) * abs(value))


def _common_shape(headers: Mapping[str, Header], path: str | None) -> tuple[int, int]:
    """Rows x cols of the images of all amplifiers."""
    shapes = {_image_shape(header)[-2:]: name for name, header in headers.items()}
    if len(shapes) > 1:
        (one, name), (other, another) = list(shapes.items())[:2]
        raise HeaderError(
            "the images of the amplifiers differ in size",
            where=path,
            expected=f"{one[0]} x {one[1]} rows x cols, as of {name}",
            got=f"{other[0]} x {other[1]} of {another}",
        )
    rows, cols = next(iter(shapes))
    return rows, cols


def _image_shape(header: Header) -> tuple[int, ...]:
    """Rows x cols of the image, also of one that is compressed in tiles."""
    prefix = "ZNAXIS" if header.get("ZNAXIS") is not None else "NAXIS"
    axes = int(header.get(prefix) or 0)
    return tuple(int(header.get(f"{prefix}{axis}") or 0) for axis in range(axes, 0, -1))
