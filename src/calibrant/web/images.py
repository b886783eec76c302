"""What can be looked at: an image with its planes, flags and facts, from a file or from memory."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from calibrant.errors import CalibrantError, FileError, HeaderError, OptionError
from calibrant.files import fits
from calibrant.files.frames import read_other, read_ours
from calibrant.files.header import HDU, Contents, Header, inspect
from calibrant.files.layouts import equals_of
from calibrant.files.products import outline, read_columns
from calibrant.files.ramp import ramp_frame
from calibrant.files.reading import Stamp
from calibrant.files.records import Records, is_ours
from calibrant.files.slope import slope_planes
from calibrant.files.source import FitsSource
from calibrant.files.units import square
from calibrant.frame import DQ, Exposure, Frame, iso_time
from calibrant.instrument import Instrument, load, recognise
from calibrant.instrument.readout import Readout
from calibrant.instrument.sections import bounds
from calibrant.product import Product, Quantity
from calibrant.web import painted
from calibrant.web.painted import Amplifier
from calibrant.web.patchwork import Patchwork
from calibrant.web.planes import Flagged, Plane, is_drawable

FLAGS = ("dq", "read_dq")
NO_IMAGE = "holds no image; its numbers stand with its origin"


@dataclass(frozen=True)
class Piece:
    """A detector within a focal plane: the image that shows it alone, and where it lies; half open."""

    name: str
    image: str
    rows: tuple[int, int]
    cols: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Viewable:
    """One image, its pixels still where they are.

    Attributes
    ----------
    name : str
        For the reader; of a file its name, never its folder.
    kind : str
        Of the exposure or product.
    planes : tuple of Plane
        All of one size, the main one first.
    dq, read_dq : Plane or None
        uint32 flags of pixels; uint8 flags of single reads.
    message : str or None
        Why there is nothing to be seen.
    version : str
        Changes with the pixels: a hash of an array's content, or of the state of a file.
    stamp : Stamp or None
        State of the file when it was opened.
    pieces : tuple of Piece
        Of a focal plane, its detectors.
    """

    name: str
    kind: str
    planes: tuple[Plane, ...] = ()
    dq: Plane | None = None
    read_dq: Plane | None = None
    exposure: Exposure | None = None
    header: str | None = None
    amplifiers: tuple[Amplifier, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    message: str | None = None
    version: str = ""
    path: str | None = None
    stamp: Stamp | None = None
    pieces: tuple[Piece, ...] = ()

    @property
    def shape(self) -> tuple[int, int] | None:
        """Rows, columns; None without an image."""
        return self.planes[0].shape if self.planes else None

    @property
    def reads(self) -> int:
        """Images in the main plane."""
        return self.planes[0].reads if self.planes else 0

    @property
    def is_painted(self) -> bool:
        """Whether there are no pixels, but amplifiers in the colours of their numbers."""
        return any(isinstance(plane.pixels, Patchwork) for plane in self.planes) and not self.pieces

    def plane(self, name: str) -> Plane | None:
        """A plane by name, ``dq`` and ``read_dq`` among them; ``data`` is the main one, whatever its name."""
        if name in FLAGS:
            found: Plane | None = getattr(self, name)
            return found
        main = self.planes[0] if self.planes and name == "data" else None
        return next((plane for plane in self.planes if plane.name == name), main)


Part = tuple[str, Callable[[], Viewable]]
"""What tells an image from the others of its file (empty for the only one), and how to open it."""


# --- files ---


def parts_of_file(path: str, name: str) -> list[Part]:
    """The images of a file: one, or one for each unit or size; headers are read, pixels are not.

    Raises
    ------
    FileError
        If the file is missing or no FITS file.
    """
    contents = inspect(path)
    if is_ours(contents) and contents.hdus[0].header.get("CALFORM") == "product":
        return _product_parts(contents, name)
    if not any(unit.is_image for unit in contents.hdus):
        raise FileError("the file holds no image", where=name, do="name a file with an image of two axes")
    if not is_ours(contents) and not _instrument(contents).recognise:
        alike = equals_of(contents)
        if len(alike) > 1:
            return [(str(unit.index), _unit_opener(contents, unit, name)) for unit in alike]
    return [("", lambda: _of_frame(_frame(contents), name, contents))]


def _unit_opener(contents: Contents, unit: HDU, name: str) -> Callable[[], Viewable]:
    label = f"{name}[{unit.index}{f', {unit.name}' if unit.name else ''}]"

    def opener() -> Viewable:
        frame = read_other(contents, None, unit.index, any_unit=True)
        return _of_frame(_with_facts(frame, _instrument(contents), contents), label, contents)

    return opener


def _instrument(contents: Contents) -> Instrument:
    """The instrument that recognises the file; the general one, which knows no layout, where none does."""
    return load(recognise(contents.hdus[0].header, contents.path))


def _frame(contents: Contents) -> Frame:
    """The frame of a file, with the facts of its instrument where one recognises it."""
    if is_ours(contents):
        return read_ours(contents, Records.read(contents))
    instrument = _instrument(contents)
    form, frame = instrument.layout.form, None
    if form == "amplifiers" and not contents.hdus[0].is_image:
        return fits.read_amplifiers(contents, instrument)
    if form == "ramp":
        frame = ramp_frame(contents.path, instrument.layout.hdu)
    elif form == "slope" and (planes := slope_planes(contents.path, instrument.layout.hdu)) is not None:
        frame = planes.frame("adu/s")
    if frame is None:
        hdu = instrument.layout.hdu
        unit = hdu if _has(contents, hdu) else contents.image().index if instrument.recognise else None
        frame = read_other(contents, None, unit, any_unit=True)
    return _with_facts(frame, instrument, contents)


def _has(contents: Contents, unit: int | str | None) -> bool:
    try:
        contents.image(unit)
    except CalibrantError:
        return False
    return unit is not None


def _with_facts(frame: Frame, instrument: Instrument, contents: Contents) -> Frame:
    try:
        facts = instrument.exposure(Header(frame.header or ""), contents.path)
    except HeaderError:
        return frame  # a broken card is no reason not to show the pixels
    return replace(frame, exposure=replace(facts, shape=frame.shape))


# --- products ---


def _product_parts(contents: Contents, name: str) -> list[Part]:
    """A product's planes, those of one size together; identity and numbers come with each."""
    records = Records.read(contents)
    identity, product = outline(contents, records)
    placed = {
        key: read_columns(contents, records, key, table)
        for key, table in records.all("table")
        if key == painted.TABLE
    }
    product = replace(product, tables=placed)
    found = {
        plane: FitsSource.of(contents, unit)
        for plane, facts in records.all("plane")
        if (unit := contents.find(facts["hdu"])) is not None and unit.is_image
    }
    return list(_product_openers(product, found, identity, name, contents))


