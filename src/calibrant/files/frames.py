"""Frames in files of our layout: SCI, VAR, SYS, DQ with its definitions, further planes, PROVENANCE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import UnitError
from calibrant.files import original
from calibrant.files.cards import CardLike, format_card
from calibrant.files.encode import Unit, image_unit
from calibrant.files.header import Contents
from calibrant.files.layouts import ErrorPlane, FlagPlane, find_planes, flag_plane
from calibrant.files.records import (
    DQ_DEF,
    LAYOUT_VERSION,
    PROVENANCE,
    VERSION,
    Records,
    Row,
    definitions_unit,
    provenance_unit,
    unique,
)
from calibrant.files.source import FitsSource
from calibrant.files.units import parse_unit, square
from calibrant.frame import Applied, Exposure, Frame, Plane

_PLANES = {"data": "SCI", "variance": "VAR", "systematic": "SYS", "dq": "DQ", "read_dq": "READDQ"}
_RESERVED = {*_PLANES.values(), "PRIMARY", PROVENANCE, DQ_DEF, "QUANTITIES"}


def frame_units(frame: Frame) -> Iterator[Unit]:
    """The units of a frame, one plane in memory after the other: data and errors float32, dq uint32."""
    kept, sky = original.split(frame.header or "")
    if frame.unit.startswith("electron") and any(step.effect == "gain" for step in frame.history):
        kept = original.in_electrons(kept)
    yield _primary(frame, kept)
    plane = _loaded(frame.data, np.float32)
    unit = image_unit(plane, _unit_cards(frame.unit, "values"), name="SCI")
    yield Unit(unit.cards + sky, unit.data)
    for name, what in (("variance", "independent variance"), ("systematic", "variance of the calibrations")):
        errors = getattr(frame, name)
        if errors is not None:
            plane = _loaded(errors, np.float32)
            yield image_unit(plane, _unit_cards(square(frame.unit), what), name=_PLANES[name])
    if frame.dq is not None:
        yield image_unit(_loaded(frame.dq, np.uint32), [("COMMENT", "bits as in DQ_DEF")], name="DQ")
    if frame.read_dq is not None:
        yield image_unit(_loaded(frame.read_dq, np.uint8), name="READDQ")
    rows, taken = list(_frame_rows(frame)), set(_RESERVED)
    for name, extra in frame.extra.items():
        plane = _loaded(extra, None)
        label = unique(name, taken)
        rows.append(("plane", name, {"hdu": label, "dtype": plane.dtype.newbyteorder("<").str}))
        yield image_unit(plane, name=label)
    if frame.dq is not None:
        yield definitions_unit()
    yield provenance_unit(rows)


def read_ours(contents: Contents, records: Records) -> Frame:
    """A frame of our layout, its planes still in the file."""

    def plane(name: str) -> FitsSource | None:
        hdu = contents.find(_PLANES[name])
        return None if hdu is None else FitsSource.of(contents, hdu)

    data_hdu, dq_hdu = contents.image("SCI"), contents.find("DQ")
    facts = records.mapping("frame")
    return Frame(
        data=FitsSource.of(contents, data_hdu),
        variance=plane("variance"),
        systematic=plane("systematic"),
        dq=None if dq_hdu is None else flag_plane(contents, dq_hdu),
        unit=str(facts.get("unit", "")),
        exposure=_exposure(records.mapping("exposure")),
        history=tuple(_applied(name, facts) for name, facts in records.all("applied")),
        header=original.join(contents.hdus[0].header.cards, data_hdu.header.cards),
        systematic_from=frozenset(facts.get("systematic_from", ())),
        read_dq=plane("read_dq"),
        extra={
            name: FitsSource.of(contents, contents.image(facts["hdu"]))
            for name, facts in records.all("plane")
        },
    )


def read_other(
    contents: Contents, layout: str | None = None, hdu: int | str | None = None, *, any_unit: bool = False
) -> Frame:
    """A frame of another pipeline's layout, or a raw one, its planes still in the file.

    With `any_unit` an unknown BUNIT stays as it is written, for those who only look at the pixels.

    Raises
    ------
    FileError
        If there is no image.
    UnitError
        If BUNIT is unknown.
    """
    planes = find_planes(contents, layout, hdu)
    variance: FitsSource | ErrorPlane | None = None
    if planes.error is not None:
        source = FitsSource.of(contents, planes.error)
        variance = source if planes.form == "variance" else ErrorPlane(source, planes.form)
    dq = None if planes.dq is None else flag_plane(contents, planes.dq)
    extra: dict[str, Plane] = {}
    if dq is not None and dq.mask and planes.layout != "primary-uncert-mask":
        extra["dq_original"] = dq.source  # undefined bits: kept for whoever knows what they mean
    header = contents.header(planes.data.index)
    text = header.get("BUNIT")
    try:
        unit = parse_unit(text if isinstance(text, str) else None, contents.path)
    except UnitError:
        if not any_unit:
            raise
        unit = str(text).strip()
    return Frame(
        data=FitsSource.of(contents, planes.data),
        variance=variance,
        dq=dq,
        unit=unit or "adu",
        exposure=Exposure(shape=planes.data.shape, path=contents.path),
        header=header.cards,
        read_dq=None if planes.read_dq is None else FitsSource.of(contents, planes.read_dq),
        extra=extra,
    )


def flags_of(contents: Contents, hdu: int | str | None = None) -> FlagPlane | None:
    """The dq plane that belongs to an image of a file, in whatever layout; None if there is none."""
    planes = find_planes(contents, None, hdu)
    return None if planes.dq is None else flag_plane(contents, planes.dq)


def exposure_rows(exposure: Exposure) -> Iterator[Row]:
    """The facts of an exposure that are known."""
    for entry in fields(exposure):
        value = getattr(exposure, entry.name)
        if value is not None:
            yield "exposure", entry.name, value


def _primary(frame: Frame, kept: str) -> Unit:
    taken = original.keys(kept)
    cards: list[CardLike] = [(VERSION, LAYOUT_VERSION, "version of this layout"), ("CALFORM", "frame")]
    cards += [card for card in _facts(frame.exposure) if card[0] not in taken]
    cards += [("HISTORY", _line(step)) for step in frame.history]
    text = "".join(format_card(*card) for card in cards)
    if kept:
        text += format_card("COMMENT", original.MARK) + kept
    return Unit(image_unit(None, primary=True).cards + text)


def _facts(exposure: Exposure) -> Iterator[CardLike]:
    """What others look for in a header, for frames that were made and not taken."""
    facts: tuple[tuple[str, Any, str], ...] = (
        ("IMAGETYP", None if exposure.kind == "unknown" else exposure.kind, "kind of frame"),
        ("OBJECT", exposure.object, ""),
        ("DATE-OBS", None if exposure.time is None else exposure.time.rstrip("Z"), "begin, UTC"),
        ("EXPTIME", exposure.duration, "[s] time of exposure"),
        ("DARKTIME", exposure.dark_time, "[s] time of collecting dark current"),
        ("CCD-TEMP", exposure.temperature, "[C] temperature of the detector"),
        ("FILTER", exposure.filter, ""),
        ("XBINNING", exposure.binning[1], "columns"),
        ("YBINNING", exposure.binning[0], "rows"),
    )
    return (card for card in facts if card[1] is not None)


def _line(step: Applied) -> str:
    """One step for the reader."""
    text = f"calibrant: {step.effect}"
    if step.product:
        text += f" with {step.product[:19]}"
    if step.options:
        text += ", " + ", ".join(f"{name}={value}" for name, value in step.options.items())
    return text + (f"; {step.note}" if step.note else "")


def _unit_cards(unit: str, what: str) -> list[CardLike]:
    return [("BUNIT", unit, f"unit of the {what}")] if unit else []


def _frame_rows(frame: Frame) -> Iterator[Row]:
    yield "frame", "unit", frame.unit
    yield "frame", "systematic_from", frame.systematic_from
    yield from exposure_rows(frame.exposure)
    for step in frame.history:
        facts = {"product": step.product, "options": dict(step.options), "note": step.note}
        yield "applied", step.effect, facts


def _applied(effect: str, facts: dict[str, Any]) -> Applied:
    return Applied(effect, facts["product"], facts["options"], facts["note"])


def _exposure(facts: dict[str, Any]) -> Exposure:
    known = {entry.name for entry in fields(Exposure)}
    chosen = {name: value for name, value in facts.items() if name in known}
    chosen["applied"] = frozenset(chosen.get("applied", ()))
    return Exposure(**chosen)


def _loaded(plane: Plane, dtype: type[np.generic] | None) -> NDArray[Any]:
    array = plane if isinstance(plane, np.ndarray) else plane.load()
    return array if dtype is None else array.astype(dtype, copy=False)
