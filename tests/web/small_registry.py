"""A small registry with files behind it: what the pages of a registry are tested on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibrant.exposures import Exposures
from calibrant.files.fits import write, write_raw
from calibrant.product import Input, Product, Provenance, Quantity
from calibrant.registry import Registry
from calibrant.registry.records import Item, Verdict

DAY = 86_400_000_000
FIRST = 19_675 * DAY  # 2023-11-14, microseconds
SIDE = 24


def master(
    kind: str, day: int, level: float, parents: tuple[str, ...] = (), inputs: tuple[Input, ...] = ()
) -> Product:
    """A master of one day."""
    data = np.full((SIDE, SIDE), level, np.float32)
    data[3, 5] = 2 * level
    return Product(
        kind=kind,
        instrument="generic-ccd",
        keys={"detector": "0", **({"filter": "R"} if kind == "flat" else {})},
        epoch=FIRST + day * DAY,
        planes={"data": data, "variance": np.full_like(data, 0.01)},
        quantities=(Quantity("level", level, 0.1, "adu"),),
        provenance=Provenance(effect=kind, parents=parents, inputs=inputs),
    )


def filled(folder: Path) -> tuple[Registry, dict[str, str]]:
    """Three biases and two flats, one bias withdrawn, two flats certified; and the identities by name."""
    registry = Registry.create(folder / "calibrant.db")
    raws = []
    for number in range(3):
        path = folder / f"raw{number}.fits"
        cards = {"DATE-OBS": "2023-11-16T04:00:00", "EXPTIME": 10.0, "IMAGETYP": "Light Frame", "FILTER": "R"}
        write_raw(path, np.full((SIDE, SIDE), 100 + number, np.uint16), cards)
        raws.append(path)
    registry.ingest(Exposures.scan(raws, "generic-ccd"))
    hashes = [row["hash"] for row in registry.exposures()]
    names: dict[str, str] = {}

    def add(name: str, product: Product) -> str:
        path = folder / f"{name}.fits"
        write(product, path)
        names[name] = registry.add(product, path).identity
        return names[name]

    inputs = tuple(Input(path.name, hash) for path, hash in zip(raws, hashes, strict=True))
    for day in range(3):
        add(f"bias{day}", master("bias", day, 100.0 + day, inputs=inputs))
    for day in range(2):
        add(f"flat{day}", master("flat", day, 5.0 + day, parents=(names["bias0"],), inputs=inputs[:1]))
    for day in range(2):
        items = (Item("quantity.level", 5.0 + day, 4.0, 8.0, "adu"),)
        registry.verified(Verdict(names[f"flat{day}"], "flat", items, "ccd"))
    registry.certify(names["flat0"], begin="2023-11-14T00:00Z", end="2023-11-20T00:00Z", tag="DP1")
    registry.certify(names["flat1"], begin="2023-11-20T00:00Z", tag="DP1")
    registry.withdraw(names["bias2"], "<b>light</b> leak")
    return registry, names
