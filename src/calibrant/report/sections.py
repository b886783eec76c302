"""Sections: a product in words and small pictures, so that its pixels can be let go."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from calibrant.comparison import Comparison, compare
from calibrant.errors import CalibrantError
from calibrant.frame import DQ
from calibrant.product import Product, Provenance
from calibrant.registry.records import Entry
from calibrant.report.charts import Chart, charts
from calibrant.report.matter import Run, Subject
from calibrant.report.pictures import Gallery, Image
from calibrant.report.tables import Numbers
from calibrant.report.verdicts import (
    ATTENTION,
    PASS,
    Check,
    Standing,
    bounds,
    brief,
    checks,
    own_items,
    standing,
)
from calibrant.report.words import UNKNOWN, keys, label, listed, moment, number, plain, with_sigma, with_unit
from calibrant.report.words import unit as unit_text

PICTURED = 12
"""Calibrated frames that are shown: each is read for it."""
COMPARED = 12
"""Differences of quantities that are listed, the largest first."""
FLAGS = 2
"""Kinds of flags of a frame that are named."""
FAR = 5.0
PURE = "[–]"
"""The unit of a pure number."""


@dataclass(frozen=True)
class Difference:
    """One number of a comparison in words; `far` if it is beyond errors."""

    what: str
    one: str
    other: str
    difference: str
    pull: str
    unit: str
    far: bool


@dataclass(frozen=True)
class Compared:
    """A comparison in words.

    Attributes
    ----------
    mark : str
        `PASS` if they agree, else `ATTENTION`.
    more : int
        Differences that are not listed: smaller ones.
    """

    name: str
    against: str
    mark: str
    verdict: str
    rows: Sequence[Difference]
    more: int
    notes: Sequence[str]


@dataclass(frozen=True, eq=False)
class Told:
    """A product as the page tells of it.

    Attributes
    ----------
    facts : sequence of (str, str)
        Level, noise, frames, rejected, flags: of what has pixels.
    outline : Product
        Without planes and tables.
    state : str
        In the registry.
    notes : sequence of str
        Of the verdict: what its frames could not show.
    """

    name: str
    kind: str
    file: str
    keys: Sequence[tuple[str, str]]
    identity: str
    standing: Standing
    outline: Product
    numbers: Numbers
    has_pixels: bool = False
    picture: Image | None = None
    facts: Sequence[tuple[str, str]] = ()
    state: str = ""
    checks: Sequence[Check] = ()
    notes: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    figures: Sequence[Image] = ()
    compared: Compared | None = None
    provenance: Provenance = field(default_factory=Provenance)
    epoch: str = UNKNOWN


@dataclass(frozen=True)
class FrameTold:
    """A calibrated frame as the page tells of it."""

    name: str
    picture: Image | None
    facts: Sequence[str]
    cells: Sequence[str]
    notes: Sequence[str] = ()


def tell(subject: Subject, gallery: Gallery) -> Told:
    """Read a product, and tell of it.

    Parameters
    ----------
    subject : Subject
    gallery : Gallery
        Its pictures.

    Raises
    ------
    CalibrantError
        If it cannot be read.
    """
    product = subject.load()
    found, trouble = _comparison(subject, product)
    own = own_items(product)
    has_pixels = any(plane.ndim >= 2 for plane in product.planes.values())
    compared = None if found is None else _compared(subject, found)
    if trouble:
        compared = Compared(subject.name, subject.against, ATTENTION, trouble, (), 0, ())
    return Told(
        name=subject.name,
        kind=product.kind,
        file=subject.file,
        keys=keys(product.keys),
        identity=product.identity,
        standing=standing(subject, product, found),
        outline=replace(product, planes={}, tables={}),
        numbers=Numbers(
            subject.name, product.kind, product.quantities, bounds(subject.verdict, own, product.quantities)
        ),
        has_pixels=has_pixels,
        picture=gallery.thumbnail(product, subject.name) if has_pixels else None,
        facts=list(_facts(product)),
        state="" if subject.entry is None else _state(subject.entry),
        checks=checks(subject.verdict, own),
        notes=() if subject.verdict is None else subject.verdict.notes,
        charts=charts(product, subject.name),
        figures=list(gallery.figures(product, subject.name)),
        compared=compared,
        provenance=product.provenance,
        epoch=moment(product.epoch),
    )


# --- masters ----------------------------------------------------------------------------------------------


def _facts(product: Product) -> Iterator[tuple[str, str]]:
    """Of a master: what its picture cannot say."""
    dq = product.planes.get("dq")
    use = True if dq is None else (dq & np.uint32(DQ.DO_NOT_USE)) == 0
    if "data" in product.planes:
        yield "level", f"{number(_median(product.data, use), 5)} {unit_text(product.unit) or PURE}"
    yield from _noise(product, use)
    inputs = len(product.provenance.inputs)
    if inputs:
        yield "frames", str(inputs)
    rejected = _rejected(product, inputs)
    if rejected:
        yield "rejected", rejected
    if dq is not None and dq.size:
        yield "flagged", f"{100 * np.count_nonzero(dq) / dq.size:.3g} % of pixels"


def _noise(product: Product, use: Any) -> Iterator[tuple[str, str]]:
    """That of a frame where it is stated, else the typical error of a pixel of the master."""
    for q in product.quantities:
        if q.name in ("read_noise", "noise") and not q.place and math.isfinite(q.value):
            yield plain(q.name), with_unit(with_sigma(q.value, q.sigma), q.unit)
            return
    variance = product.planes.get("variance")
    if variance is not None:
        error = math.sqrt(max(_median(variance, use), 0.0))
        yield "noise", f"{number(error, 3)} {unit_text(product.unit) or PURE}, of a pixel"


def _median(plane: Any, use: Any) -> float:
    values = np.asarray(plane)
    good = np.isfinite(values) & (use if np.shape(use) == values.shape else True)
    return float(np.median(values[good])) if good.any() else math.nan


def _rejected(product: Product, inputs: int) -> str:
    """The share of values that no mean was made of, by the plane that counts those that were."""
    used = product.planes.get("count")
    if used is None or not used.size or not inputs or int(used.max()) > inputs:
        return ""
    return f"{100 * (1 - float(used.mean(dtype=np.float64)) / inputs):.3g} % of values"


def _state(entry: Entry) -> str:
    spans = ", ".join(
        f"{tag}: {'always' if begin is None and end is None else f'{_edge(begin)} to {_edge(end)}'}"
        for tag, begin, end in entry.validity
    )
    verified = {True: "", False: "its last verification failed", None: "no verification recorded"}[
        entry.verified
    ]
    return ", ".join(part for part in (f"{entry.state}{f' ({spans})' if spans else ''}", verified) if part)


def _edge(moment_of: int | None) -> str:
    return "…" if moment_of is None else moment(moment_of)


# --- comparison -------------------------------------------------------------------------------------------


def _comparison(subject: Subject, product: Product) -> tuple[Comparison | None, str]:
    """With the reference; or why there is none, in words."""
    if subject.reference is None:
        return None, ""
    try:
        return compare(product, subject.reference()), ""
    except CalibrantError as error:
        return None, f"cannot be compared: {error}"


def _compared(subject: Subject, found: Comparison) -> Compared:
    quantities = sorted(found.quantities, key=lambda q: -abs(q.pull or 0.0))
    rows = [
        Difference(f"plane {plain(p.name)}", number(p.one), number(p.other),
                   with_sigma(p.difference, None), _pull(p.pull), unit_text(p.unit) or "–",
                   p.pull is not None and abs(p.pull) > 1)
        for p in found.planes
    ]  # fmt: skip
    rows += [
        Difference(label(q.name, q.place), number(q.one, 5), number(q.other, 5),
                   with_sigma(q.difference, q.sigma), _pull(q.pull), unit_text(q.unit) or "–",
                   q.pull is not None and abs(q.pull) > FAR)
        for q in quantities[:COMPARED]
    ]  # fmt: skip
    mark = PASS if found.agrees else ATTENTION
    more = max(0, len(quantities) - COMPARED)
    return Compared(subject.name, subject.against, mark, brief(found), rows, more, found.notes)


def _pull(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.1f} σ".replace("-", "−")


# --- frames -----------------------------------------------------------------------------------------------

FRAME_HEADS = ("filter", "exposure", "median", "noise of a pixel", "flagged pixels", "masters")


def frames(run: Run, entries: Sequence[Mapping[str, Any]], gallery: Gallery) -> list[FrameTold]:
    """The calibrated frames of a summary; the first ones with pictures.

    Parameters
    ----------
    run : Run
        Its folder holds the files.
    entries : sequence of mapping
        Of the summary.
    gallery : Gallery
    """
    found = []
    for place, entry in enumerate(entries):
        path = None if run.folder is None else run.folder / str(entry.get("file", ""))
        shown = path is not None and place < PICTURED and path.is_file()
        name = str(entry.get("name", UNKNOWN))
        found.append(
            FrameTold(
                name,
                gallery.frame(Path(path), name) if shown and path is not None else None,
                [
                    str(part)
                    for part in (entry.get("object"), str(entry.get("time") or "")[:19].replace("T", " "))
                    if part
                ],
                _frame_cells(entry),
                [str(note) for note in entry.get("notes") or ()],
            )
        )
    return found


def _frame_cells(entry: Mapping[str, Any]) -> list[str]:
    unit = str(entry.get("unit") or "")
    counts = entry.get("flagged") or {}
    # DO_NOT_USE says what to do, not what is wrong: it is named where it stands alone.
    told = {name: amount for name, amount in counts.items() if name != "DO_NOT_USE"} or counts
    flagged = sorted(told.items(), key=lambda each: -each[1])
    flags = ", ".join(f"{name} {amount}" for name, amount in flagged[:FLAGS])
    masters = entry.get("masters") or {}
    exptime = entry.get("exptime")
    return [
        str(entry.get("filter") or UNKNOWN),
        UNKNOWN if exptime is None else f"{number(exptime, 6)} s",
        with_unit(number(entry.get("median"), 5), unit),
        with_unit(number(entry.get("noise")), unit),
        flags or "none",
        listed([str(name) for name in dict.fromkeys(masters.values())], 6) or UNKNOWN,
    ]
