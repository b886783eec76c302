"""The plan of a reduction: which masters are made of what, which frame uses which, and what is missing.

Made from headers alone, so that everything that is missing is known before the first pixel is read. What the
folder cannot make itself is taken from a stock, if there is one: certified masters of a registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from calibrant.effects import overscan
from calibrant.errors import MissingCalibrationError
from calibrant.exposures import Exposures
from calibrant.frame import Exposure
from calibrant.instrument import Instrument
from calibrant.pipeline.corrections import OF_LIGHT
from calibrant.pipeline.matching import Group, groups, mismatch, nearest, stem
from calibrant.pipeline.recipe import Recipe
from calibrant.pipeline.supply import Stock, Stocked, Supply, Unusable

IN_MEMORY = "frame in memory"
ELECTRONICS = ("crosstalk", "linearity", "amplifier_offsets", "gain")
"""What flats are corrected for before a master is made of them, and which gain is theirs."""
ENOUGH = 3
"""Darks of exactly the right time that are worth more than a rate from all: fewer cannot reject a hit."""


@dataclass(frozen=True, eq=False)
class Job:
    """One master to be made.

    Attributes
    ----------
    name : str
        Stem of its file.
    kind : str
    keys : mapping
        Facts that a frame must share to use it.
    members : Exposures
        Raw frames it is made of.
    uses : mapping
        Kind -> name of the job whose master prepares the pixels.
    longest : float
        The longest exposure time of a dark, seconds.
    """

    name: str
    kind: str
    keys: Mapping[str, Any]
    members: Exposures
    uses: Mapping[str, str] = field(default_factory=dict)
    longest: float = 0.0

    @property
    def includes_bias(self) -> bool:
        """Whether this is a dark that still holds its bias."""
        return self.kind == "dark" and "bias" not in self.uses

    @property
    def epoch(self) -> int | None:
        """Mid-time of the members."""
        return self.members.epoch


@dataclass(frozen=True)
class Missing:
    """A calibration that a frame needs and the folder does not hold; or a certified one that is of no use."""

    kind: str
    why: str
    frame: str
    certified: bool = False


@dataclass(frozen=True, eq=False)
class Target:
    """A science frame, or a frame of a flat, and the masters it uses: kind -> name of the job."""

    index: int
    exposure: Exposure
    uses: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Plan:
    """What a reduction will do.

    Attributes
    ----------
    jobs : tuple of Job
        Masters, each after those it uses.
    targets : tuple of Target
        Science frames.
    missing : tuple of Missing
    advised : tuple of Missing
        What is not there and would do good, but can be gone without: the bias of frames with an overscan.
    stock : tuple of Stocked
        Masters that are taken as they are, because the folder cannot make them.
    notes : tuple of str
        Sentences for the reader: calibrations of several epochs.
    """

    jobs: tuple[Job, ...]
    targets: tuple[Target, ...]
    missing: tuple[Missing, ...]
    advised: tuple[Missing, ...] = ()
    stock: tuple[Stocked, ...] = ()
    notes: tuple[str, ...] = ()

    def job(self, name: str) -> Job:
        """The job of that name."""
        return next(job for job in self.jobs if job.name == name)

    def refuse_missing(self) -> None:
        """Raise if anything is missing, and list all of it.

        Raises
        ------
        MissingCalibrationError
        """
        if not self.missing:
            return
        lost = any(lack.certified for lack in self.missing)
        tell = "`calibrant registry check` tells of all files that are lost or altered; " if lost else ""
        raise MissingCalibrationError(
            "calibrations are missing: " + "; ".join(sentences(self.missing)),
            do=f"{tell}add the frames, or go on without them (--allow-missing)",
        )


def sentences(lacks: Iterable[Missing]) -> list[str]:
    """What is missing, one piece of a sentence for each kind and reason."""
    frames: dict[tuple[str, str], list[str]] = {}
    for lack in lacks:
        frames.setdefault((lack.kind, lack.why), []).append(lack.frame)
    return [f"no {kind} ({why}) for {listed(names)}" for (kind, why), names in frames.items()]


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names for a sentence: the first few, and how many more."""
    shown = ", ".join(name.rsplit("/", 1)[-1] for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def make_plan(
    exposures: Exposures, recipe: Recipe, *, allow_missing: bool = False, stock: Stock | None = None
) -> Plan:
    """Plan the reduction of a folder.

    Parameters
    ----------
    exposures : Exposures
        All that was found.
    recipe : Recipe
    allow_missing : bool
        Plan to go on without what is missing: flats whose bias nothing removes make no master.
    stock : callable, optional
        Where certified masters come from that the folder cannot make.
    """
    planner = _Planner(exposures, recipe, allow_missing, stock)
    biases = planner.bias_jobs()
    darks = planner.dark_jobs(biases)
    flats = planner.flat_jobs(biases, darks)
    targets = planner.targets(biases, darks, flats)
    return Plan(
        (*biases, *darks, *flats),
        tuple(targets),
        tuple(planner.missing),
        tuple(planner.advised),
        tuple(planner.supply.taken.values()),
        tuple(planner.notes),
    )


class _Planner:
    """Gathers what is missing while the jobs are made."""

    def __init__(
        self, exposures: Exposures, recipe: Recipe, allow_missing: bool, stock: Stock | None
    ) -> None:
        self.exposures = exposures
        self.instrument: Instrument = exposures.instrument
        self.recipe = recipe
        self.allow_missing = allow_missing
        self.supply = Supply(stock, exposures)
        self.missing: list[Missing] = []
        self.advised: list[Missing] = []
        self.notes: list[str] = []

    def groups(self, kind: str, extra: Iterable[str] = ()) -> list[Group]:
        """Exposures of a kind, by the matching keys of its masters; none if the recipe leaves it out."""
        if not self.recipe.enabled(kind):
            return []
        # A window or a mis-set camera must not spoil the master of the others.
        keys = (*self.instrument.match.get(kind, ()), *extra, "shape")
        settings = groups(self.exposures.where(kind=kind), kind, keys)
        found = [epoch for group in settings for epoch in group.epochs(self.recipe.gap.get(kind))]
        self._tell_epochs(kind, found)
        return found

    def _tell_epochs(self, kind: str, found: Sequence[Group]) -> None:
        days = sorted({group.when for group in found if group.when})
        if days:
            self.notes.append(
                f"{kind}: between {listed(days)} lie more than {self.recipe.gap[kind]:g} days without any: "
                "each epoch has a master of its own, and a frame uses the nearest in time"
            )

    def bias_jobs(self) -> list[Job]:
        """One master bias for each setting."""
        found = self.groups("bias")
        return [self._job(group, found) for group in found]

    def dark_jobs(self, biases: Sequence[Job]) -> list[Job]:
        """Darks: a rate where there is a bias to subtract, else one master for each exposure time."""
        rates: list[tuple[Group, Job | Stocked]] = []
        fixed: list[Group] = []
        for group in self.groups("dark"):
            bias = self.bias_for(group.members[0], biases)
            if bias is not None:
                rates.append((group, bias))
            else:
                fixed.extend(group.settings("exptime"))
        jobs = [self._job(group, fixed, self._offsets(group)) for group in fixed]
        for group, bias in rates:
            uses = {"bias": bias.name} | self._offsets(group)
            jobs.append(self._job(group, [group for group, _ in rates], uses))
            jobs.extend(self._exact_darks(group, bias))
        return jobs

    def _exact_darks(self, group: Group, bias: Job | Stocked) -> list[Job]:
        """A rate of one exposure time alone, where frames of that time want it and it has enough darks."""
        pieces = group.settings("exptime")
        if len(pieces) < 2:
            return []
        lit = [*self.exposures.where(kind="flat"), *self._science()]
        wanted = [exposure for exposure in lit if exposure.duration is not None]
        return [
            self._job(piece, pieces, {"bias": bias.name} | self._offsets(piece))
            for piece in pieces
            if len(piece.members) >= ENOUGH
            and any(mismatch(piece.keys, exposure, self.instrument) is None for exposure in wanted)
        ]

    def flat_jobs(self, biases: Sequence[Job], darks: Sequence[Job]) -> list[Job]:
        """One master flat for each filter and setting."""
        found = self.groups("flat")
        jobs = []
        for group in found:
            before = len(self.missing)
            uses = self._zero_level(group.members, biases, darks)
            if self.allow_missing and any(lack.kind == "bias" for lack in self.missing[before:]):
                continue  # counts that still hold their bias say nothing of the light
            jobs.append(self._job(group, found, uses | self._certified(ELECTRONICS, group.members[0])))
        return jobs

    def targets(self, biases: Sequence[Job], darks: Sequence[Job], flats: Sequence[Job]) -> list[Target]:
        """The science frames and their masters."""
        found = []
        for index, exposure in enumerate(self.exposures):
            if exposure.kind not in self.instrument.science:
                continue
            uses = dict(self._zero_level([exposure], biases, darks))
            if self.recipe.enabled("flat") and "flat" not in exposure.applied:
                flat = self.match(flats, exposure) or self.stocked("flat", exposure)
                if flat is not None:
                    uses["flat"] = flat.name
                elif self.recipe.required.get("flat"):
                    self._lack("flat", exposure, flats)
            uses |= self._stocked_defects(exposure, uses)
            uses |= self._certified((*ELECTRONICS, "charge_transfer", *OF_LIGHT), exposure)
            found.append(Target(index, exposure, uses))
        return found

    def _certified(self, kinds: Iterable[str], exposure: Exposure) -> dict[str, str]:
        """What a night does not measure itself, as far as there is any: missing it is no fault."""
        found = {kind: self.stocked(kind, exposure) for kind in kinds}
        return {kind: item.name for kind, item in found.items() if item is not None}

    def _offsets(self, group: Group) -> dict[str, str]:
        """Offsets of amplifiers in darks: left there, they would be taken from frames a second time."""
        return self._certified(("amplifier_offsets",), group.members[0])

    def _stocked_defects(self, exposure: Exposure, uses: Mapping[str, str]) -> dict[str, str]:
        """Certified defects, where no master is the folder's own to find them on."""
        own = any(name not in self.supply.names for name in uses.values())
        found = self.stocked("defects", exposure) if uses and not own else None
        return {} if found is None else {"defects": found.name}

    def _zero_level(
        self, members: Sequence[Exposure], biases: Sequence[Job], darks: Sequence[Job]
    ) -> dict[str, str]:
        """Bias and dark of frames of one setting; where some had theirs removed, of those that had not."""
        uses: dict[str, str] = {}
        whole = False
        for exposure in members:
            bias = None
            if "bias" not in exposure.applied and "dark" not in exposure.applied:
                bias = self.bias_for(exposure, biases)
                if bias is not None:
                    uses["bias"] = bias.name
            if "dark" not in exposure.applied and self.recipe.enabled("dark"):
                dark = self.dark_for(exposure, darks, bias)
                if dark is not None:
                    uses["dark"] = dark.name
                    whole |= dark.includes_bias
                elif self.recipe.required.get("dark"):
                    self._lack("dark", exposure, darks)
            if not whole and bias is None and not exposure.applied & {"bias", "dark"}:
                self._no_bias(exposure, biases)
        if whole:
            uses.pop("bias", None)  # that dark takes it away
        return uses

    def _no_bias(self, exposure: Exposure, biases: Sequence[Job]) -> None:
        """Nothing takes the bias of a frame away: an error, unless its overscan takes away the level."""
        if not (self.recipe.enabled("bias") and self.recipe.required.get("bias", True)):
            return
        has = self.recipe.enabled("overscan") and overscan.has_overscan(exposure, self.instrument)
        self._lack("bias", exposure, biases, self.advised if has else self.missing)

    def bias_for(self, exposure: Exposure, biases: Sequence[Job]) -> Job | Stocked | None:
        """The bias of a frame: the folder's, else a certified one."""
        return self.match(biases, exposure) or self.stocked("bias", exposure)

    def dark_for(
        self, exposure: Exposure, darks: Sequence[Job], bias: Job | Stocked | None = None
    ) -> Job | Stocked | None:
        """The dark of a frame: of exactly its time if there is one, else a rate measured at longer times."""
        exact = [job for job in darks if job.keys.get("exptime") is not None]
        found = self.match(exact, exposure)
        if found is not None:
            return found
        least = self._least(exposure)
        rates = [job for job in darks if job.keys.get("exptime") is None and job.longest >= least]
        uses = {} if bias is None else {"bias": bias.name}
        return self.match(rates, exposure) or self.stocked("dark", exposure, uses)

    def _least(self, exposure: Exposure) -> float:
        """The time that the darks of a rate must reach, seconds: rates are scaled down only."""
        time: float = exposure.get("darktime") or exposure.get("exptime") or 0.0
        return time - self.instrument.reach("exptime", time)

    def stocked(self, kind: str, exposure: Exposure, uses: Mapping[str, str] | None = None) -> Stocked | None:
        """A certified master for a frame, if the recipe wants its kind and there is one."""
        found = self._asked(kind, exposure) if self.recipe.enabled(kind) else ""
        if isinstance(found, Unusable):
            lack = Missing(kind, found, exposure.path or IN_MEMORY, certified=True)
            self.missing += [lack] if lack not in self.missing else []
        return None if isinstance(found, str) else self.supply.take(found, uses or {})

    def _asked(self, kind: str, exposure: Exposure) -> Stocked | str:
        """The answer of the stock; a rate of times that are too short for the frame is none."""
        found = self.supply.ask(kind, exposure)
        if isinstance(found, str) or kind != "dark" or found.keys.get("exptime") is not None:
            return found
        if found.longest >= self._least(exposure):
            return found
        return f"{found.identity[:19]}: a rate of darks of at most {found.longest:g} s"

    def match(self, jobs: Iterable[Job], exposure: Exposure) -> Job | None:
        """The job whose keys fit an exposure, nearest in temperature and time."""
        return nearest(jobs, lambda job: job.keys, lambda job: job.epoch, exposure, self.instrument)

    def _science(self) -> list[Exposure]:
        return [exposure for exposure in self.exposures if exposure.kind in self.instrument.science]

    def _lack(
        self, kind: str, exposure: Exposure, jobs: Sequence[Job], to: list[Missing] | None = None
    ) -> None:
        """Note what is missing, with the reason of the nearest miss."""
        reasons = [mismatch(job.keys, exposure, self.instrument) for job in jobs]
        why = next((reason for reason in reasons if reason), "")
        if kind == "dark":
            why = self._why_no_dark(exposure, jobs) or why
        elif kind == "flat" and not jobs and len(self.exposures.where(kind="flat")):
            why = "the flats cannot be used without their bias"
        elif kind == "flat" and len(reasons) > 1:
            wanted = {
                key: exposure.get(key)
                for key in self.instrument.match.get(kind, ())
                if key in ("filter", "setting")
            }
            why = ", ".join(f"{key} {value}" for key, value in wanted.items() if value is not None) or why
        why = why or "none at all"
        answer = self._asked(kind, exposure)
        if isinstance(answer, Unusable):
            return  # noted when it was asked for
        if isinstance(answer, str) and answer:
            why = f"{why}; in the registry: {answer}"
        lacks = self.missing if to is None else to
        lacks.append(Missing(kind, why, exposure.path or IN_MEMORY))

    def _why_no_dark(self, exposure: Exposure, jobs: Sequence[Job]) -> str:
        """Another setting, if that is so of all darks; else the times of those of the setting."""
        own = [
            job
            for job in jobs
            if mismatch({k: v for k, v in job.keys.items() if k != "exptime"}, exposure, self.instrument)
            is None
        ]
        times = sorted(
            {time for job in own for one in job.members if (time := one.get("exptime")) is not None}
        )
        if not times or exposure.get("exptime") is None:
            return ""
        return f"for {exposure.get('exptime'):g} s; there are {listed([f'{time:g} s' for time in times], 8)}"

    def _job(self, group: Group, siblings: Sequence[Group], uses: Mapping[str, str] | None = None) -> Job:
        times = [time for member in group.members if (time := member.get("exptime")) is not None]
        name = stem(group.kind, group.keys, [other.keys for other in siblings])
        name = f"{name}_{group.when}" if group.when else name
        self.supply.reserved.add(name)
        return Job(name, group.kind, group.keys, group.members, uses or {}, max(times, default=0.0))
