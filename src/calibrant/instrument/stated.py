"""Sections that the HDUs of amplifiers state of themselves, and the detector as they describe it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from calibrant.errors import ConfigError, HeaderError
from calibrant.frame import Exposure
from calibrant.instrument.detector import Amplifier, Detector, HeaderSections
from calibrant.instrument.rules import Header
from calibrant.instrument.sections import (
    Section,
    bounds,
    format_section,
    is_inside,
    overlap,
    parse_section,
    section_shape,
)

BLIND = ("overscan", "parallel_overscan", "prescan")
ROLES = ("data", *BLIND, "place")
HUGE = (1 << 31, 1 << 31)
Shape = tuple[int, int]
Stated = tuple[tuple[str, str], ...]
"""Roles and section strings of one HDU."""


def amplifier_key(fact: str, name: str) -> str:
    """Free fact under which an exposure keeps what the HDU of an amplifier states."""
    return f"{fact}_of_{name}"


def section_of(keywords: tuple[str, ...], header: Header) -> str | None:
    """The first section that one of these cards states; some software writes an empty one as zeros."""
    for keyword in keywords:
        text = str(header.get(keyword) or "").strip()
        if text and text not in ("[]", "[0:0,0:0]"):
            return text
    return None


def stated_sections(
    detector: Detector, headers: Mapping[str, Header], shape: Shape, path: str | None
) -> dict[str, str]:
    """Sections of all amplifiers as free facts, where the HDUs state others than the instrument file.

    A role that a header leaves out lies as in the file: beside the data, up to the edge of the image.

    Parameters
    ----------
    headers : mapping
        Name of the amplifier -> cards of its HDU alone.
    shape : tuple of int
        Rows, columns of the image of every HDU.

    Raises
    ------
    HeaderError
        If DATASEC or DETSEC of one is missing, a section is none or lies outside its image, data do not fit
        their place, or two amplifiers have the same place.
    """
    rules = detector.from_header
    if rules is None:
        return {}
    told = tuple(_stated(rules, headers[amp.name]) for amp in detector.amplifiers)
    if not any(told):
        return {}
    try:
        return dict(_completed(detector, told, shape))
    except HeaderError as error:
        error.where = path
        raise


def as_stated(detector: Detector, exposure: Exposure) -> tuple[Detector, tuple[int, int]]:
    """The detector as its HDUs describe it, and the binning that is still to be applied to its sections.

    Sections of headers are those of the image as it was binned.
    """
    amplifiers, keys = detector.amplifiers, exposure.keys
    if not amplifiers or amplifier_key("data", amplifiers[0].name) not in keys:
        return detector, exposure.binning
    changed = tuple(
        amp.model_copy(update={role: keys.get(amplifier_key(role, amp.name)) for role in ROLES})
        for amp in amplifiers
    )
    shape = exposure.shape[-2], exposure.shape[-1] // len(amplifiers)
    return detector.model_copy(update={"amplifiers": changed, "shape": shape}), (1, 1)


def _stated(rules: HeaderSections, header: Header) -> Stated:
    found = ((role, section_of(getattr(rules, role), header)) for role in ROLES)
    return tuple((role, text) for role, text in found if text is not None)


@lru_cache(maxsize=64)  # all files of a detector state the same
def _completed(detector: Detector, told: tuple[Stated, ...], shape: Shape) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    places: dict[str, Section] = {}
    same = shape == detector.shape
    for amp, stated in zip(detector.amplifiers, told, strict=True):
        sections = _sections(amp, dict(stated), shape)
        _check(amp.name, sections, shape)
        for name, place in places.items():
            if overlap(place, sections["place"], HUGE):
                raise HeaderError(
                    f"the amplifiers {name} and {amp.name} have the same place: their DETSEC overlap",
                    got=f"{format_section(places[name])} and {format_section(sections['place'])}",
                    do="mend the headers of these HDUs",
                )
        places[amp.name] = sections["place"]
        texts = {role: format_section(section) for role, section in sections.items()}
        same = same and all(texts.get(role) == getattr(amp, role) for role in ROLES)
        found += [(amplifier_key(role, amp.name), text) for role, text in texts.items()]
    return () if same else tuple(found)


def _sections(amp: Amplifier, stated: dict[str, str], shape: Shape) -> dict[str, Section]:
    """All sections of one amplifier: as stated, else as the file's lie beside the data."""
    own = {role: _parsed(amp.name, role, text) for role, text in stated.items()}
    if "data" not in own:
        raise _missing(amp.name, "DATASEC")
    of_file: dict[str, Section] = {
        role: parse_section(text) for role in ROLES if (text := getattr(amp, role)) is not None
    }
    if "place" not in own:
        if stated["data"].replace(" ", "") != amp.data or "place" not in of_file:
            raise _missing(amp.name, "DETSEC")
        own["place"] = of_file["place"]
    for role in BLIND:
        if role not in own and role in of_file:
            beside = _beside(own["data"], of_file["data"], of_file[role], shape)
            if beside is not None:
                own[role] = beside
    return own


def _missing(name: str, card: str) -> HeaderError:
    return HeaderError(
        f"the HDU of amplifier {name} has no {card}",
        do="add the card, or leave the sections out of all HDUs: then those of the instrument file hold",
    )


def _parsed(name: str, role: str, text: str) -> Section:
    try:
        return parse_section(text)
    except ConfigError as error:
        raise HeaderError(
            f"the {role} section of amplifier {name} cannot be read: {error.what}",
            expected=error.expected,
            got=repr(text),
        ) from None


def _beside(data: Section, file_data: Section, file_blind: Section, shape: Shape) -> Section | None:
    """The pixels on that side of the data where the file's lie; None if there are none."""
    spans: list[slice] = []
    ours, theirs, blind = bounds(data, shape), bounds(file_data, HUGE), bounds(file_blind, HUGE)
    for axis in (0, 1):
        begin, end = ours[2 * axis : 2 * axis + 2]
        first, last = theirs[2 * axis : 2 * axis + 2]
        if blind[2 * axis] >= last:
            begin, end = end, shape[axis]
        elif blind[2 * axis + 1] <= first:
            begin, end = 0, begin
        spans.append(slice(begin, end))
    rows, cols = spans
    return (rows, cols) if rows.start < rows.stop and cols.start < cols.stop else None


def _check(name: str, sections: dict[str, Any], shape: Shape) -> None:
    for role, section in sections.items():
        if role != "place" and not is_inside(section, shape):
            raise HeaderError(
                f"the {role} section of amplifier {name} lies outside its image",
                expected=f"within {shape[0]} x {shape[1]} rows x cols",
                got=format_section(section),
                do="mend the header of this HDU",
            )
    data, place = section_shape(sections["data"], shape), section_shape(sections["place"], HUGE)
    if data != place:
        raise HeaderError(
            f"the DATASEC of amplifier {name} has another size than its DETSEC",
            expected=f"{data[0]} x {data[1]} rows x cols",
            got=f"{place[0]} x {place[1]} at {format_section(sections['place'])}",
        )
