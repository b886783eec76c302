"""Which exposures of a slicer are measured: sources, campaigns, bands by name, each with its background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from calibrant.errors import SelectionError
from calibrant.exposures import Exposures
from calibrant.exposures.sources import BACKGROUND, background_of, narrowed
from calibrant.frame import Exposure

FACTS = ("source", "campaign", "band", "channel", "pointing", "position")
"""What tells exposures of a slicer apart, in the order in which names of products say it."""
NONE = "none"


@dataclass(frozen=True)
class Choice:
    """What is measured. Several names are set apart by commas; ``*`` and ``?`` stand for letters.

    Attributes
    ----------
    source : str or None
        By default the instrument's lamp (for traces its point source), or the only source there is.
    campaign, band : str or None
        By default all that there are, each for itself.
    against : str or None
        A source that each of them is held against, of the same campaign and band.
    background : str or None
        The source that is subtracted; ``none``: nothing. By default the instrument says whose background is.
    correct : str or None
        What is measured on each frame and corrected before, in this order: row-parity, stray-light.
    any_readout : bool
        Whether two sources are held against each other although they were read out differently.
    """

    source: str | None = None
    campaign: str | None = None
    band: str | None = None
    against: str | None = None
    background: str | None = None
    correct: str | None = None
    any_readout: bool = False

    def of(self, exposures: Exposures, default: str) -> tuple[Exposures, list[str]]:
        """The exposures that are meant, and sentences about campaigns that have none of them.

        Parameters
        ----------
        exposures : Exposures
            Of all sources.
        default : str
            The source that is meant if none is named.

        Raises
        ------
        SelectionError
            If nothing is left, with the fact that rules all out, or several sources could be meant.
        """
        known = set(exposures.values("source")) if len(exposures) and _tells(exposures, "source") else set()
        facts = {"campaign": words(self.campaign), "band": words(self.band)}
        if known - {None}:
            source = words(self.source) or [self._source(exposures, facts, default)]
            facts = {**facts, "source": [*source, *words(self.against)]}
        elif self.source or self.against:
            facts["source"] = words(self.source) or words(self.against)
        given = {name: wanted for name, wanted in facts.items() if wanted}
        found = narrowed(exposures, **given)
        if not len(found):
            raise SelectionError("there is no exposure to measure")
        return found, [] if self.campaign else lacking(exposures, found, given)

    def _source(self, exposures: Exposures, facts: dict[str, list[str]], default: str) -> str:
        """The source that is meant where none is named."""
        left = narrowed(exposures, **{name: wanted for name, wanted in facts.items() if wanted})
        names = [str(name) for name in left.values("source") if name not in (None, self._background(left))]
        if default in names:
            return default
        if len(names) == 1:
            return names[0]
        raise SelectionError(
            "several sources could be meant" if names else "no source is left to measure",
            expected=f"one of {', '.join(names)}" if names else None,
            do="name it with --source" if names else None,
        )

    def _background(self, exposures: Exposures) -> str:
        rules = exposures.instrument.slices
        if self.background is not None and self.background != NONE:
            return self.background
        return BACKGROUND if rules is None else rules.background

    def members(self, exposures: Exposures, exposure: Exposure) -> Exposures:
        """One of the exposures, and behind it its background if that is to be subtracted.

        Raises
        ------
        MissingCalibrationError, SelectionError
            If there is none, or several.
        """
        rules, name = exposures.instrument.slices, self._background(exposures)
        alone = exposures.where(lambda one: one is exposure)
        source = exposure.get("source")
        if self.background is None:
            wanted = rules is not None and rules.has_background(source)
        else:
            wanted = self.background != NONE and source != name
        if not wanted or BACKGROUND in exposure.applied:
            return alone
        return alone + background_of(exposures, exposure, name)


def words(text: str | None) -> list[str]:
    """What commas set apart."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def lacking(exposures: Exposures, found: Exposures, facts: dict[str, Any]) -> list[str]:
    """A sentence about each campaign of which nothing was found, and what it has."""
    if not _tells(exposures, "campaign"):
        return []
    lost = [name for name in exposures.values("campaign") if name not in (None, *found.values("campaign"))]
    wanted = ", ".join(f"{key} {' or '.join(value)}" for key, value in facts.items())
    return [f"{name} has nothing of {wanted}: it has {contents(exposures, name)}" for name in lost]


def contents(exposures: Exposures, campaign: str) -> str:
    """What a campaign has, by source and band."""
    own = exposures.where(lambda one: one.campaign == campaign)
    pairs = {" ".join(str(one.get(key)) for key in ("source", "band") if one.get(key)) for one in own}
    return ", ".join(sorted(pairs))


def named(exposures: Sequence[Exposure]) -> list[str]:
    """A word for each exposure: its facts; its file, too, where these do not tell it from others."""
    several = len({one.detector for one in exposures}) > 1
    found = []
    for one in exposures:
        known = [str(value) for key in FACTS if (value := one.get(key)) is not None]
        found.append("_".join([*known, *([one.detector] if several else [])]))
    files = [PurePath(one.path or one.identifier or f"frame{n}").stem for n, one in enumerate(exposures)]
    told = [
        "_".join(filter(None, [name, file])) if not name or found.count(name) > 1 else name
        for name, file in zip(found, files, strict=True)
    ]
    return ["".join(c if c.isalnum() or c in "+-._" else "-" for c in name) for name in told]


def partners(exposure: Exposure, others: Exposures, source: str) -> list[Exposure]:
    """Those of another source, of the same campaign, band and detector."""
    told = _same(exposure)
    return [one for one in others if one.get("source") == source and _alike(one, told)]


def _same(exposure: Exposure) -> dict[str, Any]:
    facts = {"campaign": exposure.campaign, "band": exposure.get("band"), "detector": exposure.detector}
    return {name: value for name, value in facts.items() if value is not None}


def partner(exposure: Exposure, others: Exposures, source: str) -> Exposure:
    """The exposure of another source that one is held against: of the same campaign, band and detector.

    Raises
    ------
    SelectionError
        If there is none, or several.
    """
    found = partners(exposure, others, source)
    if len(found) == 1:
        return found[0]
    raise SelectionError(
        f"{len(found)} exposures of {source} could be held against it" if found else f"no {source} beside it",
        where=exposure.path or exposure.identifier,
        expected=f"one with {', '.join(f'{key} {value}' for key, value in _same(exposure).items())}",
        do="choose with --where" if found else None,
    )


def _alike(one: Exposure, facts: dict[str, Any]) -> bool:
    return all(one.get(key) == value for key, value in facts.items())


def _tells(exposures: Exposures, key: str) -> bool:
    return any(one.get(key) is not None for one in exposures)
