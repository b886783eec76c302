"""Judge: was the dark of a frame removed before it reached us? The pixels answer, then the plan is final."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from calibrant.effects import overscan, pedestal
from calibrant.effects._dark_removed import RULE, is_low
from calibrant.exposures import Exposures
from calibrant.frame import Exposure
from calibrant.pipeline.ledger import recipe_key
from calibrant.pipeline.plan import Job, Plan
from calibrant.pipeline.supply import Stocked
from calibrant.pipeline.workshop import Workshop
from calibrant.product import Product
from calibrant.stack.source import Source, decode

SAMPLE_ROWS = 64


@dataclass(frozen=True)
class Finding:
    """What the pixels of one frame say, against its header.

    Attributes
    ----------
    index : int
        Of the exposure.
    exposure : Exposure
        With `applied` as the pixels say.
    note : str
        A sentence where the header says otherwise; empty where they agree.
    """

    index: int
    exposure: Exposure
    note: str


def judge(exposures: Exposures, plan: Plan, workshop: Workshop) -> Iterator[Finding]:
    """Look at every frame that saw light, and compare it with the darks or biases of its detector.

    The biases and darks of the plan must have been made. Frames with an overscan carry their level with
    them and are not asked; verdicts are kept in the ledger, so that a second run opens no pixel.
    """
    for index, exposure in enumerate(exposures):
        if not is_asked(exposure, exposures, plan):
            continue
        same = _darks(exposure, plan)
        time = exposure.duration or 0.0
        best = min(same, key=lambda job: (not job.includes_bias, abs(job.longest - time)))
        verdict = _verdict(exposures, index, best.name, best.uses.get("bias"), workshop)
        found = pedestal.mark(exposure, verdict)
        if found.applied != exposure.applied:
            yield Finding(index, found, _sentence(exposure, found, verdict.reason))


def is_asked(exposure: Exposure, exposures: Exposures, plan: Plan) -> bool:
    """Whether the pixels of a frame are asked: it saw light, has no overscan, and there is a dark."""
    lit = exposure.kind == "flat" or exposure.kind in exposures.instrument.science
    return lit and not overscan.has_overscan(exposure, exposures.instrument) and bool(_darks(exposure, plan))


def _darks(exposure: Exposure, plan: Plan) -> list[Job | Stocked]:
    own = [job for job in plan.jobs if job.kind == "dark" and _same_camera(job.members[0], exposure)]
    return [*own, *(item for item in plan.stock if item.kind == "dark" and item.suits(exposure))]


def _same_camera(one: Exposure, other: Exposure) -> bool:
    return (one.detector, one.binning, one.shape) == (other.detector, other.binning, other.shape)


def _verdict(
    exposures: Exposures, index: int, dark: str, bias: str | None, workshop: Workshop
) -> pedestal.DarkVerdict:
    """From the ledger, or from the pixels."""
    told = bool(exposures[index].applied & {"bias", "dark"})
    key = recipe_key(frame=workshop.hash(exposures[index]), dark=workshop.key_of(dark), told=told, rule=RULE)
    known = workshop.ledger.verdicts.get(key)
    if known is not None:
        return pedestal.DarkVerdict(**{**known, "removed": frozenset(known["removed"])})
    (source,) = exposures.take([index]).sources()
    # A card is overruled by hot pixels only: light may have lifted the level above that of the bias again.
    if bias is not None and not told and not _low(source, workshop.product(bias)):
        # The level is there, and nobody takes the dark away but leaves the bias.
        verdict = pedestal.DarkVerdict(
            frozenset(), True, 0.0, 0.0, 0.0, 0.0, 1.0, 0, "its level is not below that of the bias"
        )
    else:
        verdict = pedestal.dark_removed(
            source,
            workshop.product(dark),
            exptime=exposures[index].duration,
            bias=None if bias is None else workshop.product(bias),
        )
    workshop.ledger.verdicts[key] = {**_numbers(asdict(verdict)), "removed": sorted(verdict.removed)}
    return verdict


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Without NaN and infinity, which JSON does not know: they say "not measured" here."""
    return {
        name: 0.0 if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in values.items()
    }


def _low(source: Source, bias: Product) -> bool:
    """Whether the darkest live pixels of some rows lie far below the level of the bias."""
    first = max(0, source.shape[0] // 2 - SAMPLE_ROWS // 2)
    rows = slice(first, min(first + SAMPLE_ROWS, source.shape[0]))
    raw = np.empty((rows.stop - rows.start, source.shape[1]), np.dtype(source.encoding.dtype))
    source.read_into(rows, raw)
    return is_low(decode(raw, source.encoding), float(np.nanmedian(bias.data)))


def _sentence(before: Exposure, after: Exposure, reason: str) -> str:
    name = before.path or before.identifier or "a frame"
    has = "dark" in after.applied
    said = (
        "has no dark left, although its header does not say so"
        if has
        else "still has its dark, although its header says it was removed"
    )
    return f"{name}: {said}: {reason}"
