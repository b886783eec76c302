"""Flat structure: an inventory of what is seen in flats, and what each of it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from calibrant.effects import _structure_profiles as profiles
from calibrant.effects import _structure_words as words
from calibrant.effects._structure_digest import Digest, digest
from calibrant.effects._structure_finding import STRUCTURES, Finding
from calibrant.effects._structure_finding import table as structures_table
from calibrant.effects._structure_geometry import geometry, places_of
from calibrant.effects._structure_light import Levels, Light, in_dark, judge, with_dark, with_gains
from calibrant.effects._structure_search import Search
from calibrant.effects.common import Progress, versions
from calibrant.errors import OptionError, SelectionError, ShapeError
from calibrant.frame import DQ
from calibrant.instrument import Instrument
from calibrant.product import Kind, Product, Provenance, Quantity

NAME = "flat_structure"
REACH = "frame"
NEEDS: tuple[str, ...] = ("flat",)
FORBIDS: tuple[str, ...] = ()
MATCH_AS = "flat"
KIND = Kind(
    NAME,
    quantities={
        "amplifier_steps": "Level of the amplifier that differs most, per cent of the mean of its detector.",
        "vignetting": "Loss from the brightest to the faintest place, per cent.",
        "dust_shadow": "Mean loss within the most significant shadow, per cent.",
        "edge_roll_off": "Loss at the very edge, per cent.",
        "tree_rings": "rms over the detector, per cent.",
        "chromatic_pattern": "rms over the detector of a band against what most bands have, per cent.",
        "fringes": "The same for a pattern of parallel waves.",
        "column": "Departure of a column from those beside it, per cent.",
        "periodic_pattern": "Amplitude of the sine in the order of the readout, per cent.",
        "pixel_response": "rms of single pixels beyond the noise of the flat, per cent.",
    },
)
"""Tables: ``inventory`` (one row for each structure that was looked for), ``structures`` (one for each place
and band), ``profiles`` and ``flats``; their columns stand in docs/effects/flat_structure.md."""

BRIGHTER = 1.3  # ratio of levels from which on two flats of a band tell light from counts

Flats = Iterable[Product] | Mapping[str, Mapping[str, Product]]


def measure(
    flats: Flats,
    *,
    instrument: Instrument | None = None,
    products: Mapping[str, Product] | None = None,
    darks: Mapping[str, Product] | None = None,
    threshold: float = 5.0,
    progress: Progress | None = None,
) -> Product:
    """The inventory of the structure of flats of several detectors and bands.

    Parameters
    ----------
    flats : iterable of Product, or mapping of detector to mapping of band to Product
        Kind flat; each is looked at once, in turn, and not kept: a generator may read them from files.
        Two of one detector and band whose levels differ by 30 % or more tell light from counts.
    instrument : Instrument, optional
        Amplifiers and focal plane. Flats of another size than the instrument's are taken as binned.
    products : mapping of str to Product, optional
        Detector -> product with a table ``amplifiers`` (``name``, ``place``), such as a gain or an overscan:
        before the flat's own table, and before the instrument. Gains are held against the steps.
    darks : mapping of str to Product, optional
        Detector -> dark: bright columns that it shows hold charge, not light.
    threshold : float
        Sigmas from which on a structure is found.
    progress : callable, optional
        Called with flats done, flats so far, and a word.

    Returns
    -------
    Product
        Kind ``flat_structure``; quantities in per cent, of the most significant finding of each structure.

    Raises
    ------
    SelectionError
        No flats, something else than flats, flats of several instruments, or none with good pixels.
    ShapeError
        Flats of one detector that differ in size.
    OptionError
        For a threshold below 3.
    """
    if not threshold >= 3.0:
        raise OptionError("a threshold below 3 sigma invents structures", where="threshold", got=threshold)
    notes: list[str] = []
    digests = _digests(_all(flats), instrument, products or {}, threshold, notes, progress)
    bright, faint, levels = _levels(digests, notes)
    search = Search(bright, threshold).run()
    findings = search.findings()
    dimmer = Search(faint, threshold).run().findings() if faint else []
    lights = judge(findings, dimmer, levels)
    remarks = _remarks(search, lights, findings, darks or {}, notes)
    remarks["amplifier_steps"] = with_gains(bright, products or {})
    unit = bright[0].geometry.unit
    tables = {
        "inventory": words.inventory(
            findings, lights, threshold=threshold, unit=unit, detectors=search.detectors, bands=search.bands,
            remarks=remarks,
        ),
        "structures": structures_table(findings, [words.sentence(f, unit) for f in findings]),
        "profiles": profiles.table(search, unit),
        "flats": _flats_table(digests),
    }  # fmt: skip
    keys = {"detector": search.detectors[0]} if len(search.detectors) == 1 else {}
    return Product(
        NAME,
        instrument="" if instrument is None else instrument.name,
        keys=keys,
        tables=tables,
        units=_units(unit),
        quantities=tuple(_quantities(findings)),
        provenance=Provenance(
            effect=NAME,
            parents=tuple(dict.fromkeys(d.identity for d in digests)),
            options={"threshold": threshold},
            versions=versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            notes=tuple(notes),
        ),
    )


def _all(flats: Flats) -> Iterator[Product]:
    if isinstance(flats, Mapping):
        return (flat for bands in flats.values() for flat in bands.values())
    return iter(flats)


def _digests(
    flats: Iterator[Product],
    instrument: Instrument | None,
    products: Mapping[str, Product],
    threshold: float,
    notes: list[str],
    progress: Progress | None,
) -> list[Digest]:
    found: list[Digest] = []
    names: set[str] = set()
    shapes: dict[str, tuple[int, ...]] = {}
    done = 0
    for done, flat in enumerate(flats, 1):
        detector, band = str(flat.keys.get("detector", "")), str(flat.keys.get("filter", ""))
        if flat.kind != "flat":
            raise SelectionError("the inventory is of flats", expected="products of kind flat", got=flat.kind)
        names.add(flat.instrument)
        if len(names) > 1:
            raise SelectionError("the flats are of several instruments", got=", ".join(sorted(names)))
        if shapes.setdefault(detector, flat.data.shape) != flat.data.shape:
            raise ShapeError(
                f"flats of detector {detector} differ in size",
                expected=shapes[detector],
                got=flat.data.shape,
                do="take flats of one binning",
            )
        if not _has_values(flat):
            notes.append(f"left out, no good pixel: the flat of detector {detector}, band {band}")
            continue
        at = (int(flat.data.shape[0]), int(flat.data.shape[1]))
        where = geometry(at, detector, instrument, places_of([products.get(detector), flat]))
        found.append(digest(flat, where, band, threshold))
        if progress is not None:
            progress(done, done, "flats")
    if not found:
        what = "none of the flats has a good pixel" if done else "there are no flats to look at"
        raise SelectionError(what, do="check the selection")
    return found


def _has_values(flat: Product) -> bool:
    good = (flat.data > 0) & (flat.planes.get("dq", 0) & int(DQ.DO_NOT_USE) == 0)
    return bool(good.sum() * 10 > good.size)


def _levels(digests: list[Digest], notes: list[str]) -> tuple[list[Digest], list[Digest], Levels]:
    """The brightest flat of each detector and band, the faintest that differs enough, and their levels."""
    groups: dict[tuple[str, str], list[Digest]] = {}
    for d in digests:
        groups.setdefault((d.detector, d.band), []).append(d)
    bright, faint, levels = [], [], {}
    for key, several in groups.items():
        several = sorted(several, key=lambda d: -d.level if math.isfinite(d.level) else 0.0)
        bright.append(several[0])
        if several[0].level >= BRIGHTER * several[-1].level:
            faint.append(several[-1])
            levels[key] = several[0].level, several[-1].level
        elif len(several) > 1:
            notes.append(
                f"{len(several)} flats of detector {key[0]}, band {key[1]} have one level: the first was used"
            )
    return bright, faint, levels


def _remarks(
    search: Search,
    lights: dict[str, Light],
    findings: list[Finding],
    darks: Mapping[str, Product],
    notes: list[str],
) -> dict[str, str]:
    geometries = {d.detector: d.geometry for d in search.digests}
    seen, looked, least = in_dark(findings, darks, geometries)
    lights["column"] = with_dark(lights["column"], seen, looked)
    remarks = {}
    if looked:
        remarks["column"] = f"The darks show {seen} of {looked} bright columns" + (
            f", at {least:.0f} sigma or more." if seen else "."
        )
    if len(search.bands) < 2:
        notes.append("one band only: differences between bands, coating and fringes cannot be told")
    elif len(search.bands) == 2:
        notes.append(
            "two bands only: which of them has a chromatic pattern is a guess, the quieter was the reference"
        )
    if search.alone:
        notes.append(
            "the focal plane is unknown: every detector was taken for itself, and the light of each alone"
        )
    for d in search.digests:
        dead = [
            amp.name for amp, value in zip(d.geometry.amplifiers, d.levels.values, strict=True)
            if not math.isfinite(value)
        ]  # fmt: skip
        if dead and len(d.geometry.amplifiers) > 1:
            notes.append(f"detector {d.detector}, band {d.band}: no level for amplifiers {', '.join(dead)}")
    return remarks


def _flats_table(digests: list[Digest]) -> dict[str, Any]:
    return {
        "detector": np.array([d.detector for d in digests]),
        "band": np.array([d.band for d in digests]),
        "level": np.array([d.level for d in digests]),
        "identity": np.array([d.identity for d in digests]),
    }


def _units(unit: str) -> dict[str, str]:
    return {
        "structures.amplitude": "%", "structures.sigma": "%", "structures.scale": unit,
        "structures.row": "pixel", "structures.col": "pixel", "inventory.amplitude": "%",
        "inventory.sigma": "%", "profiles.level": "%", "profiles.sigma": "%", "profiles.position": unit,
        "flats.level": "adu",
    }  # fmt: skip


def _quantities(findings: list[Finding]) -> Iterator[Quantity]:
    for name in STRUCTURES:
        own = [f for f in findings if f.structure == name]
        found = [f for f in own if f.detected]
        if own:
            best = (
                max(found, key=lambda f: abs(f.amplitude))
                if found
                else max(own, key=lambda f: f.significance)
            )
            yield Quantity(name, best.amplitude, best.sigma, "%")
