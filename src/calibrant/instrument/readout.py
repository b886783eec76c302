"""The amplifiers of one image as slices of it, whatever binning and layout it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from calibrant.errors import ConfigError, HeaderError
from calibrant.frame import Exposure
from calibrant.instrument.clock import Clock
from calibrant.instrument.detector import Amplifier, Detector, HeaderSections
from calibrant.instrument.rules import Header
from calibrant.instrument.sections import Section, binned, bounds, format_section, is_inside, parse_section
from calibrant.instrument.stated import amplifier_key, as_stated, section_of

WHOLE: Section = (slice(None), slice(None))
ROLES = ("data", "overscan", "parallel_overscan", "prescan")
Part = tuple[int | str | None, str, int, int]
"""HDU, section of its image, and the first row and column where it goes."""


@dataclass(frozen=True)
class Readout:
    """One amplifier's part of an image, as slices (rows, columns) of that image.

    Attributes
    ----------
    data : tuple of slice
        Pixels that saw light.
    overscan, parallel_overscan, prescan : tuple of slice or None
        Pixels that did not.
    place : tuple of slice
        Where `data` goes in the assembled image; the whole of it for a single amplifier.
    gain, read_noise, saturation, full_well : float or None
        e-/adu, e-, adu, e-.
    """

    name: str = ""
    data: Section = WHOLE
    overscan: Section | None = None
    parallel_overscan: Section | None = None
    prescan: Section | None = None
    place: Section = WHOLE
    corner: str = "lower-left"
    gain: float | None = None
    read_noise: float | None = None
    saturation: float | None = None
    full_well: float | None = None
    hdu: int | str | None = None


def readouts_of(detector: Detector, exposure: Exposure, form: str) -> tuple[Readout, ...]:
    """The amplifiers of an image, their sections as slices of it.

    Raises
    ------
    HeaderError
        If a section does not lie in the image.
    """
    detector, binning = as_stated(detector, exposure)
    if detector.from_header is not None and any(f"{role}_section" in exposure.keys for role in ROLES):
        found: tuple[Readout, ...] = (_of_header(detector, exposure),)
    elif detector.amplifiers:
        found = _placed([_readout(amp, detector, binning, exposure.keys) for amp in detector.amplifiers])
    else:
        found = (_with_nominal(Readout(), detector),)
    if form == "amplifiers":
        found = _in_one_image(found, detector, binning)
    if len(exposure.shape) >= 2:
        _check_inside(found, (exposure.shape[-2], exposure.shape[-1]), exposure.path)
    return found


def of_outputs(detector: Detector, clock: Clock) -> tuple[Readout, ...]:
    """The outputs of an array as amplifiers, ``1`` the first that is read, their columns as slices."""
    found = []
    for number in range(clock.outputs):
        begin = number * clock.width if clock.fast > 0 else clock.cols - (number + 1) * clock.width
        block = slice(begin, begin + clock.width)
        whole = slice(0, clock.rows)
        section = (whole, block) if abs(clock.fast) == 1 else (block, whole)
        found.append(_with_nominal(Readout(name=str(number + 1), data=section, place=section), detector))
    return tuple(found)


def image_shape(detector: Detector, binning: tuple[int, int]) -> tuple[int, int]:
    """Rows, columns of the image that is made of amplifiers in HDUs of their own."""
    if detector.has_blind:
        rows, cols = _unit_shape(detector, binning)
        return rows, cols * len(detector.amplifiers)
    places = [bounds(_readout(amp, detector, binning).place, (0, 0)) for amp in detector.amplifiers]
    return max(place[1] for place in places), max(place[3] for place in places)


def parts_of(detector: Detector, binning: tuple[int, int]) -> tuple[Part, ...]:
    """What of which HDU goes where in that image."""
    parts: list[Part] = []
    for index, amp in enumerate(detector.amplifiers):
        if detector.has_blind:
            rows, cols = _unit_shape(detector, binning)
            parts.append((amp.hdu, f"[1:{cols},1:{rows}]", 0, index * cols))
        else:
            readout = _readout(amp, detector, binning)
            place = bounds(readout.place, (0, 0))
            parts.append((amp.hdu, format_section(readout.data), place[0], place[2]))
    return tuple(parts)


def _unit_shape(detector: Detector, binning: tuple[int, int]) -> tuple[int, int]:
    if detector.shape is None:
        raise ConfigError("a detector of several HDUs with overscan needs shape: of one HDU's image")
    return detector.shape[0] // binning[0], detector.shape[1] // binning[1]


def _in_one_image(
    readouts: tuple[Readout, ...], detector: Detector, binning: tuple[int, int]
) -> tuple[Readout, ...]:
    if not detector.has_blind:
        return tuple(replace(readout, data=readout.place) for readout in readouts)
    cols = _unit_shape(detector, binning)[1]
    return tuple(_shifted(readout, index * cols) for index, readout in enumerate(readouts))


def _shifted(readout: Readout, by: int) -> Readout:
    moved: dict[str, Any] = {
        role: _moved(section, by) for role in ROLES if (section := getattr(readout, role)) is not None
    }
    return replace(readout, **moved)


def _moved(section: Section, by: int) -> Section:
    rows, cols = section
    if cols.step == -1:
        stop = -1 if cols.stop is None else cols.stop
        return rows, slice(cols.start + by, None if stop + by < 0 else stop + by, -1)
    return rows, slice((cols.start or 0) + by, cols.stop + by)


def header_sections(sections: HeaderSections, header: Header) -> dict[str, str]:
    """Section strings of a header as free facts, ``data_section`` and so on, to be kept with the exposure."""
    found = ((role, section_of(getattr(sections, role), header)) for role in ROLES)
    return {f"{role}_section": text for role, text in found if text is not None}


def _of_header(detector: Detector, exposure: Exposure) -> Readout:
    try:
        sections: dict[str, Any] = {
            role: parse_section(exposure.keys[f"{role}_section"])
            for role in ROLES
            if f"{role}_section" in exposure.keys
        }
    except ConfigError as error:
        raise HeaderError(
            f"{error.where} in the header: {error.what}", where=exposure.path, expected=error.expected
        ) from None
    if "data" not in sections and "overscan" in sections and len(exposure.shape) >= 2:
        sections["data"] = _beside(sections["overscan"], (exposure.shape[-2], exposure.shape[-1]))
    return _with_nominal(Readout(**sections), detector)


def _beside(overscan: Section, shape: tuple[int, int]) -> Section:
    """The columns on the wider side of an overscan, where the header does not say which are the data."""
    _, _, first, end = bounds(overscan, shape)
    return slice(0, shape[0]), slice(0, first) if first >= shape[1] - end else slice(end, shape[1])


def _with_nominal(readout: Readout, detector: Detector) -> Readout:
    facts = {n: getattr(detector, n) for n in ("gain", "read_noise", "saturation", "full_well")}
    return replace(readout, **facts)


def _readout(
    amp: Amplifier,
    detector: Detector,
    binning: tuple[int, int],
    keys: Mapping[str, Any] = MappingProxyType({}),
) -> Readout:
    def cut(text: str | None) -> Section | None:
        return None if text is None else binned(parse_section(text), binning)

    def value(name: str) -> float | None:
        own: float | None = getattr(amp, name)
        own = keys.get(amplifier_key(name, amp.name)) if own is None else own
        return getattr(detector, name) if own is None else own

    return Readout(
        name=amp.name,
        data=cut(amp.data) or WHOLE,
        overscan=cut(amp.overscan),
        parallel_overscan=cut(amp.parallel_overscan),
        prescan=cut(amp.prescan),
        place=cut(amp.place) or WHOLE,
        corner=amp.corner,
        gain=value("gain"),
        read_noise=value("read_noise"),
        saturation=value("saturation"),
        full_well=value("full_well"),
        hdu=amp.hdu,
    )


def _placed(readouts: list[Readout]) -> tuple[Readout, ...]:
    """Give those without a place one: the data sections moved together, what lies between taken out."""
    if len(readouts) == 1 or all(readout.place != WHOLE for readout in readouts):
        return tuple(readouts)
    spans = [bounds(readout.data, (0, 0)) for readout in readouts]
    rows = _closed_up([span[:2] for span in spans])
    cols = _closed_up([span[2:] for span in spans])
    return tuple(
        replace(readout, place=(rows[span[:2]], cols[span[2:]])) if readout.place == WHOLE else readout
        for readout, span in zip(readouts, spans, strict=True)
    )


def _closed_up(spans: list[tuple[int, int]]) -> dict[tuple[int, int], slice]:
    places, end = {}, 0
    for span in sorted(set(spans)):
        places[span] = slice(end, end + span[1] - span[0])
        end += span[1] - span[0]
    return places


def _check_inside(readouts: tuple[Readout, ...], shape: tuple[int, int], path: str | None) -> None:
    for readout in readouts:
        for role in ROLES:
            section = getattr(readout, role)
            if section is not None and not is_inside(section, shape):
                r0, r1, c0, c1 = bounds(section, shape)
                raise HeaderError(
                    f"the {role} section lies outside the image",
                    where=path,
                    expected=f"within {shape[0]} x {shape[1]} rows x cols",
                    got=f"rows {r0} to {r1}, columns {c0} to {c1}",
                    do="check the instrument file, or the header's section",
                )
