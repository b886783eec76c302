"""The order in which slices are measured: each exposure for itself, its background and corrections before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from calibrant.effects.common import versions
from calibrant.errors import OptionError
from calibrant.exposures import Exposures
from calibrant.exposures.slice_maps import Maps
from calibrant.exposures.sources import less, same_readout
from calibrant.files.hashing import file_hash
from calibrant.frame import Exposure, Frame
from calibrant.instrument.slices import SliceMap
from calibrant.pipeline.ledger import recipe_key
from calibrant.pipeline.measure_choice import FACTS, Choice, named, partner, partners, words
from calibrant.pipeline.measure_walk import Entries, Task, Walk
from calibrant.pipeline.measurements_slices import SLICED, Seen, Sliced
from calibrant.pipeline.options import taken_by
from calibrant.product import Input, Product

CORRECTED = "corrections"  # folder of what is measured only to correct frames
LONGEST = 256  # rows of tables that a line of a product holds; its file holds all


@dataclass(eq=False, kw_only=True)
class SlicesWalk(Walk):
    """Each exposure that is meant; then each beside the source that it is held against."""

    measurement: Sliced
    choice: Choice = field(init=False)
    maps: Maps = field(init=False)
    chain: tuple[Sliced, ...] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choice = Choice(**_of(Choice, self.options))
        self.maps = Maps(**_of(Maps, self.options))
        self.workshop.longest = LONGEST
        self.chain = tuple(_correcting(name) for name in words(self.choice.correct))

    def go(self, where: str | None) -> None:
        """All of it; an exposure that fails is told, unless all fail."""
        rules, own = self.exposures.instrument.slices, self.measurement
        self._check()
        default = "" if rules is None else rules.point if own.point else rules.lamp
        found, notes = self.choice.of(self.exposures.where(where), default)
        self.notes += notes
        names = dict(zip(map(id, found), named(found), strict=True))
        tasks = [(f"{own.kind}_{names[id(one)]}", partial(self._one, one, names[id(one)])) for one in found]
        self.each([*tasks, *(self._pairs(found, names) if self.choice.against else ())])

    def _pairs(self, found: Exposures, names: Mapping[int, str]) -> Iterator[Task]:
        """Each source beside the one that it is held against."""
        against = str(self.choice.against)
        others = [one for one in found if one.get("source") != against]
        if not others:
            told = "name the other one with --source"
            raise OptionError("a source is not held against itself", where="against", got=against, do=told)
        for one in others:
            if not self.choice.any_readout:
                for other in partners(one, found, against):
                    same_readout({str(each.get("source")): each for each in (one, other)}, "sources")
            name = f"{self.measurement.kind}_{names[id(one)]}_against_{against}"
            yield name, partial(self._two, one, found, names, name)

    def _check(self) -> None:
        """What options say together, seen before anything is measured."""
        own, against = self.measurement, self.choice.against
        if own.check is not None:
            own.check(self.options)
        if against is None:
            pairs = self._given(own.against) if own.against is not None else {}
            if pairs:
                raise OptionError(
                    "this is of two sources", where=", ".join(pairs), do="name one with --against"
                )
        elif own.against is None:
            raise OptionError(f"{own.title} of two sources are not held against each other", where="against")

    def _one(self, exposure: Exposure, name: str) -> Entries:
        """What is measured on one exposure."""
        members = self._members(exposure)
        stem = f"{self.measurement.kind}_{name}"
        self._made(stem, exposure, members, name)
        entries = [self.workshop.entries[stem]]
        further = self.measurement.further
        if further is not None:
            more = f"spectrum_{name}"
            key = recipe_key(of=self.workshop.key_of(stem), options=self._given(further))
            self.workshop.once(more, key, lambda: self._further(stem, exposure, members, name), folder="")
            entries.append(self.workshop.entries[more])
        return entries

    def _made(self, stem: str, exposure: Exposure, members: Exposures, name: str) -> None:
        options = self._given(self.measurement.measure)
        key = self._key(self.measurement.kind, members, options, len(self.chain))

        def measured() -> Product:
            slices = self.maps.slice_map(exposure, self.exposures.instrument)
            given = dict(options)
            if self.measurement.resolved:
                given["resolution"] = self.maps.resolving(exposure, self.exposures.instrument, slices)
            frame = self._frame(members, name, slices)
            return self._told(self.measurement.measure(frame, slices, **given), members, frame)

        self.workshop.once(stem, key, measured, folder="")

    def _further(self, stem: str, exposure: Exposure, members: Exposures, name: str) -> Product:
        assert self.measurement.further is not None
        slices = self.maps.slice_map(exposure, self.exposures.instrument)
        frame, product = self._frame(members, name, slices), self.workshop.product(stem)
        options = self._given(self.measurement.further)
        made = self._told(self.measurement.further(frame, slices, product, **options), members, frame)
        notes = [note for note in made.provenance.notes if note not in product.provenance.notes]
        return replace(made, provenance=replace(made.provenance, notes=tuple(notes)))

    # --- two sources ---

    def _two(self, exposure: Exposure, found: Exposures, names: Mapping[int, str], name: str) -> Entries:
        """An exposure and the one that it is held against."""
        assert self.measurement.against is not None and self.choice.against is not None
        against = self.measurement.against
        pair = (exposure, partner(exposure, found, self.choice.against))
        stems = [f"{self.measurement.kind}_{names[id(one)]}" for one in pair]
        options = self._given(against)
        uses = [self.workshop.key_of(stem) for stem in stems]
        key = recipe_key(kind=name, uses=uses, options=options, versions=versions())

        def measured() -> Product:
            seen = tuple(self._seen(one, names[id(one)]) for one in pair)
            product = against(seen, **options)
            return replace(
                product,
                keys={**product.keys, **_facts(exposure), "against": self.choice.against},
                epoch=product.epoch or exposure.mid,
                provenance=replace(product.provenance, inputs=self._inputs(pair)),
            )

        self.workshop.once(name, key, measured, folder="")
        return [self.workshop.entries[name]]

    def _inputs(self, exposures: Iterable[Exposure]) -> tuple[Input, ...]:
        """Raw files of several exposures, with their backgrounds, each once."""
        found = [one for exposure in exposures for one in self._members(exposure).inputs(known=True)]
        return tuple(dict.fromkeys(found))

    def _seen(self, exposure: Exposure, name: str) -> Seen:
        members, instrument = self._members(exposure), self.exposures.instrument
        return Seen(
            frame=lambda: self._frame(members, name, self.maps.slice_map(exposure, instrument)),
            slices=lambda: self.maps.slice_map(exposure, instrument),
            product=lambda: self.workshop.product(f"{self.measurement.kind}_{name}"),
        )

    # --- frames ---

    def _members(self, exposure: Exposure) -> Exposures:
        return self.choice.members(self.exposures, exposure).hashed(self.workshop.hashes)

    def _frame(self, members: Exposures, name: str, slices: SliceMap) -> Frame:
        """The frame, less its background, corrected."""
        frame = _loaded(members)
        for count, step in enumerate(self.chain):
            frame = self._corrected(frame, members, slices, step, count, name)
        return frame

    def _corrected(
        self, frame: Frame, members: Exposures, slices: SliceMap, step: Sliced, count: int, name: str
    ) -> Frame:
        """The frame without what is measured on it; the product's name says what was corrected before."""
        assert step.apply is not None
        stem = "-".join(one.kind for one in self.chain[: count + 1]) + f"_{name}"
        key = self._key(step.kind, members, {}, count)
        self.workshop.once(
            stem, key, lambda: self._told(step.measure(frame, slices), members, frame), folder=CORRECTED
        )
        return step.apply(frame, self.workshop.product(stem))

    def _key(self, kind: str, members: Exposures, options: Mapping[str, Any], corrected: int) -> str:
        """All that a product depends on: also the first so many corrections."""
        paths = [self.maps.slices, self.maps.resolution]
        files = [path for path in paths if isinstance(path, str) and Path(path).is_file()]
        return recipe_key(
            kind=kind,
            inputs=[self.workshop.hash(exposure) for exposure in members],
            corrected=[step.name for step in self.chain[:corrected]],
            options=dict(options),
            maps=asdict(self.maps),
            files=[file_hash(path, self.workshop.hashes) for path in files],
            instrument=self.exposures.instrument.model_dump_json(),
            versions=versions(),
        )

    def _given(self, taker: Any) -> dict[str, Any]:
        """Options of a function, without those that choose frames and maps."""
        others = {one.name for kind in (Choice, Maps) for one in fields(kind)}
        known = set(taken_by((taker,))) - others
        return {name: value for name, value in self.options.items() if name in known}

    def _told(self, product: Product, members: Exposures, frame: Frame) -> Product:
        """The product with what it is of: facts, raw files, and what was done to the frame before."""
        old = product.provenance
        used = [step.product for step in frame.history if step.product is not None]
        before = [step.effect.replace("_", " ") for step in frame.history]
        notes = [f"before: {', '.join(before)} removed"] if before else []
        provenance = replace(
            old,
            inputs=members.inputs(known=True),
            parents=tuple(dict.fromkeys([*old.parents, *used])),
            notes=(*notes, *old.notes),
        )
        return replace(product, keys={**product.keys, **_facts(members[0])}, provenance=provenance)


