"""FITS files from outside: headers, images as Sources, raw files written as a camera writes them."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from calibrant.errors import ShapeError
from calibrant.files.atomic import atomic_write
from calibrant.files.cards import CardLike
from calibrant.files.encode import Unit, image_unit, table_unit, write_units
from calibrant.files.frames import flags_of, frame_units, read_other, read_ours
from calibrant.files.header import HDU, Contents, Header, inspect, read_header, scan_headers
from calibrant.files.layouts import refuse_several
from calibrant.files.products import product_units, read_product
from calibrant.files.reading import Pathish
from calibrant.files.records import Records, is_ours
from calibrant.files.source import FitsSource, MosaicSource, Piece
from calibrant.frame import Frame
from calibrant.product import Product
from calibrant.sections import Section, parse_section
from calibrant.stack.source import Source

if TYPE_CHECKING:
    from calibrant.instrument import Instrument

__all__ = [
    "HDU",
    "Contents",
    "FitsSource",
    "Header",
    "MosaicSource",
    "Piece",
    "assemble",
    "atomic_write",
    "cut",
    "inspect",
    "open_source",
    "read",
    "read_header",
    "scan_headers",
    "write",
    "write_raw",
]

Cards = Mapping[str, Any] | Iterable[CardLike]


def open_source(
    path: Pathish, hdu: int | str | None = None, section: Section | str | None = None
) -> FitsSource | MosaicSource:
    """An image of a file as a Source: its header is read now, its pixels when they are asked for.

    Parameters
    ----------
    hdu : int or str, optional
        Index or EXTNAME; by default the only image, or the one that the other planes are about.
    section : Section or str, optional
        The part wanted, as slices or a FITS string ``[x1:x2,y1:y2]``; flipped, it gives a `MosaicSource`.

    Raises
    ------
    FileError
        If the file cannot be used, has no such image, or has several and none was named.
    ShapeError
        If the section reaches outside the image.
    """
    contents = inspect(path)
    if hdu is None and not is_ours(contents):
        refuse_several(contents)
    image = contents.image(hdu)
    source = FitsSource.of(contents, image)
    if section is not None:
        return cut(source, section)
    return replace(source, flags=flags_of(contents, image.index)) if len(contents.hdus) > 1 else source


def cut(source: FitsSource, section: Section | str) -> FitsSource | MosaicSource:
    """A part of an image, laid down backwards where its section runs backwards."""
    part = (parse_section(section) if isinstance(section, str) else section).within(source.shape)
    inner = source.section(part)
    if not (part.flip_rows or part.flip_cols):
        return inner
    return MosaicSource.of(source.name, part.shape, (Piece(inner, 0, 0, part.flip_rows, part.flip_cols),))


def assemble(
    path: Pathish,
    shape: tuple[int, int],
    parts: Sequence[tuple[int | str | None, Section | str, int, int]],
) -> Source:
    """An image of `shape` made of amplifiers' sections: (unit, section in it, first row, first column).

    The sections are laid down from their first row and column in the image; flipped ones backwards.
    """
    contents = inspect(path)
    pieces = []
    for hdu, text, row, col in parts:
        source = FitsSource.of(contents, contents.image(hdu))
        part = _within(text, source, hdu)
        pieces.append(Piece(source.section(part), row, col, part.flip_rows, part.flip_cols))
    return MosaicSource.of(contents.path, shape, tuple(pieces))


def _within(section: Section | str, source: FitsSource, hdu: int | str | None) -> Section:
    """The section with its ends filled in; an error names the file and the unit."""
    part = parse_section(section) if isinstance(section, str) else section
    try:
        return part.within(source.shape)
    except ShapeError:
        raise ShapeError(
            f"the section {part.text} reaches outside the image of HDU {hdu!r}",
            where=source.name,
            expected=f"within {source.shape[0]} x {source.shape[1]} rows x cols",
            do="check shape and sections in the instrument file",
        ) from None


def write_raw(
    path: Pathish,
    data: NDArray[Any] | None,
    cards: Cards = (),
    extensions: Sequence[tuple[str, NDArray[Any] | Mapping[str, NDArray[Any]], Cards]] = (),
    overwrite: bool = False,
) -> None:
    """Write a raw file like a camera's: the numbers as they are, unsigned ones through BZERO.

    Parameters
    ----------
    data : array or None
        Primary image, (rows, cols) or more axes, of integers or floats. None for a file whose images are
        all in extensions.
    cards : mapping, or sequence of (key, value) or (key, value, comment)
        Further cards; keys that describe the structure are not for the caller.
    extensions : sequence of (name, data, cards)
        Images, and as mappings column -> values binary tables.

    Raises
    ------
    OutputExistsError
        If the file exists and `overwrite` is false.
    WriteError
        If it cannot be written.
    """
    units = [image_unit(data, _listed(cards), primary=True)]
    units += [
        table_unit(plane, name, cards=_listed(more))
        if isinstance(plane, Mapping)
        else image_unit(plane, _listed(more), name=name)
        for name, plane, more in extensions
    ]
    _write(path, units, overwrite)


def read(
    path: Pathish,
    layout: str | None = None,
    *,
    hdu: int | str | None = None,
    instrument: Instrument | None = None,
) -> Frame | Product:
    """Read a file: a `Product` if it holds one of ours, otherwise a `Frame` whose planes stay in the file.

    Parameters
    ----------
    layout : str, optional
        How another pipeline's planes sit in it, one of the names in `layouts.LAYOUTS`; found out by default.
    hdu : int or str, optional
        Unit of the data, by index or EXTNAME; by default the only image, or the one the others are about.
    instrument : Instrument, optional
        Whose rules translate the header of a raw file into its exposure; without it that stays unknown,
        unless the file has an HDU for each amplifier: then its instrument is recognised.

    Returns
    -------
    Frame or Product
        The frame's planes are read by its ``load()``; a product is in memory, and its identity was verified.

    Raises
    ------
    FileError
        If the file cannot be used, has several images and none was named, or a product was changed since it
        was written.
    UnitError
        If BUNIT is unknown.
    """
    contents = inspect(path)
    if not is_ours(contents) or layout is not None or hdu is not None:
        if layout is None and hdu is None:
            camera = _by_amplifiers(contents) if instrument is None else instrument
            if camera is not None and camera.layout.form == "amplifiers":
                return read_amplifiers(contents, camera)
        frame = read_other(contents, layout, hdu)
        if instrument is None:
            return frame
        facts = instrument.exposure(Header(frame.header or ""), contents.path)
        return replace(frame, exposure=replace(facts, shape=frame.shape))
    records = Records.read(contents)
    if contents.hdus[0].header.get("CALFORM") == "product":
        return read_product(contents, records)
    frame = read_ours(contents, records)
    return replace(frame, exposure=replace(frame.exposure, path=contents.path))


def read_amplifiers(contents: Contents, instrument: Instrument) -> Frame:
    """The raw image that is made of amplifiers in HDUs of their own, its pixels still in the file.

    Raises
    ------
    FileError
        If an amplifier is missing.
    HeaderError
        If their sections do not fit together.
    """
    from calibrant.instrument.readout import image_shape, parts_of
    from calibrant.instrument.stated import as_stated

    facts = instrument.exposure(contents.header(), contents.path)
    detector = instrument.detector(facts.detector)
    headers = {amp.name: contents.image(amp.hdu).header for amp in detector.amplifiers}
    facts = instrument.with_amplifiers(facts, headers)
    detector, binning = as_stated(detector, facts)
    source = assemble(contents.path, image_shape(detector, binning), parts_of(detector, binning))
    return Frame(cast(Any, source), unit=facts.unit, exposure=facts, header=contents.hdus[0].header.cards)


def _by_amplifiers(contents: Contents) -> Instrument | None:
    """The instrument that recognises a file whose images, several, are all in extensions."""
    if contents.hdus[0].is_image or sum(unit.is_image for unit in contents.hdus) < 2:
        return None
    from calibrant.instrument import load, recognise

    return load(recognise(contents.hdus[0].header))


def write(thing: Frame | Product, path: Pathish, overwrite: bool = False) -> None:
    """Write a frame or product; ``.gz`` and ``.fz`` names are compressed, without loss.

    Raises
    ------
    OutputExistsError
        If the file exists and `overwrite` is false.
    WriteError
        If it cannot be written; nothing is left behind.
    """
    units = product_units(thing) if isinstance(thing, Product) else frame_units(thing)
    _write(path, units, overwrite)


def _write(path: Pathish, units: Iterable[Unit], overwrite: bool) -> None:
    suffix = Path(path).suffix.lower()
    if suffix == ".fz":
        from calibrant.files.compressed import tiled

        units = tiled(units)
    with atomic_write(path, overwrite) as out:
        if suffix == ".gz":
            # No name and no time in it: the same content gives the same bytes.
            with gzip.GzipFile("", "wb", 4, out, mtime=0) as packed:
                write_units(packed, units)
        else:
            write_units(out, units)


def _listed(cards: Cards) -> Iterable[CardLike]:
    return cards.items() if isinstance(cards, Mapping) else cards
