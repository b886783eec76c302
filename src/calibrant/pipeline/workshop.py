"""Workshop: makes the masters of a plan, or finds them up to date, and hands them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from calibrant.effects import (
    amplifier_offsets,
    bias,
    crosstalk,
    dark,
    defects,
    flat,
    linearity,
    overscan,
    pedestal,
)
from calibrant.effects._pair_gain import pair_gain
from calibrant.effects.common import versions
from calibrant.errors import FileError
from calibrant.exposures import Exposures
from calibrant.files.fits import read, write
from calibrant.files.hashing import HashCache, file_hash
from calibrant.frame import Exposure
from calibrant.pipeline.corrections import holds_offsets
from calibrant.pipeline.ledger import Ledger, recipe_key
from calibrant.pipeline.plan import Job
from calibrant.pipeline.recipe import Recipe
from calibrant.pipeline.stock import load
from calibrant.pipeline.summary import master_entry
from calibrant.pipeline.supply import Stocked
from calibrant.product import Product
from calibrant.stack.pixel import PixelStep

Progress = Callable[[int, int, str], None]
MEASURE: Mapping[str, Callable[..., Any]] = {
    "bias": bias.measure,
    "dark": dark.measure,
    "flat": flat.measure,
    "defects": defects.measure,
}
ELECTRONICS = ("crosstalk", "linearity", "amplifier_offsets")
"""What is done to the pixels already when a master is measured."""
FOLDER = "masters"
HELD = 5  # masters in memory: those of one frame, and one more; beside what only a registry gives


@dataclass(eq=False)
class Workshop:
    """Makes masters and remembers them.

    Attributes
    ----------
    recipe : Recipe
    ledger : Ledger
        What is in the folder of results already.
    hashes : HashCache
        Of the raw files, kept between runs.
    engine : mapping
        ``runner``, ``budget``, ``progress`` of every measurement.
    stock : dict of str to Stocked
        Masters that are taken from elsewhere as they are.
    longest : int or None
        Rows of tables that the line of a product holds; longer ones lie in its file alone.
    """

    recipe: Recipe
    ledger: Ledger
    hashes: HashCache
    engine: Mapping[str, Any]
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    stock: dict[str, Stocked] = field(default_factory=dict)
    longest: int | None = None
    _keys: dict[str, str] = field(default_factory=dict)
    _products: dict[str, Product] = field(default_factory=dict)
    _defects: dict[tuple[tuple[str, str], ...], str] = field(default_factory=dict)

    def fetch(self, item: Stocked) -> None:
        """Take a master of the stock into use; what is made with it is made again when the choice changes."""
        self.stock[item.name] = item
        self._keys[item.name] = item.identity

    def make(self, job: Job) -> None:
        """See that the master of a job is there: made now, or found as it was made before of the same."""
        self.once(job.name, self.key(job), lambda: self._measured(job))

    def once(self, name: str, key: str, measured: Callable[[], Product], folder: str = FOLDER) -> None:
        """See that a product is there: found as it was made before with the same `key`, else made and kept.

        Raises
        ------
        OutputExistsError
            If a file is in the way that was made in another way, or by somebody else.
        """
        if self._keys.get(name) == key:
            return
        file = str(PurePosixPath(folder, f"{name}.fits"))
        known = self.ledger.fresh(file, key)
        if known is None:
            self._keep(name, file, key, measured())
        else:
            self.entries[name] = {**known, "reused": True}
        self._keys[name] = key

    def key(self, job: Job) -> str:
        """The recipe key of a job: raw hashes, masters' keys, options and versions."""
        return recipe_key(
            kind=job.kind,
            inputs=[self.hash(exposure) for exposure in job.members],
            applied=[sorted(exposure.applied) for exposure in job.members],
            uses={kind: self._keys[name] for kind, name in job.uses.items()},
            options=self.recipe.measure_options(job.kind),
            steps=[step for step in self.recipe.steps if self.recipe.enabled(step)],
            overscan=self.recipe.options("overscan"),
            instrument=job.members.instrument.model_dump_json(),
            versions=versions(),
        )

    def hash(self, exposure: Exposure) -> str:
        """The hash of a raw file, made once for each state of it."""
        if exposure.path is None:
            raise FileError("only frames in files can be reduced", where=exposure.identifier)
        return file_hash(exposure.path, self.hashes)

    def product(self, name: str) -> Product:
        """A master that was made, read from its file if need be."""
        found = self._products.pop(name, None)
        if found is None and name in self.stock:
            found = load(self.stock[name])
        elif found is None:
            made = read(self.ledger.folder / self.entries[name]["file"])
            assert isinstance(made, Product)
            found = made
        self._remember(name, found)
        return found

    def _remember(self, name: str, product: Product) -> None:
        """Keep the masters used last, and no more: they are as large as frames, seven planes each."""
        self._products[name] = product
        given = {item.kind for item in self.stock.values()} - set(MEASURE)
        while len(self._products) > HELD + len(given):
            del self._products[next(iter(self._products))]

    def key_of(self, name: str) -> str:
        """The recipe key of a master that was made."""
        return self._keys[name]

    def uses(self, job: Job) -> dict[str, Product]:
        """The masters that prepare the pixels of a job."""
        return {kind: self.product(name) for kind, name in job.uses.items()}

    def noise_of_darks(self, exposure: Exposure) -> float | None:
        """Noise of one frame as the quietest dark of the camera shows it, adu; for want of a bias."""
        if exposure.read_noise is not None:
            return None
        darks = [
            (entry["keys"], [(q["name"], q["value"]) for q in entry["quantities"]])
            for entry in self.entries.values()
            if entry["kind"] == "dark"
        ]
        darks += [
            (item.keys, [(q.name, q.value) for q in item.quantities])
            for item in self.stock.values()
            if item.kind == "dark"
        ]
        found = [
            value
            for keys, quantities in darks
            if keys.get("detector") == exposure.detector
            for name, value in quantities
            if name == "noise" and value is not None
        ]
        return min(found, default=None)

    def prepared(self, members: Exposures, products: Mapping[str, Product] | None = None) -> Exposures:
        """Exposures less overscan and electronics while they are read, as far as there are such."""
        members = self._levelled_by_overscan(members, products or {})
        if products and "amplifier_offsets" in products and holds_offsets(products["amplifier_offsets"]):
            offsets = amplifier_offsets.step(members[0], products["amplifier_offsets"])
            members = members.through(lambda exposure: offsets)
        return members

    def _levelled_by_overscan(self, members: Exposures, products: Mapping[str, Product]) -> Exposures:
        """Exposures whose overscan is taken off while they are read, where they have one.

        With it go the crosstalk and the bent response of the amplifiers, as far as products tell of them:
        without the level of the overscan there is no signal to correct yet.
        """
        instrument = members.instrument
        if not (self.recipe.enabled("overscan") and overscan.has_overscan(members[0], instrument)):
            return members
        options = self.recipe.options("overscan")
        members = members.through(overscan.step(members[0], instrument=instrument, **options))
        if "crosstalk" in products:
            members = members.through(crosstalk.step(members[0], products["crosstalk"]))
        if "linearity" in products:
            curve = linearity.step(members[0], products["linearity"])
            members = members.through(lambda exposure: curve)
        return members

    def _measured(self, job: Job) -> Product:
        """The master of a job; a file that turns out to be unreadable is left out, and told."""
        members, notes = job.members, []
        while True:
            try:
                product = self._of(job, members)
                break
            except FileError as error:
                others = [i for i, one in enumerate(members) if one.path != str(error.where)]
                if len(others) in (0, len(members)):
                    raise
                members = members.take(others)
                notes.append(f"left out: {error}")
        provenance = replace(product.provenance, notes=(*product.provenance.notes, *notes))
        return replace(product, provenance=provenance)

    def _of(self, job: Job, members: Exposures) -> Product:
        products = self.uses(job)
        members = self.prepared(members.hashed(self.hashes), products)
        products = {kind: product for kind, product in products.items() if kind not in ELECTRONICS}
        options = self.recipe.measure_options(job.kind)
        if job.kind == "flat" and "bias" not in products:
            members = self._levelled(members, products)
            options.setdefault("read_noise", self.noise_of_darks(members[0]))
        product: Product = MEASURE[job.kind](members, products=products, **options, **self.engine)
        if job.kind == "flat":
            product = _with_gain(product, members, products)
        # The effect says what is typical of its frames; the plan says what it will match by.
        keys = {name: value for name, value in job.keys.items() if value is not None and name != "shape"}
        return replace(product, keys={**product.keys, **keys})

    def _levelled(self, members: Exposures, products: Mapping[str, Product]) -> Exposures:
        """Flats of a camera without bias frames, brought to the level of their dark."""
        whole = "dark" in products and bool(products["dark"].keys.get("includes_bias"))
        gone = all(member.applied & {"bias", "dark"} for member in members)
        if not (whole or gone):
            # Without a dark either, the overscan alone has taken the level away: nothing is left to measure.
            return members.through(lambda _: PixelStep("pedestal", offset=0.0, note="known by the overscan"))
        if not self.recipe.enabled("pedestal"):
            return members
        options = self.recipe.options("pedestal")
        level = pedestal.measure(members, products=products, **options, **self.engine)
        return members.through(lambda exposure: pedestal.step(exposure, level))

    def defects(self, names: Mapping[str, str]) -> str | None:
        """Defects of one setting from its masters (kind -> name of the job); returns their name."""
        if not self.recipe.enabled("defects") or not names:
            return None
        masters = tuple(sorted(names.items()))
        if masters in self._defects:
            return self._defects[masters]
        key = recipe_key(
            kind="defects",
            uses={kind: self._keys[job] for kind, job in names.items()},
            options=self.recipe.measure_options("defects"),
            versions=versions(),
        )
        name = _name_of_defects(names)
        if name in self._keys:  # of another bias
            name = f"{name}_{key.removeprefix('sha256:')[:8]}"
        self._defects[masters] = name
        self.once(name, key, lambda: self._found_defects({k: self.product(job) for k, job in masters}))
        return name

    def _found_defects(self, products: Mapping[str, Product]) -> Product:
        """Defects, to be used where their masters are: those of two filters must not be confused."""
        found: Product = defects.measure(products=products, **self.recipe.measure_options("defects"))
        keys = {
            key: value
            for kind in ("bias", "dark", "flat")
            if kind in products
            for key, value in products[kind].keys.items()
            if key != "includes_bias"
        }
        return replace(found, keys={**keys, **found.keys})

    def _keep(self, name: str, file: str, key: str, product: Product) -> None:
        entry = master_entry(name, file, product, self.longest)
        with self.ledger.writing(file) as replacing:
            write(product, self.ledger.folder / file, overwrite=replacing)
            self.ledger.put(file, key, entry)
        self._remember(name, product)
        self.entries[name] = {**entry, "reused": False}


def _with_gain(flat_: Product, members: Exposures, products: Mapping[str, Product]) -> Product:
    """The flat with the gain that its pairs of frames show, beside the nominal one."""
    if len(members) < 2 or "bias" not in products:
        return flat_
    measured = pair_gain(members, products["bias"], members.instrument.nominal(members[0]).saturation)
    return flat_ if measured is None else replace(flat_, quantities=(*flat_.quantities, measured))


def _name_of_defects(names: Mapping[str, str]) -> str:
    """``defects``, and the settings of the masters, each word once."""
    lit = [names[kind] for kind in ("dark", "flat") if kind in names] or list(names.values())
    words = [word for name in lit for word in name.split("_")[1:]]
    return "_".join(["defects", *dict.fromkeys(words)])
