"""Evidence: what a product is verified on, found through a registry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from calibrant.errors import CalibrantError, ConfigError, RegistryError
from calibrant.exposures import Exposures
from calibrant.instrument import Instrument
from calibrant.instrument import load as load_instrument
from calibrant.instrument import names as known_instruments
from calibrant.pipeline import recipe as recipes
from calibrant.pipeline.verify import frames_needed, products_needed, verify
from calibrant.product import Product
from calibrant.registry.opening import product_file
from calibrant.registry.records import Entry, Verdict

if TYPE_CHECKING:
    from calibrant.registry import Registry

Pathish = str | PathLike[str]
MOST = 64
"""Frames of a kind that are looked up where a product names none of its own."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a product is verified on.

    Attributes
    ----------
    entry : Entry or None
        Of the product, if the registry knows it.
    instrument : Instrument
    exposures : Exposures or None
        Raw frames of the kinds that are needed.
    products : dict of Product
        Kind -> what prepares these frames.
    reference : Product or None
        The one that was certified last for the same setting.
    notes : list of str
        What could not be found.
    """

    product: Product
    entry: Entry | None
    instrument: Instrument
    exposures: Exposures | None = None
    products: dict[str, Product] = field(default_factory=dict)
    reference: Product | None = None
    notes: list[str] = field(default_factory=list)

    def judge(self, recipe: str | Path = "auto") -> Verdict:
        """The verdict by the limits of a recipe: its name, its file, or the one that the instrument names.

        Raises
        ------
        ConfigError
            If the recipe has no limits for the kind.
        """
        chosen = recipes.load(self.instrument.recipe if recipe == "auto" else recipe)
        return verify(
            self.product,
            recipe=chosen,
            instrument=self.instrument,
            exposures=self.exposures,
            products=self.products,
            reference=self.reference,
        )


def evidence(registry: Registry, ref: Pathish, frames: Iterable[Pathish] = ()) -> Evidence:
    """Collect what a product is verified on.

    Parameters
    ----------
    registry : Registry
    ref : str or path
        Identity of a product, its beginning, or the path of its file, which need not be registered.
    frames : iterable of path
        Raw frames to judge it on; by default those it was made of, and where it names none of the kind that
        is needed, those of its detector that the registry knows, the nearest in time.

    Raises
    ------
    RegistryError, FileError
        If the product cannot be found or read.
    """
    entry, product = _product(registry, ref)
    found = Evidence(product, entry, _instrument(registry, product))
    given = [str(path) for path in frames]
    paths = given or _frames(registry, product, found.notes)
    exposures = Exposures.scan(paths, found.instrument) if paths else None
    if given and exposures is not None:
        found.notes.extend(f"left out: {problem.sentence}" for problem in exposures.problems)
    products = _products(registry, product, found.notes)
    reference = None if entry is None else _reference(registry, entry, found.notes)
    return Evidence(product, entry, found.instrument, exposures, products, reference, found.notes)


def _product(registry: Registry, ref: Pathish) -> tuple[Entry | None, Product]:
    if Path(ref).is_file():
        product = product_file(ref)
        return registry.known(product.identity), product
    entry = registry.entry(ref)
    return entry, registry.read(entry.identity)


def _instrument(registry: Registry, product: Product) -> Instrument:
    try:
        return registry.instrument(product.instrument)
    except RegistryError:
        if product.instrument in known_instruments():
            return load_instrument(product.instrument)
    raise ConfigError(
        f"the instrument {product.instrument!r} of this {product.kind} is not known",
        do="ingest its raw frames with --instrument and its file",
    )


def _frames(registry: Registry, product: Product, notes: list[str]) -> list[str]:
    """Paths of the frames that a product was made of; else of those that suit it."""
    needed = frames_needed(product.kind)
    if not needed:
        return []
    made_of = {one.hash: one.name for one in product.provenance.inputs if one.hash is not None}
    held = registry.files(made_of)
    paths = [_there(held.get(hash, [])) for hash in made_of]
    lost = sum(path is None for path in paths)
    if lost:
        notes.append(f"{lost} of the {len(made_of)} frames that it was made of are not to be found")
    kinds = {kind for kind in needed if kind == product.kind} if any(paths) else set()
    others = [kind for kind in needed if kind not in kinds]
    return [path for path in paths if path is not None] + [
        path for kind in others for path in _nearest(registry, kind, product)
    ]


def _nearest(registry: Registry, kind: str, product: Product) -> list[str]:
    """Frames of a kind of the product's detector that the registry knows, the nearest in time."""
    detector = product.keys.get("detector")
    rows = registry.exposures(
        kind=kind, instrument=product.instrument, detector=None if detector is None else str(detector)
    )
    if product.epoch is not None:
        rows.sort(key=lambda row: abs((row["mid"] or 0) - (product.epoch or 0)))
    found = (_there([row["path"]]) for row in rows[:MOST] if row["path"] is not None)
    return [path for path in found if path is not None]


def _there(paths: Iterable[str]) -> str | None:
    return next((path for path in paths if Path(path).is_file()), None)


def _products(registry: Registry, product: Product, notes: list[str]) -> dict[str, Product]:
    """The products that prepared its own frames."""
    needed, found = products_needed(product.kind), {}
    for identity in product.provenance.parents:
        try:
            entry = registry.entry(identity)
            if entry.kind in needed:
                found[entry.kind] = registry.read(identity)
        except CalibrantError as error:
            notes.append(f"one of the products that prepared its frames is missing: {error}")
    return found


def _reference(registry: Registry, entry: Entry, notes: list[str]) -> Product | None:
    last = registry.last_certified(entry.identity)
    if last is None:
        return None
    try:
        return registry.read(last.identity)
    except CalibrantError as error:
        notes.append(f"not compared with the one that was certified last: {error}")
        return None
