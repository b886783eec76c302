"""What a report is made of: products found, the verdicts on them, and what they are held against."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrant.errors import CalibrantError, SelectionError

if TYPE_CHECKING:
    from calibrant.exposures import Exposures
    from calibrant.instrument import Instrument
    from calibrant.product import Product
    from calibrant.registry import Registry
    from calibrant.registry.records import Entry, Verdict
    from calibrant.report.matter import Run, Subject

Progress = Callable[[int, int, str], None]
SUMMARY = "summary.json"
FOLDERS = (".", "masters", "products")
"""Where products lie in a folder of results."""
ORDER = ("bias", "dark", "flat", "defects")
MOST = 60  # letters of the name of a file made of a detector's


@dataclass(frozen=True, eq=False)
class Found:
    """A product in a file, by its header: no pixel was read.

    Attributes
    ----------
    outline : Product
        Without planes and tables.
    """

    path: Path
    identity: str
    outline: Product

    @property
    def detector(self) -> str:
        """As its keys say; empty if it is of none, or of several."""
        return str(self.outline.keys.get("detector") or "")

    def load(self) -> Product:
        """The product itself."""
        from calibrant.registry.opening import product_file

        return product_file(self.path)


@dataclass(eq=False)
class Judge:
    """Verifies what nobody has verified, on the raw frames at hand.

    Attributes
    ----------
    instrument : Instrument or None
        None if it is not known: then `why` says so.
    exposures : Exposures or None
        Raw frames; without any, only what a product states is judged.
    recipe : str, path or Recipe
        Whose limits; ``auto`` takes the one that the instrument names.
    parents : mapping of Found
        By identity: what prepared the frames.
    """

    instrument: Instrument | None
    exposures: Exposures | None = None
    recipe: Any = "auto"
    parents: Mapping[str, Found] = field(default_factory=dict)
    why: str = ""

    def verdict(self, found: Found, reference: Product | None) -> tuple[Verdict | None, str]:
        """The verdict, or why there is none."""
        from calibrant.pipeline import recipe as recipes
        from calibrant.pipeline.limits import frames_needed, products_needed
        from calibrant.pipeline.verify import verify

        if self.instrument is None:
            return None, self.why
        kind = found.outline.kind
        try:
            named = self.instrument.recipe if self.recipe == "auto" else self.recipe
            recipe = recipes.load(named) if isinstance(named, (str, Path)) else named
            if not recipe.limits_of(kind):
                return None, f"the recipe {recipe.name} has no limits for products of this kind"
            if frames_needed(kind) and self.exposures is None:
                return None, self.why or "its raw frames are not at hand; say with --raw where they are"
            parents = [self.parents[one] for one in found.outline.provenance.parents if one in self.parents]
            needed = {
                one.outline.kind: one.load() for one in parents if one.outline.kind in products_needed(kind)
            }
            judged = verify(
                found.load(), recipe=recipe, instrument=self.instrument, exposures=self.exposures,
                products=needed, reference=reference,
            )  # fmt: skip
        except CalibrantError as error:
            return None, f"it could not be verified: {error}"
        return judged, ""


def products_of(place: Path, registry: Registry | None = None) -> tuple[list[Found], list[str]]:
    """The products of a folder of results, or of a file, and sentences on files that cannot be read.

    Where there is no such place, a registry is asked for an identity, or the beginning of one.

    Raises
    ------
    SelectionError
        If there is no such place, or no product in it.
    FileError
        If the only file cannot be read.
    """
    if not place.exists() and registry is not None:
        entry = registry.entry(str(place))
        place = next((Path(path) for path in entry.places if Path(path).exists()), place)
    if not place.exists():
        raise SelectionError("there is no such file or folder", where=place)
    found, problems = [], []
    for path in _files(place):
        try:
            one = _found(path)
        except CalibrantError as error:
            if place.is_file():
                raise
            problems.append(str(error))
            continue
        if one is not None:
            found.append(one)
        elif place.is_file():
            raise SelectionError("the file holds a frame, and no product", where=place)
    if not found:
        told = f"; {len(problems)} files could not be read, first: {problems[0]}" if problems else ""
        raise SelectionError(
            f"there is no product in the folder{told}", where=place,
            expected="the results of reduce or measure: *.fits, or masters/*.fits",
        )  # fmt: skip
    kinds = {kind: place for place, kind in enumerate(ORDER)}
    return sorted(
        found, key=lambda one: (kinds.get(one.outline.kind, len(ORDER)), one.outline.kind)
    ), problems


def neighbours(found: Sequence[Found]) -> list[Found]:
    """The products that lie beside some: those that prepared their frames are among them."""
    folders = dict.fromkeys(one.path.parent for one in found)
    return [one for folder in folders for one in products_of(folder)[0]]


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return [path for folder in FOLDERS for path in sorted((place / folder).glob("*.fits"))]


def _found(path: Path) -> Found | None:
    """The product of a file; None if it holds a frame."""
    from calibrant.files.header import inspect
    from calibrant.pipeline.stock import described

    if inspect(str(path)).hdus[0].header.get("CALFORM") != "product":
        return None
    identity, outline, _ = described(str(path))
    return Found(path, identity, outline)


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a folder of results; empty if there is none, or one that cannot be understood."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def instrument_of(named: str, found: Sequence[Found]) -> tuple[Instrument | None, str]:
    """The instrument that is named, or whose name the products bear; else why it is not known."""
    from calibrant.instrument import load, names

    if named != "auto":
        return load(named), ""
    told = next((one.outline.instrument for one in found if one.outline.instrument), "")
    if told in names():
        return load(told), ""
    return None, f"the instrument {told!r} is not known here; name its file with --instrument"


def raw_frames(
    folder: Path | None, results: Path, instrument: Instrument | None, found: Sequence[Found]
) -> Exposures | None:
    """The raw frames of a folder, or those that products name, where they lie; None if there are none.

    What lies in the folder of `results` is none.
    """
    from calibrant.pipeline.folders import scan

    named = dict.fromkeys(one.name for product in found for one in product.outline.provenance.inputs)
    paths = [str(folder)] if folder is not None else [name for name in named if Path(name).is_file()]
    if instrument is None or not paths or not all(Path(path).exists() for path in paths):
        return None
    try:
        return scan(paths, results, instrument, None, None)
    except CalibrantError:
        return None


# --- what products are held against -----------------------------------------------------------------------


def earlier(found: Found, others: Iterable[Found], instrument: Instrument | None) -> Found | None:
    """The product of an earlier folder of the same kind and setting, the nearest within the tolerances."""
    near = [(_distance(found.outline, other.outline, instrument), other) for other in others]
    fitting = [(far, other) for far, other in near if far is not None]
    return min(fitting, key=lambda each: each[0])[1] if fitting else None


def _distance(one: Product, other: Product, instrument: Instrument | None) -> float | None:
    from calibrant.registry.slots import distance

    if one.kind != other.kind:
        return None
    if instrument is not None and one.instrument == instrument.name:
        return distance(instrument, one.keys, other.keys)
    return (
        0.0
        if {k: str(v) for k, v in one.keys.items()} == {k: str(v) for k, v in other.keys.items()}
        else None
    )


def certified(found: Found, registry: Registry) -> Entry | None:
    """The product that was certified last for the same setting, if the registry knows this one."""
    if registry.known(found.identity) is None:
        return None
    return registry.last_certified(found.identity)


# --- subjects ---------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Desk:
    """Where products become subjects of a report: what the registry knows, verdicts, and references.

    Attributes
    ----------
    judge : Judge
    verifies : bool
        Whether it may judge what nobody has verified.
    registry : Registry or None
    others : sequence of Found
        Of an earlier folder; they go before what is certified.
    """

    judge: Judge
    registry: Registry | None = None
    others: Sequence[Found] = ()
    notes: list[str] = field(default_factory=list)
    progress: Progress | None = None
    verifies: bool = True

    def subjects(self, found: Sequence[Found]) -> list[Subject]:
        """What a report tells of each."""
        made = []
        for place, one in enumerate(found, 1):
            made.append(self._subject(one))
            if self.progress is not None:
                self.progress(place, len(found), "verifying")
        return _distinct(made)

    def _subject(self, found: Found) -> Subject:
        from calibrant.report.matter import Subject

        entry = None if self.registry is None else self.registry.known(found.identity)
        subject = Subject(found.path.stem, found.load, str(found.path), entry=entry)
        subject = self._referred(subject, found)
        verdict = None if self.registry is None or entry is None else self.registry.verdict(found.identity)
        if verdict is not None:
            return replace(subject, verdict=verdict, source="as the registry has it")
        if not self.verifies:
            return replace(subject, why="nobody has verified it")
        verdict, why = self.judge.verdict(found, self._certified_reference(found))
        return replace(subject, verdict=verdict, why=why)

    def _referred(self, subject: Subject, found: Found) -> Subject:
        if self.others:
            other = earlier(found, self.others, self.judge.instrument)
            if other is not None:
                return replace(subject, reference=other.load, against=str(other.path))
            self.notes.append(f"{found.path.name}: the earlier folder has nothing of its kind and setting")
            return subject
        last = None if self.registry is None else certified(found, self.registry)
        if last is None or self.registry is None:
            return subject
        registry, identity = self.registry, last.identity
        against = f"the last certified, {identity.removeprefix('sha256:')[:12]}"
        return replace(subject, reference=lambda: registry.read(identity), against=against)

    def _certified_reference(self, found: Found) -> Product | None:
        last = None if self.registry is None else certified(found, self.registry)
        if last is None or self.registry is None:
            return None
        try:
            return self.registry.read(last.identity)
        except CalibrantError:
            return None  # told where it is compared


def _distinct(subjects: list[Subject]) -> list[Subject]:
    """Names that several bear are told with their folders."""
    names = [one.name for one in subjects]
    return [
        replace(one, name=str(Path(one.file).with_suffix(""))) if names.count(one.name) > 1 else one
        for one in subjects
    ]


def of_detector(run: Run, found: Sequence[Found], detector: str) -> Run:
    """The run as it concerns a detector: its frames are those that its products have made."""
    own = {one.path.stem for one in found if one.detector == detector}
    frames = [
        entry
        for entry in run.entries("frames")
        if not isinstance(entry.get("masters"), dict) or own & set(map(str, entry["masters"].values()))
    ]
    return replace(run, summary={**run.summary, "frames": frames})


def detectors_of(found: Sequence[Found]) -> dict[str, list[Found]]:
    """Products by their detector; what several detectors say together goes to each."""
    names = dict.fromkeys(one.detector for one in found if one.detector)
    return {name: [one for one in found if one.detector in (name, "")] for name in names} or {"": list(found)}


def beside(out: Path, label: str) -> Path:
    """``report_NRCA1.html`` of ``report.html``."""
    word = "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in label)[:MOST]
    return out.with_name(f"{out.stem}_{word}{out.suffix}")


def now() -> str:
    """The present time to the minute, UTC."""
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def written(html: str, out: Path, overwrite: bool) -> Path:
    """The report in its file, all of it or nothing."""
    from calibrant.files.atomic import atomic_write

    with atomic_write(out, overwrite=overwrite) as file:
        file.write(html.encode("utf-8"))
    return out


def of_reduction(reduction: Any, registry: Registry | None, progress: Progress | None) -> Path:
    """``report.html`` beside the products of a reduction; one of an earlier run is replaced."""
    from calibrant.report.matter import Run
    from calibrant.report.page import page

    summary = reduction.summary.as_dict()
    folder = Path(summary["out"])
    run = Run(folder, summary, registry=registry, instrument=reduction.instrument)
    found: list[Found] = []
    for entry in summary["masters"]:
        one = _found(folder / entry["file"])
        found += [] if one is None else [one]
    judge = Judge(reduction.instrument, reduction.raw, reduction.recipe, {one.identity: one for one in found})
    subjects = list(Desk(judge, registry, progress=progress).subjects(found))
    html = page(subjects, title=title_of(summary, folder), run=run, created=now())
    return written(html, place_in(folder), overwrite=True)


def place_in(folder: Path) -> Path:
    """Where the report of a reduction lies; one of ours may be replaced there, and nothing else.

    Raises
    ------
    OutputExistsError
        If another file is in the way.
    """
    from calibrant.files.atomic import refuse_existing
    from calibrant.report.page import GENERATOR

    place = folder / "report.html"
    ours = place.is_file() and GENERATOR.encode() in place.read_bytes()[:2000]
    refuse_existing(place, overwrite=ours)
    return place


def title_of(summary: Mapping[str, Any], folder: Path, detector: str = "") -> str:
    """``Reduction of raw``, or the name of the folder of results."""
    raw = summary.get("folder")
    what = f"Reduction of {Path(raw).name or raw}" if raw else f"Products of {folder}"
    return f"{what}, detector {detector}" if detector else what


def each(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """What goes into one report: each folder by itself, and all files together."""
    yield from ([path] for path in paths if path.is_dir())
    files = [path for path in paths if not path.is_dir()]
    if files:
        yield files
