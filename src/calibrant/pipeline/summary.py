"""Summary: what a reduction did, as data for `summary.json` and for the table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from calibrant.frame import DQ, Frame
from calibrant.pipeline.supply import Stocked
from calibrant.product import Product, Quantity

MOSTLY = 0.5  # of the pixels: from there on a frame is told of


@dataclass(frozen=True)
class Summary:
    """What a reduction did.

    Attributes
    ----------
    exposures : mapping
        Kind -> number of files of the folder.
    science : int
        How many of them are science frames.
    masters, frames : list of mapping
        One entry for each file that was made, or found to be up to date (``reused``).
    warnings : list of str
        Sentences about what is doubtful.
    problems : list of mapping
        Files that could not be used: ``file`` and ``problem``.
    missing : list of mapping
        Calibrations that frames went without: ``kind``, ``why``, ``frame``.
    stock : list of mapping
        Certified masters that a registry gave: name, identity, file, tag, validity, level.
    registry : mapping or None
        Which registry gave them, and ``revision``: with ``--as-of`` it chooses the same again.
    registered : mapping or None
        How many products, exposures and frames were recorded in a registry, and its revision.
    """

    version: str
    instrument: str
    recipe: str
    folder: str
    out: str
    exposures: Mapping[str, int]
    science: int = 0
    masters: list[dict[str, Any]] = field(default_factory=list)
    frames: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[dict[str, str]] = field(default_factory=list)
    missing: list[dict[str, str]] = field(default_factory=list)
    stock: list[dict[str, Any]] = field(default_factory=list)
    registry: Mapping[str, Any] | None = None
    registered: Mapping[str, Any] | None = None
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether files had faults and nothing that was asked for could be made of the others."""
        return bool(self.problems) and not self.frames and (self.science > 0 or not self.masters)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values: no NaN, no tuples."""
        found = plain(asdict(self))
        assert isinstance(found, dict)
        return found


def plain(value: Any) -> Any:
    """A JSON value: NaN and infinities become None, arrays and tuples lists."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [plain(item) for item in items]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def master_entry(name: str, file: str, product: Product, longest: int | None = None) -> dict[str, Any]:
    """A master's line of the summary; without tables of more rows than `longest`."""
    tables = {
        table: dict(columns)
        for table, columns in product.tables.items()
        if longest is None or all(len(column) <= longest for column in columns.values())
    }
    return plain(  # type: ignore[no-any-return]
        {
            "name": name,
            "kind": product.kind,
            "file": file,
            "identity": product.identity,
            "frames": len(product.provenance.inputs),
            "keys": dict(product.keys),
            "planes": list(product.planes),
            "median": _median(product.data) if "data" in product.planes else None,
            "unit": product.unit,
            "quantities": [quantity_entry(quantity) for quantity in product.quantities],
            "tables": tables,
            "flagged": _flagged(product.planes.get("dq")),
            "notes": list(product.provenance.notes),
        }
    )


def stock_entry(item: Stocked) -> dict[str, Any]:
    """A line of the summary for a master that a registry gave."""
    return plain(  # type: ignore[no-any-return]
        {
            "name": item.name,
            "kind": item.kind,
            "file": item.path,
            "identity": item.identity,
            "keys": dict(item.keys),
            "certified": item.certified,
            **item.facts,
        }
    )


def quantity_entry(quantity: Quantity) -> dict[str, Any]:
    """A quantity without what it does not say."""
    entry: dict[str, Any] = {"name": quantity.name, "value": quantity.value}
    entry.update(
        {
            name: value
            for name, value in asdict(quantity).items()
            if name not in entry and value not in (None, "")
        }
    )
    return entry


def frame_entry(name: str, file: str, frame: Frame, uses: Mapping[str, str]) -> dict[str, Any]:
    """A calibrated frame's line of the summary."""
    exposure = frame.exposure
    variance = None if frame.variance is None else _median(frame.variance)
    return plain(  # type: ignore[no-any-return]
        {
            "name": name,
            "file": file,
            "source": exposure.path,
            "kind": exposure.kind,
            "object": exposure.object,
            "filter": exposure.filter,
            "exptime": exposure.duration,
            "time": exposure.time,
            "masters": dict(uses),
            "steps": [step.effect for step in frame.history],
            "median": _median(frame.data),
            "noise": None if variance is None else math.sqrt(variance),
            "unit": frame.unit,
            "flagged": _flagged(frame.dq),
            "notes": [step.note for step in frame.history if step.note],
        }
    )


def _median(plane: Any) -> float | None:
    """Of the values that are finite; None if there are none."""
    values = np.asarray(plane)
    good = values[np.isfinite(values)]
    return float(np.median(good)) if good.size else None


def doubts(entry: Mapping[str, Any], pixels: int) -> list[str]:
    """Sentences about a calibrated frame that has little to say: saturated, or without good pixels."""
    flagged = entry["flagged"]
    found = []
    for flag, what in (("SATURATED", "saturated"), ("NON_SCIENCE", "without any value")):
        share = flagged.get(flag, 0) / max(pixels, 1)
        if share > MOSTLY:
            found.append(f"{entry['name']}: {100 * share:.0f} % of its pixels are {what}")
    return found


def _flagged(dq: Any) -> dict[str, int]:
    """How many pixels carry each flag."""
    if dq is None:
        return {}
    flags = np.asarray(dq)
    present = int(np.bitwise_or.reduce(flags, axis=None)) if flags.size else 0
    return {name: int(np.count_nonzero(flags & DQ[name])) for name in DQ.names(present)}