def prepared(exposures: Exposures, exposure: Exposure, choice: Choice, slices: SliceMap) -> Frame:
    """A frame less its background, and corrected, as a choice says; nothing of it is kept.

    Parameters
    ----------
    exposures : Exposures
        All there are, backgrounds too.
    exposure : Exposure
        One of them.
    choice : Choice
    slices : SliceMap

    Raises
    ------
    OptionError, MissingCalibrationError, SelectionError
        If nothing corrects by a name, or a background is missing.
    """
    frame = _loaded(choice.members(exposures, exposure))
    for step in [_correcting(name) for name in words(choice.correct)]:
        assert step.apply is not None
        frame = step.apply(frame, step.measure(frame, slices))
    return frame


def _loaded(members: Exposures) -> Frame:
    """The first, less the second if there is one."""
    frame = members.frame(0).load()
    return frame if len(members) < 2 else less(frame, members.frame(1).load())


def _of(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    known = {one.name for one in fields(kind)}
    return {name: value for name, value in options.items() if name in known}


def _correcting(name: str) -> Sliced:
    """What corrects frames, by its name.

    Raises
    ------
    OptionError
        If nothing of that name does.
    """
    known = {one.name: one for one in SLICED if one.apply is not None}
    word = name.replace("_", "-")
    if word not in known:
        raise OptionError("this corrects no frames", where="correct", expected=", ".join(known), got=name)
    return known[word]


def _facts(exposure: Exposure) -> dict[str, Any]:
    return {key: value for key in FACTS if (value := exposure.get(key)) is not None}
