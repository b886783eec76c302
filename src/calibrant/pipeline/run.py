"""Run: a folder of raw frames and a recipe to masters, calibrated frames and a summary."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import calibrant
from calibrant.effects import pedestal
from calibrant.effects.common import versions
from calibrant.errors import (
    FileError,
    HeaderError,
    HistoryError,
    SelectionError,
    ShapeError,
    UnitError,
)
from calibrant.exposures import Exposures
from calibrant.files.atomic import atomic_write
from calibrant.files.fits import write
from calibrant.files.hashing import HashCache
from calibrant.frame import Frame
from calibrant.instrument import Instrument
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.calibrate import calibrate, known_noise, stages
from calibrant.pipeline.corrections import left_out
from calibrant.pipeline.faults import without_faults
from calibrant.pipeline.folders import CALIBRATED, HASHES, make_folders, names, remove_empty, scan
from calibrant.pipeline.judge import is_asked, judge
from calibrant.pipeline.ledger import Ledger, recipe_key
from calibrant.pipeline.options import check_options
from calibrant.pipeline.plan import Plan, Target, listed, make_plan, sentences
from calibrant.pipeline.recipe import Recipe
from calibrant.pipeline.stock import Certified
from calibrant.pipeline.summary import Summary, doubts, frame_entry, stock_entry
from calibrant.pipeline.supply import Stock
from calibrant.pipeline.workshop import FOLDER, Workshop
from calibrant.product import Product
from calibrant.stack.run import within

if TYPE_CHECKING:
    from calibrant.registry import Registry

Progress = Callable[[int, int, str], None]
OF_ONE_FRAME = (FileError, HeaderError, HistoryError, SelectionError, ShapeError, UnitError)
"""Faults of a science frame itself: it is left out, and the others are done."""


@dataclass(eq=False)
class Reduction:
    """One reduction: what was found, the plan, and the masters, for who wants to look closer.

    Attributes
    ----------
    exposures : Exposures
        As the pixels say, where they contradict the header.
    raw : Exposures
        All that was found, as the headers say.
    instrument : Instrument
        As it is in its file: the recipe may advise other numbers of frames.
    plan : Plan
    summary : Summary
    workshop : Workshop
        Hands out the masters by name.
    """

    exposures: Exposures
    plan: Plan
    recipe: Recipe
    summary: Summary
    workshop: Workshop
    raw: Exposures
    instrument: Instrument

    def named(self) -> list[tuple[str, Target]]:
        """The science frames, by the names of their calibrated files."""
        targets = self.plan.targets
        return list(zip(names([target.exposure for target in targets]), targets, strict=True))

    def stages(self, target: Target) -> Iterator[tuple[str, Frame]]:
        """A science frame after each step that changes its look."""
        walk = _Walk(self.exposures, self.recipe, self.workshop, True, None)
        products = walk.products(target, target.uses)
        return stages(self.exposures.frame(target.index), products, self.exposures.instrument, self.recipe)


def reduce(
    folder: str | Path,
    *,
    out: str | Path,
    instrument: str | Path | Instrument = "auto",
    recipe: str | Path = "auto",
    changes: Mapping[str, str] | None = None,
    kinds: str | Path | None = None,
    budget: str | int = "512MB",
    runner: Any = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    allow_missing: bool = False,
    registry: Registry | Certified | None = None,
    register: Registry | None = None,
) -> Reduction:
    """Reduce a folder of raw frames.

    Writes ``masters/*.fits``, ``calibrated/*.fits`` and ``summary.json`` below `out`. What is there already
    and was made of the same files with the same options is kept: after an interrupt the next run goes on.

    Parameters
    ----------
    folder : path
        Raw frames; folders below it are searched, but for `out`.
    out : path
        Folder of the results; made if it is not there.
    instrument : str, path or Instrument
        ``auto`` asks the headers.
    recipe : str or path
        Name or TOML file; ``auto`` takes the one that the instrument names.
    changes : mapping, optional
        Changes to the recipe, as of `calibrant.pipeline.recipe.load`.
    kinds : path, optional
        A table that says what files are, as of `Exposures.scan`.
    budget, runner, progress
        As of `calibrant.combine`.
    overwrite : bool
        Replace files that were made in another way.
    allow_missing : bool
        Go on without masters that are missing; the frames say so.
    registry : Registry or Certified, optional
        Gives the certified masters that the folder cannot make itself.
    register : Registry, optional
        Where raw frames, masters (as drafts) and calibrated frames are recorded at the end.

    Raises
    ------
    MissingCalibrationError
        Listing all that is missing, before pixels of the frames concerned are read.
    RegistryError
        If a certified master was altered, or the reduction cannot be recorded.
    SelectionError
        If there is nothing to reduce.
    OutputExistsError
        If a file is in the way.
    WriteError
        If nothing can be written to `out`.
    """
    began = time.monotonic()
    target = Path(out)
    exposures = scan(folder, target, instrument, kinds, progress)
    own = exposures.instrument
    chosen = recipes.load(own.recipe if recipe == "auto" else recipe, changes)
    check_options(chosen)
    _advise(exposures, chosen)
    stock = registry if registry is None or isinstance(registry, Certified) else Certified(registry)
    made = make_folders(target, FOLDER, CALIBRATED)
    workshop = Workshop(
        chosen,
        Ledger.of(target, overwrite),
        HashCache(target / HASHES),
        {"runner": runner, "budget": budget, "progress": progress},
    )
    try:
        walk = _Walk(exposures, chosen, workshop, allow_missing, progress, stock)
        try:
            frames = walk.go()
        finally:
            workshop.hashes.save()
    except BaseException:
        remove_empty(target, made)
        raise
    summary = Summary(
        version=calibrant.__version__,
        instrument=exposures.instrument.name,
        recipe=chosen.name,
        folder=str(folder),
        out=str(target),
        exposures=dict(Counter(exposure.kind for exposure in exposures)),
        science=len(exposures.where(lambda one: one.kind in exposures.instrument.science)),
        masters=list(workshop.entries.values()),
        frames=frames,
        warnings=walk.warnings,
        problems=walk.problems,
        missing=[vars(lack) for lack in walk.plan.missing],
        stock=[stock_entry(item) for item in walk.plan.stock],
        registry=None if stock is None else stock.entry,
        seconds=round(time.monotonic() - began, 3),
    )
    _write_summary(target / "summary.json", summary)
    reduction = Reduction(walk.exposures, walk.plan, chosen, summary, workshop, exposures, own)
    return reduction if register is None else _registered(reduction, register, target)


def _registered(reduction: Reduction, registry: Registry, out: Path) -> Reduction:
    """The reduction, recorded: its files are finished before, and stay if that fails."""
    from calibrant.pipeline.register import record

    summary = replace(reduction.summary, registered=record(reduction, registry))
    _write_summary(out / "summary.json", summary)
    return replace(reduction, summary=summary)


class _Walk:
    """The order of the work: plan, biases and darks, judgement, plan again, flats, frames."""

    def __init__(
        self,
        exposures: Exposures,
        recipe: Recipe,
        workshop: Workshop,
        allow_missing: bool,
        progress: Progress | None,
        stock: Stock | None = None,
    ) -> None:
        self.problems = [{"file": str(p.path), "problem": p.sentence} for p in exposures.problems]
        self.found = exposures
        self.exposures, faults = without_faults(exposures, recipe)
        self.problems += [{"file": name, "problem": sentence} for name, sentence in faults]
        self.recipe, self.workshop = recipe, workshop
        self.allow_missing, self.progress, self.stock = allow_missing, progress, stock
        self.warnings = _unknown(exposures)
        self.left_out: list[tuple[str, list[str]]] = []
        self.plan = self._planned()

    def _planned(self) -> Plan:
        return make_plan(self.exposures, self.recipe, allow_missing=self.allow_missing, stock=self.stock)

    def go(self) -> list[dict[str, Any]]:
        """All of it; returns the lines of the frames."""
        # Only pixels can say that a frame needs no dark; all else that is missing is refused before.
        asked = {one.path for one in self.exposures if is_asked(one, self.exposures, self.plan)}
        sure = [
            lack
            for lack in self.plan.missing
            if lack.kind == "flat" or lack.certified or lack.frame not in asked
        ]
        if sure and not self.allow_missing:
            self.plan.refuse_missing()
        self._make("bias", "dark")
        self._judge()
        if not self.allow_missing:
            self.plan.refuse_missing()
        self._make("flat")
        frames = self._frames()
        stock = self.plan.stock
        self.warnings += _notes((entry["name"], entry["notes"]) for entry in self.workshop.entries.values())
        self.warnings += _notes(self.left_out)
        self.warnings += [item.sentence for item in stock]
        self.warnings += _notes((item.name, item.facts["notes"]) for item in stock)
        self.warnings += [*self.plan.notes, *_without_bias(self.plan)]
        self.warnings = list(dict.fromkeys(self.warnings))
        if not any(one.kind in self.exposures.instrument.science for one in self.found):
            self.warnings.append(
                "none of the files that could be used is a science frame: only masters were made"
                if self.problems
                else "there are no science frames: only masters were made"
            )
        return frames

    def _make(self, *kinds: str) -> None:
        for item in self.plan.stock:
            self.workshop.fetch(item)
        for job in self.plan.jobs:
            if job.kind in kinds:
                self.workshop.make(job)

    def _judge(self) -> None:
        """Ask the pixels whether darks were removed, and plan again if they contradict the headers."""
        findings = list(judge(self.exposures, self.plan, self.workshop))
        self.workshop.ledger.save()
        if findings:
            self.exposures = self.exposures.updated({found.index: found.exposure for found in findings})
            self.warnings += [found.note for found in findings]
            self.plan = self._planned()
            self._make("bias", "dark")

    def _frames(self) -> list[dict[str, Any]]:
        entries = []
        found = names([target.exposure for target in self.plan.targets])
        for count, (target, name) in enumerate(zip(self.plan.targets, found, strict=True), 1):
            try:
                entries.append(self._frame(target, name))
            except OF_ONE_FRAME as error:
                # One bad frame never kills a night.
                self.problems.append({"file": target.exposure.path or name, "problem": str(error)})
            if self.progress is not None:
                self.progress(count, len(self.plan.targets), "calibrating")
        return entries

    def _frame(self, target: Target, name: str) -> dict[str, Any]:
        uses = {**target.uses, **self._defects(target)}
        file = f"{CALIBRATED}/{name}.fits"
        key = recipe_key(
            frame=self.workshop.hash(target.exposure),
            applied=sorted(target.exposure.applied),
            uses={kind: self.workshop.key_of(job) for kind, job in uses.items()},
            recipe=self.recipe.model_dump_json(),
            instrument=self.exposures.instrument.model_dump_json(),
            versions=versions(),
        )
        known = self.workshop.ledger.fresh(file, key)
        if known is not None:
            return {**known, "reused": True}
        products = self.products(target, uses)
        frame = calibrate(
            self.exposures.frame(target.index),
            products,
            self.exposures.instrument,
            self.recipe,
            runner=within(self.workshop.engine["runner"]),
        )
        entry = frame_entry(name, file, frame, uses)
        ledger = self.workshop.ledger
        with ledger.writing(file) as replacing:
            write(frame, ledger.folder / file, overwrite=replacing)
            ledger.put(file, key, entry)
        self.left_out.append((name, left_out(frame)))
        self.warnings += doubts(entry, frame.data.shape[0] * frame.data.shape[1])
        return {**entry, "reused": False}

    def _defects(self, target: Target) -> dict[str, str]:
        """The defects of the masters of a frame, unless certified ones are used."""
        masters = {k: v for k, v in target.uses.items() if k in ("bias", "dark", "flat")}
        found = None if "defects" in target.uses else self.workshop.defects(masters)
        return {} if found is None else {"defects": found}

    def products(self, target: Target, uses: Mapping[str, str]) -> dict[str, Product]:
        """All that the steps of a frame need: its masters, its level, gain and read noise."""
        found = {kind: self.workshop.product(job) for kind, job in uses.items()}
        level = self._level(target, found)
        if level is not None:
            found["pedestal"] = level
        noise = self.workshop.noise_of_darks(target.exposure)
        return {**found, **known_noise(self._one(target), found, noise)}

    def _one(self, target: Target) -> Exposures:
        return self.exposures.take([target.index]).hashed(self.workshop.hashes)

    def _level(self, target: Target, products: Mapping[str, Product]) -> Product | None:
        """The level of a frame whose zero comes with its dark, or was left there by the camera software."""
        if not self.recipe.enabled("pedestal") or "bias" in products:
            return None
        whole = "dark" in products and bool(products["dark"].keys.get("includes_bias"))
        if not whole and not target.exposure.applied & {"bias", "dark"}:
            return None
        given = {kind: products[kind] for kind in ("dark", "flat") if kind in products}
        level = pedestal.measure(self._one(target), products=given, **self.recipe.options("pedestal"))
        self.warnings += [
            note for note in level.provenance.notes if "no pixels that are surely unlit" in note
        ]
        return level


def _notes(told: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """What there is to say of masters by their names, each sentence once."""
    names: dict[str, list[str]] = {}
    for name, notes in told:
        for note in notes:
            names.setdefault(note, []).append(name)
    return [f"{listed(masters)}: {note}" for note, masters in names.items()]


def _without_bias(plan: Plan) -> list[str]:
    """Sentences about frames that nothing, or only their overscan, takes the bias away from."""
    lacks = [lack for lack in plan.missing if lack.kind == "bias"]
    advised = list(plan.advised)
    return [
        *(f"without bias: {words}: the zero level is still in their pixels" for words in sentences(lacks)),
        *(
            f"{words}: the overscan takes the level away, but not the pattern; biases are advised"
            for words in sentences(advised)
        ),
    ]


def _unknown(exposures: Exposures) -> list[str]:
    names = [one.path or "a frame" for one in exposures.where(kind="unknown")]
    if not names:
        return []
    return [
        f"the rules of the instrument do not say what {listed(names)} {'is' if len(names) == 1 else 'are'}: "
        "left alone; a table with --kinds says it"
    ]


def _advise(exposures: Exposures, recipe: Recipe) -> None:
    """Let the recipe say how many frames a master should have, where it says so."""
    own = exposures.instrument
    exposures.instrument = own.model_copy(update={"minimum": {**own.minimum, **recipe.minimum}})


def _write_summary(path: Path, summary: Summary) -> None:
    with atomic_write(path, overwrite=True) as out:
        out.write(json.dumps(summary.as_dict(), indent=2, allow_nan=False).encode() + b"\n")
