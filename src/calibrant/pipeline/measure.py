"""Measure: a folder of raw frames to measurements of its detectors: gain, linearity, crosstalk and more.

Masters that a measurement needs first are made of the folder too, or found up to date, as a reduction does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrant.errors import CalibrantError
from calibrant.exposures import Exposures
from calibrant.exposures.scan import SUFFIX, Paths
from calibrant.files.fits import read, write
from calibrant.files.hashing import HashCache
from calibrant.instrument import Instrument
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.folders import HASHES, make_folders, remove_empty, scan
from calibrant.pipeline.ledger import Ledger
from calibrant.pipeline.measure_slices import CORRECTED, SlicesWalk
from calibrant.pipeline.measure_walk import FramesWalk, Walk, needs_masters
from calibrant.pipeline.measurements import Measurement, find
from calibrant.pipeline.measurements_slices import Sliced
from calibrant.pipeline.options import check_taken
from calibrant.pipeline.workshop import FOLDER, Workshop
from calibrant.product import Product

__all__ = ["Measured", "find", "folder_of", "measure"]

if TYPE_CHECKING:
    from calibrant.registry import Registry


@dataclass(eq=False)
class Measured:
    """What was measured.

    Attributes
    ----------
    name : str
        Of the measurement.
    out : Path
        Folder of the results.
    entries : list of mapping
        A line for each product: name, file, identity, quantities, notes.
    problems : list of mapping
        Groups of frames or files that gave nothing, and why.
    notes : list of str
        What could not be corrected before.
    exposures : Exposures
        All raw frames that were found.
    workshop : Workshop
        Hands out the products by name.
    seconds : float
    registered : mapping or None
        What was recorded in a registry.
    file : Path or None
        Where the only product is besides, if `out` was to be a file.
    sliced : bool
        Whether it is of slices, each exposure for itself.
    """

    name: str
    out: Path
    entries: list[dict[str, Any]]
    problems: list[dict[str, str]]
    notes: list[str]
    exposures: Exposures
    workshop: Workshop
    seconds: float = 0.0
    registered: Mapping[str, Any] | None = None
    file: Path | None = None
    sliced: bool = False

    def product(self, name: str) -> Product:
        """One of the products."""
        return self.workshop.product(name)


def measure(
    folder: Paths,
    name: str,
    *,
    out: str | Path,
    options: Mapping[str, Any] | None = None,
    where: str | None = None,
    instrument: str | Path | Instrument = "auto",
    recipe: str | Path = "auto",
    kinds: str | Path | None = None,
    corrections: bool = True,
    overwrite: bool = False,
    register: Registry | None = None,
    **engine: Any,
) -> Measured:
    """Measure the detectors of a folder.

    Parameters
    ----------
    folder : path or sequence of paths
        Raw frames: folders, files, globs; folders below them are searched, but for `out`.
    name : str
        Of the measurement: see `calibrant.pipeline.measurements.MEASUREMENTS`.
    out : path
        Folder of the results; made if it is not there. What is there already and was made of the same files
        with the same options is kept. The name of a FITS file: the only product is written there, and all
        else lies in a folder of that name.
    options : mapping, optional
        Of the effect's `measure`.
    where : str, optional
        Which of the frames are measured, such as ``filter=r and exptime>1``; masters are made of all.
    instrument, recipe, kinds
        As of `calibrant.pipeline.run.reduce`; of the recipe, overscan and masters count.
    corrections : bool
        Whether frames are corrected before by what can be measured on them too: a gain is that of linear
        counts.
    overwrite : bool
        Replace files that were made in another way.
    register : Registry, optional
        Where raw frames and products (as drafts) are recorded at the end.
    **engine
        ``runner``, ``budget``, ``progress``, as of `calibrant.combine`.

    Raises
    ------
    SelectionError
        If the folder has no frames that this can be measured on.
    OptionError, ConfigError
        For an option that the effect does not have.
    OutputExistsError, WriteError
        If a file is in the way, or nothing can be written to `out`.
    """
    began = time.monotonic()
    measurement, file = find(name), Path(out)
    target = folder_of(file)
    given = dict(options or {})
    check_taken(f"measure {measurement.name}", measurement.options, given)
    sliced = isinstance(measurement, Sliced)
    exposures = scan(folder, target, instrument, kinds, engine.get("progress"), known=not sliced)
    chosen = recipes.load(exposures.instrument.recipe if recipe == "auto" else recipe)
    masters = isinstance(measurement, Measurement) and needs_masters(measurement)
    inner = {FOLDER: masters, CORRECTED: bool(given.get("correct"))}
    made = make_folders(target, *(name for name, wanted in inner.items() if wanted))
    hashes = HashCache(target / HASHES)
    workshop = Workshop(chosen, Ledger.of(target, overwrite), hashes, engine)
    try:
        walk = _walk(
            measurement,
            exposures=exposures,
            workshop=workshop,
            options=given,
            corrections=corrections,
            alone=file != target,
        )
        try:
            walk.go(where)
        finally:
            hashes.save()
    except BaseException:
        remove_empty(target, made)
        raise
    measured = Measured(
        measurement.name,
        target,
        walk.entries,
        walk.problems,
        walk.notes,
        exposures,
        workshop,
        sliced=sliced,
    )
    if file != target:
        _write_alone(measured, file, overwrite)
    if register is not None:
        measured.registered = _registered(measured, register, hashes)
    measured.seconds = round(time.monotonic() - began, 3)
    return measured


def folder_of(out: Path) -> Path:
    """The folder of the results: `out` itself, or beside a FITS file one of its name."""
    return out.with_suffix("") if SUFFIX.search(out.name) else out


def _write_alone(measured: Measured, file: Path, overwrite: bool) -> None:
    """The only product as the file that was asked for; one that holds it already stays."""
    measured.file = file
    product = measured.product(measured.entries[0]["name"])
    if file.exists():
        with contextlib.suppress(CalibrantError):
            if getattr(read(file), "identity", None) == product.identity:
                return
    write(product, file, overwrite=overwrite)


def _registered(measured: Measured, registry: Registry, hashes: HashCache) -> dict[str, Any]:
    from calibrant.pipeline.register import record_files

    files = [measured.out / entry["file"] for entry in measured.workshop.entries.values()]
    return record_files(files, measured.exposures, registry, hashes)


def _walk(measurement: Measurement | Sliced, **how: Any) -> Walk:
    if isinstance(measurement, Sliced):
        return SlicesWalk(measurement=measurement, **how)
    return FramesWalk(measurement=measurement, **how)
