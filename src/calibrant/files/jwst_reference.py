"""Reference files in the layout of the JWST pipeline: read noise, as CDS in DN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from calibrant.errors import FileError, SelectionError
from calibrant.files.cards import CardLike
from calibrant.files.fits import write_raw
from calibrant.files.header import inspect
from calibrant.files.reading import Pathish
from calibrant.files.source import FitsSource
from calibrant.frame import iso_time
from calibrant.product import Product, Provenance, Quantity

CDS = math.sqrt(2.0)
"""Noise of the difference of two reads by that of one."""
PIECE = 60  # characters of a file's name in a line of history
ANY, GENERIC = "ANY", "GENERIC"


def write_readnoise(product: Product, path: Pathish, overwrite: bool = False) -> None:
    """Write a read noise as a reference file ``READNOISE``: SCI float32, DN, of a difference of two frames.

    The pipeline divides by ``sqrt(2 nframes)``, so it is that of groups of a single frame, unless the product
    is `as_published`. Its words are options of the measurement: author, description, pedigree, useafter,
    history, subarray, readpatt. What it holds is said in cards too: CDSNOISE, and NFRAMES of the ramps.

    Parameters
    ----------
    product : Product
        Kind ``read_noise`` of ramps: plane read_noise [adu] of a single read.

    Raises
    ------
    SelectionError
        If it has no map of ramps.
    OutputExistsError, WriteError
        As of every writer.
    """
    options = product.provenance.options
    if product.kind != "read_noise" or "read_noise" not in product.planes or "author" not in options:
        raise SelectionError("only the read noise of ramps is written as a reference file", got=product.kind)
    cds = np.asarray(product.planes["read_noise"] * np.float32(CDS), np.float32)
    write_raw(path, None, list(_cards(product, cds.shape)), [("SCI", cds, [("BUNIT", "DN")])], overwrite)


def _cards(product: Product, shape: tuple[int, ...]) -> Iterator[CardLike]:
    options, keys = product.provenance.options, product.keys
    yield "TELESCOP", str(options.get("telescope") or "")
    yield "INSTRUME", product.instrument.upper()
    yield "DETECTOR", str(keys.get("detector", ""))
    yield "REFTYPE", "READNOISE"
    yield "DATAMODL", "ReadnoiseModel"
    yield "DATE", product.provenance.created or (iso_time(product.epoch) if product.epoch else "")
    for key, name in (("AUTHOR", "author"), ("DESCRIP", "description"), ("PEDIGREE", "pedigree")):
        yield key, str(options[name])
    yield "USEAFTER", str(options["useafter"])
    yield "READPATT", str(_given(options.get("readpatt")) or ANY)
    yield "SUBARRAY", str(_given(options.get("subarray")) or options.get("files_subarray") or GENERIC)
    for axis, size in (("1", shape[1]), ("2", shape[0])):
        yield f"SUBSTRT{axis}", int(options.get(f"substrt{axis}") or 1)
        yield f"SUBSIZE{axis}", int(size)
    for key in ("fastaxis", "slowaxis"):
        if options.get(key) is not None:
            yield key.upper(), int(options[key])
    yield "CDSNOISE", True, "noise of the difference of two frames, sqrt(2) of one"
    yield "NFRAMES", int(options.get("nframes") or 1), "frames averaged in the groups measured"
    yield "ONEFRAME", not options.get("as_published"), "brought to groups of a single frame"
    yield "IDENTITY", product.identity, "of the product it was made of"
    yield "HISTORY", f"calibrant: read noise by the method {options.get('method')}"
    yield "HISTORY", "DATA USED:"
    for one in product.provenance.inputs:
        name = one.name.rpartition("/")[2]
        yield from (("HISTORY", name[at : at + PIECE]) for at in range(0, len(name), PIECE))
    if options.get("history"):
        yield "HISTORY", str(options["history"])


def _given(word: Any) -> Any:
    """A word, or None where it says none, as configuration files do."""
    return None if word is None or "none" in str(word).lower() else word


def read_readnoise(path: Pathish, instrument: str = "") -> Product:
    """A reference file ``READNOISE`` as a product: the read noise of a single frame, adu.

    Raises
    ------
    FileError
        If it is none.
    """
    contents = inspect(path)
    header, unit = contents.header(), contents.find("SCI")
    if header.get("REFTYPE") != "READNOISE" or unit is None:
        raise FileError(
            "this is no reference file of read noise", where=str(path), expected="REFTYPE = READNOISE, SCI"
        )
    noise = np.asarray(FitsSource.of(contents, unit).load() / np.float32(CDS), np.float32)
    facts = {"detector": "DETECTOR", "subarray": "SUBARRAY", "readpatt": "READPATT"}
    words = {"author": "AUTHOR", "description": "DESCRIP", "pedigree": "PEDIGREE", "useafter": "USEAFTER"}
    said = {name: str(header.get(key) or "") for name, key in words.items()}
    nframes = header.integer("NFRAMES", 1)
    return Product(
        "read_noise",
        instrument=instrument or str(header.get("INSTRUME") or "").lower(),
        keys={name: str(header[key]) for name, key in facts.items() if header.get(key)}
        | {"convention": "single read"},
        planes={"read_noise": noise},
        units={"read_noise": "adu"},
        quantities=(Quantity("read_noise", float(np.nanmedian(noise)), None, "adu"),),
        provenance=Provenance(
            "read_noise",
            options=said | {"history": "", "nframes": nframes, "convention": "single read, adu"},
            notes=(f"read from {path}: CDS, divided by sqrt(2)",),
        ),
    )
