"""Stock: certified masters of a registry, chosen for exposures as of one revision, before pixels are read.

See `calibrant.registry` for the rule of choice. Drafts are never taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from calibrant.errors import AmbiguousError, FileError, NoMatchError, RegistryError
from calibrant.files.fits import read
from calibrant.files.header import inspect
from calibrant.files.products import outline
from calibrant.files.records import Records
from calibrant.frame import Exposure, iso_time
from calibrant.pipeline.supply import Stocked, Unusable
from calibrant.product import Product

if TYPE_CHECKING:
    from calibrant.registry import Registry
    from calibrant.registry.records import Candidate, Choice

DIGITS = len("sha256:") + 12


class Certified:
    """Asks a registry, each question once, all of them as of the same revision.

    Parameters
    ----------
    registry : Registry
    tag : str or sequence of str, optional
        Tags to be searched; by default those of the registry object.
    as_of : int, str or datetime, optional
        Revision, time, or the name of a frozen state; by default the state of now, which is noted.
    level : int
        How far outside its validity a master may be taken, as of `Registry.get`.

    Attributes
    ----------
    revision : int or None
        Of every choice: with it as `as_of` the same masters are chosen again. None as long as a time or a
        name was given and nothing was chosen.
    """

    def __init__(
        self, registry: Registry, *, tag: str | Sequence[str] | None = None, as_of: Any = None, level: int = 0
    ) -> None:
        self.registry, self.tag, self.level = registry, tag, level
        given = registry.as_of if as_of is None else as_of
        # Others may certify meanwhile: all frames of a reduction are answered as of one revision.
        self.as_of = registry.revision if given is None else given
        self.revision: int | None = self.as_of if isinstance(self.as_of, int) else None
        self._answers: dict[tuple[str, str | None, str | None, str], Stocked | str] = {}

    def __call__(self, kind: str, exposure: Exposure) -> Stocked | str:
        """The certified master of a kind for an exposure; or why there is none, or why it is of no use."""
        question = (kind, exposure.path, exposure.identifier, exposure.detector)
        if question not in self._answers:
            self._answers[question] = self._ask(kind, exposure)
        return self._answers[question]

    @property
    def entry(self) -> dict[str, Any]:
        """For the summary: which registry, and what has to be said to have the same choice again."""
        tag = self.registry.tag if self.tag is None else self.tag
        return {"url": self.registry.url, "tag": tag, "level": self.level, "revision": self.revision}

    def _ask(self, kind: str, exposure: Exposure) -> Stocked | str:
        options = {"tag": self.tag, "as_of": self.as_of, "level": self.level}
        try:
            choice = self.registry.choose_for(kind, exposure, **options)
        except NoMatchError as error:
            return _nearest_miss(error)
        except AmbiguousError as error:
            return Unusable(str(error).rstrip("."))
        self.revision = choice.revision
        return self._found(choice)

    def _found(self, choice: Choice) -> Stocked | Unusable:
        """What was chosen, at the first of its places where it lies."""
        places = dict.fromkeys((choice.path, *self.registry.entry(choice.candidate.identity).places))
        problems = []
        for path in filter(None, places):
            try:
                found = stocked(choice, path)
            except FileError as error:
                problems.append(str(error).rstrip("."))
            else:
                return replace(found, others=tuple(other for other in places if other not in ("", path)))
        of = choice.candidate
        why = problems[0] if problems else "no place of its file is known"
        return Unusable(f"the certified {of.kind} {of.identity[:DIGITS]} cannot be used: {why}")


def stocked(choice: Choice, path: str) -> Stocked:
    """What the rule chose, with the facts that its file states; its pixels stay where they are.

    Raises
    ------
    FileError
        If the file is gone, or another product lies there now.
    """
    found = choice.candidate
    identity, product, shape = described(path)
    if identity != found.identity:
        raise FileError(
            "another product lies there now",
            where=path,
            expected=found.identity[:DIGITS],
            got=identity[:DIGITS],
            do="put the file back, or make the product again",
        )
    facts = {
        "tag": found.tag,
        "begin": None if found.begin is None else iso_time(found.begin),
        "end": None if found.end is None else iso_time(found.end),
        "level": choice.level,
        "notes": list(choice.notes),
    }
    return Stocked(
        kind=product.kind,
        identity=identity,
        path=path,
        keys=product.keys,
        epoch=product.epoch,
        shape=shape,
        quantities=product.quantities,
        certified=_certified(found),
        facts=facts,
    )


def described(path: str) -> tuple[str, Product, tuple[int, ...]]:
    """Identity, facts and shape of a product's file; no pixel is read.

    Returns
    -------
    (str, Product, tuple of int)
        The product has neither planes nor tables.

    Raises
    ------
    FileError
        If the file cannot be read, or holds no product.
    """
    contents = inspect(path)
    if contents.hdus[0].header.get("CALFORM") != "product":
        raise FileError("the file holds no product of ours", where=path)
    identity, product = outline(contents, Records.read(contents))
    image = contents.find("SCI") or contents.find("DQ")
    return identity, product, () if image is None else tuple(image.shape)


def load(item: Stocked) -> Product:
    """The product itself.

    Raises
    ------
    RegistryError
        If its file was altered or lost: nothing may be calibrated with it.
    """
    problems = []
    for path in (item.path, *item.others):
        try:
            found = read(path)
        except FileError as error:
            problems.append(str(error).rstrip("."))
            continue
        if isinstance(found, Product) and found.identity == item.identity:
            return found
        problems.append(f"{path}: it is not the product that was chosen")
    raise _unusable(item, problems[0])


def _unusable(item: Stocked, why: str) -> RegistryError:
    return RegistryError(
        f"the certified {item.kind} {item.identity[:DIGITS]} cannot be used: {why}",
        do="`calibrant registry check` tells of all such files",
    )


def _nearest_miss(error: NoMatchError) -> str:
    """The reason of the nearest miss alone: the others, and the exposure, would be said for every frame."""
    _, named, misses = error.what.partition("nearest: ")
    return misses.partition("; ")[0] if named else "none of its kind"


def _certified(found: Candidate) -> str:
    """``certified under DP1, 2024-11-08 to 2024-12-12``."""
    begin, end = (None if edge is None else iso_time(edge)[:10] for edge in (found.begin, found.end))
    if begin and end:
        span = f"{begin} to {end}"
    else:
        span = f"from {begin}" if begin else f"until {end}" if end else "for all times"
    return f"certified under {found.tag}, {span}"
