"""The order in which things are measured: masters of a folder first, then group by group."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from calibrant.effects import overscan
from calibrant.effects.common import versions
from calibrant.errors import CalibrantError, SelectionError, UserError
from calibrant.exposures import Exposures
from calibrant.pipeline.ledger import recipe_key
from calibrant.pipeline.matching import Group, apart, groups, nearest, stem
from calibrant.pipeline.measurements import CORRECT, MEASUREMENTS, Measurement
from calibrant.pipeline.plan import Plan, listed, make_plan
from calibrant.pipeline.recipe import Recipe
from calibrant.pipeline.workshop import Workshop
from calibrant.product import Product

Siblings = Sequence[Mapping[str, Any]]
"""Keys of the groups that are measured beside one, which its name must tell it from."""
CALIBRATIONS = ("bias", "dark", "flat")
Entries = list[dict[str, Any]]
Task = tuple[str, Callable[[], Entries]]
"""Name of a product, and what makes it, or finds it made; gives its line, and those of what comes with it."""


@dataclass(eq=False, kw_only=True)
class Walk(ABC):
    """What all orders of work share: lines of products, and what went wrong.

    Attributes
    ----------
    exposures : Exposures
        All that were found.
    workshop : Workshop
        Makes products, or finds them made of the same.
    options : mapping
        Of the measurement.
    corrections : bool
        Whether frames are corrected before by what can be measured on them.
    alone : bool
        One product is wanted, and no more.
    entries, problems, notes : list
        As of `calibrant.pipeline.measure.Measured`.
    """

    exposures: Exposures
    workshop: Workshop
    options: Mapping[str, Any]
    corrections: bool = True
    alone: bool = False
    entries: Entries = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.problems += [{"file": str(p.path), "problem": p.sentence} for p in self.exposures.problems]

    @abstractmethod
    def go(self, where: str | None) -> None:
        """Measure all frames that agree with a text."""

    def each(self, tasks: Sequence[Task]) -> None:
        """One after the other; one that fails is told, unless all fail.

        Raises
        ------
        SelectionError
            If one product is wanted, and there are more.
        UserError
            The first one, if all fail.
        """
        if self.alone and len(tasks) > 1:
            raise SelectionError(
                f"the frames give {len(tasks)} products, and one file is to hold them",
                got=listed([name for name, _ in tasks], 8),
                do="name a folder with --out, or choose with --where",
            )
        failures: list[CalibrantError] = []
        for name, task in tasks:
            try:
                self.entries += task()
            except UserError as error:
                failures.append(error)
                self.problems.append({"file": name, "problem": str(error)})
        if failures and len(failures) == len(tasks):
            raise failures[0]


@dataclass(eq=False, kw_only=True)
class FramesWalk(Walk):
    """The order of the work: masters, then group by group."""

    measurement: Measurement
    groups: list[Group] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        made_of = CALIBRATIONS if needs_masters(self.measurement) else ()
        calibrations = self.exposures.where(lambda one: one.kind in made_of)
        self.plan: Plan = make_plan(calibrations, self.recipe, allow_missing=True)

    @property
    def recipe(self) -> Recipe:
        """Of the masters."""
        return self.workshop.recipe

    def go(self, where: str | None) -> None:
        """All of it; a group that fails is told, unless all fail."""
        self.groups = self._groups(where)
        siblings = [group.keys for group in self.groups]
        own = self.measurement
        self.each(
            [(_name(own, group, siblings), partial(self._group, group, siblings)) for group in self.groups]
        )
        self._history()

    def _group(self, group: Group, siblings: Siblings) -> Entries:
        return [self._measured(self.measurement, group, siblings, self.options)]

    def _history(self) -> None:
        """What the epochs of a detector say together, where there are several: of each setting for itself."""
        history = self.measurement.history
        if history is None:
            return
        settings: dict[str, list[dict[str, Any]]] = {}
        for entry in self.entries:
            own = {key: value for key, value in entry["keys"].items() if key != "detector"}
            settings.setdefault(json.dumps(own, sort_keys=True, default=str), []).append(entry)
        several = [made for made in settings.values() if _repeated(made)]
        keys = [{k: v for k, v in made[0]["keys"].items() if k != "detector"} for made in several]
        for made, own in zip(several, keys, strict=True):
            self._trend(stem(f"{self.measurement.kind}_trend", own, keys), made, history)

    def _trend(self, name: str, made: list[dict[str, Any]], history: Callable[..., Product]) -> None:
        names = [entry["name"] for entry in made]
        key = recipe_key(kind=name, uses=[self.workshop.key_of(one) for one in names], versions=versions())
        self.workshop.once(
            name, key, lambda: history([self.workshop.product(one) for one in names]), folder=""
        )
        self.entries.append(self.workshop.entries[name])

    def _groups(self, where: str | None) -> list[Group]:
        """Exposures that are measured together."""
        found = self.exposures.where(lambda one: one.kind in self.measurement.of)
        if where is not None and len(found):
            found = found.where(where)
        if not len(found):
            have = sorted({one.kind for one in self.exposures})
            raise SelectionError(
                f"there is no frame to measure {self.measurement.title} on",
                expected=" or ".join(self.measurement.of) + (f" where {where}" if where else ""),
                got=listed(have, 8),
            )
        if self.measurement.across:
            return [Group(self.measurement.kind, {}, found)]
        kind = self.measurement.like
        own = self._told_by()
        keys = [key for key in own if key not in self.measurement.mixes]
        # Ramps of one array may have any number of groups; another size is refused by what measures them.
        size = () if self.measurement.told_by else ("shape",)
        settings = groups(found, kind, [*dict.fromkeys(("detector", *keys)), *size])
        if self.measurement.told_by:
            self.notes += apart(settings)
        if "time" in self.measurement.mixes:
            return settings
        # Of another epoch are other dust and another lamp, as for masters.
        return [epoch for group in settings for epoch in group.epochs(self.recipe.gap.get(kind))]

    def _told_by(self) -> tuple[str, ...]:
        """Facts that tell groups apart."""
        match = self.exposures.instrument.match
        if not self.measurement.told_by:
            return match.get(self.measurement.like, ())
        stated = match.get(self.measurement.kind)
        known = {key for exposure in self.exposures for key in exposure.keys}
        return stated or tuple(
            key for key in self.measurement.told_by if key in known or hasattr(self.exposures[0], key)
        )

    def _measured(
        self, measurement: Measurement, group: Group, siblings: Siblings, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The line of a product that is made now, after all that it needs, or kept."""
        name = _name(measurement, group, siblings)
        corrected = self._corrected(measurement, group, siblings)
        uses = self._uses(measurement, group, siblings)
        key = self._key(measurement, group, {**uses, **corrected}, options)
        self.workshop.once(
            name, key, lambda: self._made(measurement, group, uses, corrected, options), folder=""
        )
        return self._beside(measurement, name)

    def _beside(self, measurement: Measurement, name: str) -> dict[str, Any]:
        """The line of a product, with the further files that hold it in another layout."""
        entry, folder = self.workshop.entries[name], self.workshop.ledger.folder
        for ending, written in measurement.beside.items():
            path = folder / f"{name}_{ending}.fits"
            if not (entry["reused"] and path.exists()):
                written(self.workshop.product(name), path, overwrite=True)
        if measurement.beside:
            entry["beside"] = [f"{name}_{ending}.fits" for ending in measurement.beside]
        return entry

    def _corrected(self, measurement: Measurement, group: Group, siblings: Siblings) -> dict[str, str]:
        """Kind -> name of the measurements that correct the pixels; those that cannot be made are told.

        They belong to the electronics: where flats of this filter do not tell, those of another one may.
        """
        found = {}
        for earlier in measurement.corrected if self.corrections else ():
            other, told = _measurement(earlier), _name(measurement, group, siblings)
            failure: UserError | None = None
            for source in (group, *self._of_other_filters(group)):
                try:
                    found[other.kind] = self._measured(other, source, siblings, {})["name"]
                except UserError as error:
                    failure = failure or error
                    continue
                if source is not group:
                    self.notes.append(f"{told}: corrected with {found[other.kind]}")
                break
            else:
                self.notes.append(f"{told}: not corrected for {other.title}: {failure}")
        return found

    def _of_other_filters(self, group: Group) -> list[Group]:
        """Groups that differ from one in nothing but the filter, and the day."""

        def setting(one: Group) -> dict[str, Any]:
            return {key: value for key, value in one.keys.items() if key != "filter"}

        return [one for one in self.groups if one is not group and setting(one) == setting(group)]

    def _made(
        self,
        measurement: Measurement,
        group: Group,
        uses: Mapping[str, Any],
        corrected: Mapping[str, str],
        options: Mapping[str, Any],
    ) -> Product:
        members = group.members.hashed(self.workshop.hashes)
        if measurement.prepared:
            members = self.workshop.prepared(members)
        for kind, name in corrected.items():
            members = members.through(CORRECT[kind](self.workshop.product(name)))
        products = {kind: self._handed(names) for kind, names in uses.items()}
        return measurement.measure(members, products=products, **options, **self.workshop.engine)

    def _handed(self, names: str | tuple[str, ...]) -> Any:
        """A product; of several one after the other, since a raft's masters would not fit into memory."""
        if isinstance(names, str):
            return self.workshop.product(names)
        return (self.workshop.product(name) for name in names)

    def _key(
        self, measurement: Measurement, group: Group, uses: Mapping[str, Any], options: Mapping[str, Any]
    ) -> str:
        names = {kind: [used] if isinstance(used, str) else used for kind, used in uses.items()}
        return recipe_key(
            kind=measurement.kind,
            inputs=[self.workshop.hash(exposure) for exposure in group.members],
            uses={kind: [self.workshop.key_of(one) for one in used] for kind, used in names.items()},
            options=options,
            overscan=self.recipe.options("overscan") if measurement.prepared else None,
            instrument=self.exposures.instrument.model_dump_json(),
            versions=versions(),
        )

    def _uses(self, measurement: Measurement, group: Group, siblings: Siblings) -> dict[str, Any]:
        """Kind -> name of the product that is handed to the effect, made if need be."""
        uses: dict[str, Any] = {}
        for kind in measurement.masters:
            if measurement.across:
                uses[kind] = self._all(kind)
                continue
            name = self._master(kind, group)
            if name is not None:
                uses[kind] = name
            elif kind == "bias" and not self._has_overscan(group):
                raise SelectionError(
                    f"{measurement.title} needs frames without bias: there is neither a bias nor an overscan",
                    where=group.members[0].path,
                    do="add biases to the folder",
                )
        for earlier in measurement.after:
            other = _measurement(earlier)
            uses[other.kind] = self._measured(other, group, siblings, {})["name"]
        return uses

    def _has_overscan(self, group: Group) -> bool:
        instrument = self.exposures.instrument
        return self.recipe.enabled("overscan") and overscan.has_overscan(group.members[0], instrument)

    def _master(self, kind: str, group: Group) -> str | None:
        """The master of a kind that fits a group, made now or kept."""
        jobs = [job for job in self.plan.jobs if job.kind == kind]
        job = nearest(
            jobs, lambda one: one.keys, lambda one: one.epoch, group.members[0], self.exposures.instrument
        )
        if job is None:
            return None
        self._make(job.name)
        return job.name

    def _all(self, kind: str) -> tuple[str, ...]:
        """All masters of a kind."""
        names = [job.name for job in self.plan.jobs if job.kind == kind]
        for name in names:
            self._make(name)
        return tuple(names)

    def _make(self, name: str) -> None:
        """A master, after those that prepare its pixels."""
        job = self.plan.job(name)
        for used in job.uses.values():
            self._make(used)
        self.workshop.make(job)


def _repeated(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a detector has several."""
    detectors = [str(entry["keys"].get("detector")) for entry in entries]
    return len(set(detectors)) < len(detectors)


def needs_masters(measurement: Measurement) -> bool:
    """Whether it, or what is measured before it, is handed masters."""
    earlier = (*measurement.after, *measurement.corrected)
    return bool(measurement.masters) or any(needs_masters(_measurement(one)) for one in earlier)


def _measurement(name: str) -> Measurement:
    return next(one for one in MEASUREMENTS if one.name == name)


def _name(measurement: Measurement, group: Group, siblings: Siblings) -> str:
    """Of the product of a group: its kind, in what it differs from others, and the day of its epoch."""
    name = stem(measurement.kind, group.keys, siblings)
    return f"{name}_{group.when}" if group.when else name
