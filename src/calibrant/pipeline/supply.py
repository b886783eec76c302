"""Supply: certified masters as a plan takes them, where the folder has none of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from calibrant.exposures import Exposures
from calibrant.frame import Exposure
from calibrant.pipeline.matching import stem
from calibrant.product import Quantity


class Unusable(str):
    """Why a certified master cannot be used though there is one: its file is lost, or two come into question.

    To go on as if there were none would be another calibration than the one that was certified.
    """

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Stocked:
    """A certified master that need not be made: it lies in a file that a registry knows.

    Attributes
    ----------
    name : str
        Unique in a plan.
    identity, path : str
        Of the product, and where its file is.
    shape : tuple of int
        Rows x cols; empty if unknown.
    quantities : tuple of Quantity
    uses : mapping
        Kind -> name of the master that has to be taken away before this one: the bias of a dark.
    certified : str
        Under which tag and for which time, in words.
    facts : mapping
        For the summary: tag, validity, level, notes.
    others : tuple of str
        Further places of its file.
    """

    kind: str
    identity: str
    path: str
    keys: Mapping[str, Any]
    epoch: int | None = None
    shape: tuple[int, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    certified: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    uses: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    @property
    def includes_bias(self) -> bool:
        """Whether this is a dark that still holds its bias."""
        return bool(self.keys.get("includes_bias"))

    @property
    def longest(self) -> float:
        """The longest time that a dark was measured at, seconds; infinite if it does not say."""
        return next((q.value for q in self.quantities if q.name == "time_max"), float("inf"))

    def suits(self, exposure: Exposure) -> bool:
        """Whether it is of the camera of an exposure, pixel by pixel."""
        same = (self.keys.get(key) in (None, exposure.get(key)) for key in ("detector", "binning"))
        return self.shape == exposure.shape and all(same)

    @property
    def sentence(self) -> str:
        """Where it comes from."""
        return f"{self.name} from the registry: {self.identity[:19]}, {self.certified}"


Stock = Callable[[str, Exposure], Stocked | str]
"""Kind and exposure -> the certified master, or why there is none."""


class Supply:
    """What is taken from the stock, each product once and under a name of its own."""

    def __init__(self, stock: Stock | None, exposures: Exposures) -> None:
        self.stock = stock
        self.detectors = sorted({exposure.detector for exposure in exposures}) if stock else []
        self.taken: dict[str, Stocked] = {}
        self.names: set[str] = set()
        self.reserved: set[str] = set()

    def ask(self, kind: str, exposure: Exposure) -> Stocked | str:
        """The answer of the stock; nothing if there is none."""
        return "" if self.stock is None else self.stock(kind, exposure)

    def take(self, found: Stocked, uses: Mapping[str, str]) -> Stocked:
        """The product under its name in this plan."""
        known = self.taken.get(found.identity)
        if known is not None:
            return known
        name = stem(found.kind, found.keys, [{**found.keys, "detector": one} for one in self.detectors])
        if name in self.names | self.reserved:
            name = f"{name}_{found.identity.removeprefix('sha256:')[:8]}"
        self.names.add(name)
        uses = uses if found.kind == "dark" and not found.includes_bias else {}
        return self.taken.setdefault(found.identity, replace(found, name=name, uses=uses))