def _product_openers(
    product: Product, planes: Mapping[str, Any], identity: str, name: str, contents: Contents | None
) -> Iterator[Part]:
    sizes = _by_size(planes)
    if not sizes:
        yield "", lambda: _of_product(product, {}, identity, name, contents)
    for number, members in enumerate(sizes):
        label = name if number == 0 else f"{name}: {', '.join(members)}"
        part = "" if number == 0 else next(iter(members))
        yield (
            part,
            lambda members=members, label=label: _of_product(  # type: ignore[misc]
                product, members, identity, label, contents
            ),
        )


def _by_size(planes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Planes that are images, those of the same rows and columns together, the main one's first."""
    sizes: dict[tuple[int, int], dict[str, Any]] = {}
    names = sorted((name for name in planes if is_drawable(planes[name])), key=lambda name: name != "data")
    for name in names:
        sizes.setdefault(tuple(planes[name].shape[-2:]), {})[name] = planes[name]
    return list(sizes.values())


def _of_product(
    product: Product, planes: Mapping[str, Any], identity: str, name: str, contents: Contents | None
) -> Viewable:
    dq = planes.get("dq")
    amplifiers = painted.amplifiers_of(product)
    named = {plane: pixels for plane, pixels in planes.items() if pixels is not dq}
    if dq is not None and not named:
        named["flagged"] = Flagged(Plane("dq", "", _flags(dq)))
    shown = tuple(Plane(plane, product.units.get(plane, ""), pixels) for plane, pixels in named.items())
    if not shown and amplifiers:
        size = painted.size_of(amplifiers)
        shown = tuple(painted.planes(painted.patches(product.quantities, amplifiers, size), size))
    elif shown and not amplifiers:
        amplifiers = _amplifiers_of_master(product, shown[0].shape)
    return Viewable(
        name=name,
        kind=product.kind,
        planes=shown,
        dq=None if dq is None else Plane("dq", "", _flags(dq)),
        header=None if contents is None else contents.hdus[0].header.cards,
        amplifiers=amplifiers,
        quantities=product.quantities,
        provenance=product_provenance(product, identity),
        message=None if shown else f"{name} {NO_IMAGE}.",
        version=_version(contents, tuple(planes), planes.values()),
        path=None if contents is None else contents.path,
        stamp=None if contents is None else contents.stamp,
    )


def product_provenance(product: Product, identity: str) -> dict[str, Any]:
    """Where a product comes from, for the page."""
    made = product.provenance
    return {
        "kind": product.kind,
        "instrument": product.instrument,
        "keys": dict(product.keys),
        "epoch": None if product.epoch is None else iso_time(product.epoch),
        "identity": identity,
        "effect": made.effect,
        "created": made.created,
        "inputs": [{"name": Path(entry.name).name, "hash": entry.hash} for entry in made.inputs],
        "parents": list(made.parents),
        "options": dict(made.options),
        "versions": dict(made.versions),
        "notes": list(made.notes),
    }


# --- frames ---


def _of_frame(frame: Frame, name: str, contents: Contents | None) -> Viewable:
    size = tuple(frame.shape[-2:])
    named = {"data": frame.data, "variance": frame.variance, "systematic": frame.systematic, **frame.extra}
    units = {"data": frame.unit, "variance": square(frame.unit), "systematic": square(frame.unit)}
    planes = {
        plane: pixels
        for plane, pixels in named.items()
        if pixels is not None and is_drawable(pixels) and tuple(pixels.shape[-2:]) == size
    }
    if "data" not in planes:
        raise OptionError(
            "a picture needs rows and columns of real numbers",
            where=name,
            got=" x ".join(map(str, frame.shape)),
        )
    return Viewable(
        name=name,
        kind=frame.exposure.kind,
        planes=tuple(Plane(plane, units.get(plane, ""), pixels) for plane, pixels in planes.items()),
        dq=None if frame.dq is None else Plane("dq", "", _flags(frame.dq)),
        read_dq=None if frame.read_dq is None else Plane("read_dq", "", frame.read_dq),
        exposure=frame.exposure,
        header=frame.header,
        amplifiers=_amplifiers(frame),
        provenance={
            "history": [
                {
                    "effect": step.effect,
                    "product": step.product,
                    "options": dict(step.options),
                    "note": step.note,
                }
                for step in frame.history
            ],
            "applied": sorted(frame.exposure.applied),
            "systematic_from": sorted(frame.systematic_from),
        },
        version=_version(contents, (name, *planes), [frame.dq, *planes.values()]),
        path=None if contents is None else contents.path,
        stamp=None if contents is None else contents.stamp,
    )


def _flags(dq: Any) -> Any:
    return dq.astype(np.uint32, copy=False) if isinstance(dq, np.ndarray) else dq


def _amplifiers(frame: Frame) -> tuple[Amplifier, ...]:
    """The amplifiers where the instrument says them: in the raw image, or where they go in a trimmed one."""
    shape = (frame.shape[-2], frame.shape[-1])
    return _placed(frame.exposure, shape, raw=tuple(frame.exposure.shape[-2:]) in (shape, ()))


def _amplifiers_of_master(product: Product, shape: tuple[int, int]) -> tuple[Amplifier, ...]:
    """The amplifiers of a trimmed detector; none where its size is not that of the pixels."""
    given = product.keys.get("binning")
    exposure = Exposure(
        instrument=product.instrument,
        detector=str(product.keys.get("detector", "0")),
        binning=tuple(given) if isinstance(given, (list, tuple)) and len(given) == 2 else (1, 1),
    )
    found = _placed(exposure, shape, raw=False)
    return found if found and painted.size_of(found) == shape else ()


def _placed(exposure: Exposure, shape: tuple[int, int], *, raw: bool) -> tuple[Amplifier, ...]:
    if not exposure.instrument:
        return ()
    try:
        readouts = load(exposure.instrument).readouts(exposure)
        spans = [bounds(one.data if raw else one.place, shape) for one in readouts]
    except CalibrantError:
        return ()
    if len(readouts) < 2 or any(r1 > shape[0] or c1 > shape[1] for _, r1, _, c1 in spans):
        return ()
    return tuple(
        Amplifier(one.name, (r0, r1), (c0, c1), one.gain, one.read_noise, _margins(one, shape) if raw else {})
        for one, (r0, r1, c0, c1) in zip(readouts, spans, strict=True)
    )


def _margins(one: Readout, shape: tuple[int, int]) -> dict[str, tuple[int, int, int, int]]:
    known = {"overscan": one.overscan, "parallel overscan": one.parallel_overscan, "prescan": one.prescan}
    return {name: bounds(section, shape) for name, section in known.items() if section is not None}


# --- memory ---


def parts_of_thing(thing: Any, name: str) -> list[Part]:
    """The images of a Frame, a Product or an array in memory; a bare array is copied as it is now.

    Raises
    ------
    OptionError
        If it is none of these, or holds no real numbers in rows and columns.
    """
    if isinstance(thing, Product):
        planes = {key: np.asarray(plane) for key, plane in thing.planes.items()}
        return list(_product_openers(thing, planes, thing.identity, name, None))
    if isinstance(thing, Frame):
        return [("", lambda: _of_frame(thing, name, None))]
    if hasattr(thing, "uncertainty") and hasattr(thing, "mask"):  # a CCDData
        frame = Frame.from_ccddata(thing)
        return [("", lambda: _of_frame(frame, name, None))]
    array = np.array(thing)
    if not is_drawable(array):
        raise OptionError(
            "this cannot be shown",
            where="show",
            expected="a Frame, a Product, or an array of real numbers with rows and columns",
            got=f"{type(thing).__name__} of shape {array.shape}",
        )
    array.setflags(write=False)
    dq = None
    if np.ma.isMaskedArray(thing):
        mask = np.ma.getmaskarray(thing).reshape(-1, *array.shape[-2:]).any(axis=0)
        dq = np.where(mask, np.uint32(DQ.DO_NOT_USE), np.uint32(0))
    frame = Frame(array, dq=dq, unit="")
    return [("", lambda: _of_frame(frame, name, None))]


def _version(contents: Contents | None, names: tuple[str, ...], planes: Any) -> str:
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8)
    if contents is not None:
        digest.update(repr(contents.stamp).encode())
        return digest.hexdigest()
    for plane in planes:
        if isinstance(plane, np.ndarray):
            digest.update(np.ascontiguousarray(plane).view(np.uint8).reshape(-1).data)
        elif plane is not None:
            digest.update(secrets.token_bytes(8))  # lazy: its state is its own affair
    return digest.hexdigest()
