"""What is wrong, or odd, in an instrument whose file can be read: rules, kinds and detectors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from calibrant.instrument.detector import Detector
from calibrant.instrument.model import Instrument
from calibrant.instrument.rules import INVERSE, UNITS, FactRule
from calibrant.instrument.sections import is_inside, overlap, parse_section
from calibrant.instrument.vocabulary import EFFECTS, KINDS, MISSPELT, nearest

Place = tuple[str | int, ...]
Remark = tuple[Place, str, str, str]


def remarks(instrument: Instrument) -> Iterator[Remark]:
    """Place, what is wrong there, what to do, and ``error`` or ``warning``."""
    yield from _of_rules(instrument)
    for keyword, pattern in instrument.recognise.items():
        yield from _of_regex(("recognise", keyword), pattern, 0)
    for index, pattern in enumerate(instrument.file_name):
        yield from _of_regex(("file_name", index), pattern, 1)
    yield from _of_names(instrument)
    yield from _of_kinds(instrument)
    yield from _of_new_kinds(instrument)
    yield from _of_applied(instrument)
    yield from _of_match(instrument)
    yield from _of_levels(instrument)
    yield from _of_focal_plane(instrument)
    alike: set[int] = set()
    for name, detector in instrument.detectors.items():
        if id(detector) not in alike:
            yield from _of_detector(("detectors", name), detector, instrument.layout.form)
        alike.add(id(detector))


def _of_rules(instrument: Instrument) -> Iterator[Remark]:
    rules: list[tuple[Place, FactRule]] = [
        (("header", name), getattr(instrument.header, name)) for name in type(instrument.header).model_fields
    ]
    rules += [(("keys", name), rule) for name, rule in instrument.keys.items()]
    for place, rule in rules:
        for role in ("file", "pattern"):
            yield from _of_regex((*place, role), getattr(rule, role), 1)
        for unit in {rule.unit, *(keyword.unit for keyword in rule.keywords)}:
            if unit is not None and unit not in UNITS and unit != INVERSE:
                known = [*filter(None, UNITS), INVERSE]
                yield (
                    (*place, "unit"),
                    f"unknown unit {unit!r}{nearest(unit, known)}",
                    f"known: {', '.join(known)}",
                    "error",
                )


def _of_names(instrument: Instrument) -> Iterator[Remark]:
    """Facts that are named to tell versions apart, or to be listed."""
    newest, known = instrument.newest, (*instrument.fact_names, "file", "folder")
    named: list[tuple[Place, tuple[str, ...]]] = [(("columns",), instrument.columns)]
    if newest is not None:
        named += [(("newest", "group"), newest.group), (("newest", "rank"), newest.rank)]
    for place, facts in named:
        for fact in facts:
            if fact not in known:
                yield place, f"unknown fact {fact!r}{nearest(fact, known)}", "", "error"


def _of_regex(place: Place, pattern: str | None, groups: int) -> Iterator[Remark]:
    if pattern is None:
        return
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        yield place, f"not a regular expression: {error}", "mend it", "error"
        return
    if compiled.groups < groups:
        yield place, "the regular expression has no group", "put what is wanted in parentheses", "error"


def _of_kinds(instrument: Instrument) -> Iterator[Remark]:
    made = {instrument.kinds.default}
    for index, rule in enumerate(instrument.kinds.rule):
        made |= {rule.kind} if rule.kind else set()
        made |= set(rule.map.values())
        yield from _of_regex(("kinds", "rule", index, "regex"), rule.regex, 0 if rule.kind else 1)
    stated = instrument.kinds.science if "science" in instrument.kinds.model_fields_set else ()
    for kind in stated:
        if kind not in made:
            near = nearest(kind, sorted(made))
            yield ("kinds", "science"), f"no rule gives the kind {kind!r}{near}", "", "warning"
    for kind in instrument.minimum:
        if kind not in made:
            near = nearest(kind, sorted(made))
            yield ("minimum", kind), f"no rule gives the kind {kind!r}{near}", "", "warning"


def _of_new_kinds(instrument: Instrument) -> Iterator[Remark]:
    """Kinds that only this file knows: misspelt, or not named where kinds are used."""
    used = {*KINDS, *instrument.kinds.science, *instrument.match, *instrument.minimum}
    for index, rule in enumerate(instrument.kinds.rule):
        places: list[tuple[Place, str]] = [(("kind",), rule.kind)] if rule.kind else []
        places += [(("map", word), kind) for word, kind in rule.map.items()]
        for where, kind in places:
            if kind in used:
                continue
            near = nearest(kind, used, MISSPELT)
            do = "" if near else "its frames are left alone unless kinds.science, match or minimum names it"
            place: Place = ("kinds", "rule", index, *where)
            yield place, f"no step knows the kind {kind!r}{near}", do, "error" if near else "warning"


def _of_applied(instrument: Instrument) -> Iterator[Remark]:
    for index, rule in enumerate(instrument.applied):
        for role, effects in (("effects", rule.effects), ("letters", tuple(rule.letters.values()))):
            for effect in effects:
                if effect not in EFFECTS:
                    what = f"unknown effect {effect!r}{nearest(effect, EFFECTS)}"
                    yield ("applied", index, role), what, f"known: {', '.join(EFFECTS)}", "error"


def _of_match(instrument: Instrument) -> Iterator[Remark]:
    known = instrument.fact_names
    for kind, keys in instrument.match.items():
        for key in keys:
            if key not in known:
                yield (
                    ("match", kind),
                    f"unknown match key {key!r}{nearest(key, known)}",
                    "name a fact of [header] or of [keys]",
                    "error",
                )
    for table in ("tolerance", "relative_tolerance"):
        for key, value in getattr(instrument, table).items():
            if key not in known:
                yield (table, key), f"unknown fact {key!r}{nearest(key, known)}", "", "error"
            elif value < 0:
                yield (table, key), f"a tolerance cannot be negative, got {value}", "", "error"


def _of_levels(instrument: Instrument) -> Iterator[Remark]:
    known = sorted({*KINDS, *EFFECTS, *instrument.match})
    for kind in instrument.levels:
        near = nearest(kind, known, MISSPELT)
        if kind not in known and near:
            yield ("levels", kind), f"unknown kind {kind!r}{near}", "", "error"


def _of_focal_plane(instrument: Instrument) -> Iterator[Remark]:
    plane = instrument.focal_plane
    for name in () if plane is None else plane.names:
        if name not in instrument.detectors:
            near = nearest(name, instrument.detectors)
            yield (
                ("focal_plane", "rows"),
                f"no detector is called {name!r}{near}",
                f"known: {', '.join(instrument.detectors)}",
                "error",
            )


def _of_detector(place: Place, detector: Detector, form: str) -> Iterator[Remark]:
    shape = detector.shape
    if shape is not None and min(shape) < 1:
        yield (*place, "shape"), f"a detector has rows and columns, got {list(shape)}", "", "error"
        return
    if form == "amplifiers" and detector.has_blind and shape is None:
        yield place, "amplifiers with overscan in HDUs of their own need shape", "that of one image", "error"
    seen: set[str] = set()
    for index, amp in enumerate(detector.amplifiers):
        here = (*place, "amplifiers", index)
        if amp.name in seen:
            yield (*here, "name"), f"two amplifiers are called {amp.name!r}", "", "error"
        seen.add(amp.name)
        if form == "amplifiers" and (amp.hdu is None or amp.place is None):
            yield here, f"amplifier {amp.name!r} needs hdu and place in this layout", "", "error"
        for role in ("data", "overscan", "parallel_overscan", "prescan"):
            text = getattr(amp, role)
            if text is not None and shape is not None and not is_inside(parse_section(text), shape):
                got = f"{shape[0]} x {shape[1]} rows x cols"
                yield (*here, role), f"{text} lies outside the detector of {got}", "x comes first", "error"
    if form == "single":
        yield from _of_overlaps(place, detector)


def _of_overlaps(place: Place, detector: Detector) -> Iterator[Remark]:
    amps = detector.amplifiers
    shape = detector.shape or (1 << 20, 1 << 20)
    for index, amp in enumerate(amps):
        data = parse_section(amp.data)
        for other in amps[:index]:
            if overlap(data, parse_section(other.data), shape):
                what = f"the data of amplifiers {other.name!r} and {amp.name!r} overlap"
                yield (*place, "amplifiers", index, "data"), what, "each pixel has one amplifier", "error"
        for role in ("overscan", "parallel_overscan", "prescan"):
            text = getattr(amp, role)
            if text is not None and overlap(data, parse_section(text), shape):
                what = f"the {role} of amplifier {amp.name!r} overlaps its data"
                yield (*place, "amplifiers", index, role), what, "these pixels saw no light", "error"
