"""Register: a reduction into a registry, in one transaction: raw exposures, drafts, calibrated frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibrant.effects.common import versions
from calibrant.exposures import Exposures
from calibrant.files.fits import read
from calibrant.files.hashing import HashCache, file_hash
from calibrant.frame import Frame
from calibrant.instrument import Instrument
from calibrant.pipeline.stock import described
from calibrant.registry.records import CalibratedFile, Draft

if TYPE_CHECKING:
    from calibrant.pipeline.run import Reduction
    from calibrant.registry import Registry

KNOWN = "is known already"
"""How the registry tells of a product that it has."""


def register(reduction: Reduction, registry: Registry) -> list[str]:
    """Record a reduction: all of it or, if it fails, nothing.

    Products become drafts; what is recorded already is not recorded again, so that a reduction that kept
    its files can be registered as well as one that made them.

    Parameters
    ----------
    reduction : Reduction
    registry : Registry

    Returns
    -------
    list of str
        What was recorded, then notes of the registry: files that claim to be the same exposure, a clock that
        stands behind ...

    Raises
    ------
    RegistryError, DatabaseError
        If nothing could be recorded.
    """
    done = record(reduction, registry)
    return [sentence(done), *done["notes"]]


def record(reduction: Reduction, registry: Registry) -> dict[str, Any]:
    """As `register`, with numbers: products, how many of them were known, exposures, frames, revision."""
    files = [Path(reduction.summary.out, entry["file"]) for entry in reduction.summary.masters]
    return record_files(
        files,
        reduction.raw,
        registry,
        reduction.workshop.hashes,
        model=reduction.instrument,
        calibrated=list(frames(reduction, reduction.workshop.hashes)),
    )


def record_files(
    files: Iterable[Path],
    raw: Exposures,
    registry: Registry,
    hashes: HashCache,
    *,
    model: Instrument | None = None,
    calibrated: Sequence[CalibratedFile] = (),
) -> dict[str, Any]:
    """Record files of products as drafts, with the raw frames of their folder, in one transaction.

    Parameters
    ----------
    files : iterable of path
        Of products.
    raw : Exposures
        All that was found in the folder.
    hashes : HashCache
        Of the files, kept between runs.
    model : Instrument, optional
        As it is in its file, if that of `raw` was changed.
    calibrated : sequence of CalibratedFile
    """
    model = raw.instrument if model is None else model
    products = list(drafts(files, hashes))
    notes = registry.record(products, {model.name: model}, calibrated, raw, hashes)
    hashes.save()
    told = [note for note in notes if KNOWN not in note]
    return {
        "url": registry.url,
        "products": len(products),
        "known": len(notes) - len(told),  # no news to who reduces a folder again
        "exposures": len(raw),
        "frames": len(calibrated),
        "revision": registry.revision,
        "notes": [*told, *registry.notes],
    }


def sentence(done: Mapping[str, Any]) -> str:
    """``registered: 12 products as drafts, 54 exposures, 6 frames (revision 87)``."""
    new = done["products"] - done["known"]
    products = f"{_count(new, 'product')} as draft{'' if new == 1 else 's'}"
    if done["known"]:
        products += f" ({done['known']} known already)"
    exposures, calibrated = _count(done["exposures"], "exposure"), _count(done["frames"], "frame")
    return f"registered: {products}, {exposures}, {calibrated} (revision {done['revision']})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def drafts(files: Iterable[Path], hashes: HashCache) -> Iterator[Draft]:
    """Products as they are recorded; facts and quantities are read from their files, pixels are not."""
    from calibrant.registry.opening import draft_of, hashing

    for path in files:
        identity, product, _ = described(str(path))
        yield replace(draft_of(product, path, hashing(hashes)), identity=identity)


def frames(reduction: Reduction, hashes: HashCache) -> Iterator[CalibratedFile]:
    """The calibrated frames as they are recorded.

    Their lineage names the masters that were applied. Level, gain and read noise of a single frame are
    products of the moment, kept nowhere: they stand in its steps.
    """
    known = {entry["identity"] for entry in (*reduction.summary.masters, *reduction.summary.stock)}
    raw = {name: target.exposure for name, target in reduction.named()}
    for entry in reduction.summary.frames:
        path = Path(reduction.summary.out, entry["file"]).absolute()
        frame = read(path)
        assert isinstance(frame, Frame)
        used = {step.product: step.effect for step in frame.history if step.product in known}
        yield CalibratedFile(
            raw=reduction.workshop.hash(raw[entry["name"]]),
            path=str(path),
            hash=file_hash(path, hashes),
            size=path.stat().st_size,
            inputs=[(product, "parent", effect) for product, effect in used.items() if product],
            facts=_facts(reduction, frame),
        )


def _facts(reduction: Reduction, frame: Frame) -> Mapping[str, Any]:
    steps = [
        {"effect": step.effect, "product": step.product, "options": dict(step.options), "note": step.note}
        for step in frame.history
    ]
    recipe = reduction.recipe.model_dump(mode="json", by_alias=True)
    given = reduction.summary.registry
    return {
        "steps": steps,
        "recipe": recipe,
        "versions": versions(),
        "registry": None if given is None else given["revision"],
    }
