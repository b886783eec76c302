"""The product of a dark scaling: planes, tables and provenance of fits that were judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects import _scaling_tables as tabled
from calibrant.effects._scaling_hot import BITS, NAMES, Cut, Sorted, cut_table
from calibrant.effects._scaling_input import Pair, flags
from calibrant.effects._scaling_judge import Judged
from calibrant.effects._scaling_models import Sample
from calibrant.effects.common import versions
from calibrant.errors import OptionError
from calibrant.frame import DQ
from calibrant.product import Product, Provenance

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Options:
    """Options of a dark scaling, as `calibrant.effects.dark_scaling.measure` says them."""

    sigma_from: Any = None
    sigma_to: Any = None
    bias: Any = None
    ratio: float = 1.0
    darks: Sequence[Any] = ()
    folds: int = 10
    blocks: tuple[int, int] = (8, 8)
    seed: int = 0
    factors: tuple[float, ...] = ()
    span: tuple[float, float] | None = None
    bins: int = tabled.BINS

    def __post_init__(self) -> None:
        if self.folds < 2 or self.bins < 1 or min(self.blocks) < 1:
            raise OptionError(
                "there are at least 2 folds, 1 bin and 1 block",
                got=f"{self.folds}, {self.bins}, {self.blocks}",
            )

    def told(self) -> dict[str, Any]:
        """The options as JSON can hold them; arrays only as present."""
        found = {}
        for name, value in asdict(self).items():
            plain = value is None or isinstance(value, (int, float, str))
            if isinstance(value, tuple):
                value, plain = list(value), True
            found[name] = value if plain else "given"
        found["darks"] = len(self.darks)
        return found


@dataclass(frozen=True, eq=False)
class Work:
    """All that was measured.

    Attributes
    ----------
    both : Pair
    sample : Sample
        The pixels inside the window.
    inside, used : ndarray of bool
        (rows, cols): in the window, and fitted.
    keep : ndarray of bool
        Pixels of the sample that are fitted, (n,).
    found : Sorted
    cut : Cut or None
    judged, uncut : sequence of Judged
        Fits to the pixels used, and to all of the sample.
    """

    both: Pair
    sample: Sample
    inside: Mask
    used: Mask
    keep: Mask
    found: Sorted
    cut: Cut | None
    judged: Sequence[Judged]
    uncut: Sequence[Judged]


def product(work: Work, name: str, options: Options, provenance: Provenance) -> Product:
    """The product of kind `name`."""
    both, judged = work.both, work.judged
    return Product(
        name,
        instrument=both.instrument,
        keys=_keys(both),
        epoch=_epoch(both),
        planes=_planes(work),
        units=_units(both, judged),
        tables=_tables(work, options),
        quantities=tuple(tabled.quantities(judged, both.unit)),
        provenance=provenance,
    )


def _planes(work: Work) -> dict[str, NDArray[Any]]:
    both, inside, found = work.both, work.inside, work.found
    dq = flags(both)
    for index, name in enumerate(NAMES):
        bit = BITS.get(name, DQ(0))
        dq[inside] |= np.where(found.population == index, np.uint32(bit), np.uint32(0))
    planes: dict[str, NDArray[Any]] = {"dark_from": both.raw[0], "dark_to": both.raw[1]}
    planes |= {f"residual_{one.fitted.name}": both.y - one.fitted(both.x) for one in work.judged}
    if both.noise is not None:
        planes["variance_from"] = np.broadcast_to(both.noise.x, both.x.size).reshape(both.shape).copy()
    return planes | {"used": work.used.astype(np.uint8), "dq": dq}


def _tables(work: Work, options: Options) -> dict[str, tabled.Table]:
    both, sample, judged, keep = work.both, work.sample, work.judged, work.keep
    tables = {
        "models": tabled.models_table(judged),
        "coefficients": tabled.coefficients_table(judged),
        "covariance": tabled.covariance_table(judged),
        "scale": tabled.scale_table(judged),
        "populations": work.found.table,
        "curves": tabled.curves_table(judged, sample.x[keep]),
        "density": tabled.density_table(sample.x, sample.y),
        "cuts": cut_table(_cuts(work)),
    }
    if work.cut is not None:
        tables["uncut"] = tabled.models_table(work.uncut)
    factors = _factors(sample, options)
    named = {f"dark_from x {a:.4g}": a for a in factors}  # one plane at a time: images may be large
    span = options.span or (min(0.0, float(np.min(sample.x))), float(max(sample.x.max(), sample.y.max())))

    def copies() -> Iterator[tuple[str, NDArray[np.float64]]]:
        yield from (("dark_from", both.x), ("dark_to", both.y))
        yield from ((name, a * both.x) for name, a in named.items())

    everywhere = ((name, plane[both.good]) for name, plane in copies())
    tables["histograms"] = tabled.histogram_rows(everywhere, span, options.bins)
    scaled = ((one.fitted.name, one.fitted(both.x)) for one in judged)
    tables["profiles"] = tabled.profiles_table(
        (name, np.where(both.good, plane, np.nan)) for name, plane in chain(copies(), scaled)
    )
    x, y = sample.x[keep], sample.y[keep]
    residuals = ((one.fitted.name, y - one.fitted(x)) for one in judged)
    tables["residual_histograms"] = tabled.histogram_rows(residuals, None, options.bins)
    there = y != 0
    x, y = x[there], y[there]
    fractional = ((one.fitted.name, (y - one.fitted(x)) / y) for one in judged)
    tables["fractional_histograms"] = tabled.histogram_rows(fractional, None, options.bins)
    rows, cols = np.nonzero(work.used.any(axis=1))[0], np.nonzero(work.used.any(axis=0))[0]
    tables["window"] = {
        "axis": np.array(["rows", "columns"]),
        "start": np.array([rows[0], cols[0]]),
        "stop": np.array([rows[-1] + 1, cols[-1] + 1]),
    }
    return tables


def _cuts(work: Work) -> Iterator[tuple[str, str, NDArray[np.float64], int]]:
    """Residuals of every model before and after the cut."""
    x, y, keep = work.sample.x, work.sample.y, work.keep
    yield from (("none", one.fitted.name, y - one.fitted(x), 0) for one in work.uncut)
    if work.cut is not None:
        lost, name = int((~keep).sum()), work.cut.name
        yield from ((name, one.fitted.name, (y - one.fitted(x))[keep], lost) for one in work.judged)


def _factors(sample: Sample, options: Options) -> tuple[float, ...]:
    """Factors of the copies: those given, least squares without offset, and the ratio of means."""
    total = float(sample.x.sum())
    least = float(sample.x @ sample.y) / float(sample.x @ sample.x)
    return (
        (*options.factors, least, float(sample.y.sum()) / total) if total > 0 else (*options.factors, least)
    )


def _units(both: Pair, judged: Sequence[Judged]) -> dict[str, str]:
    planes = ("dark_from", "dark_to", *(f"residual_{one.fitted.name}" for one in judged))
    squared = {"variance_from": f"{both.unit}2"} if both.noise is not None else {}
    return dict.fromkeys(planes, both.unit) | squared | tabled.units(both.unit)


def _keys(both: Pair) -> dict[str, Any]:
    one = both.exposures[0]
    return {"detector": one.detector, "binning": one.binning, "includes_bias": both.includes_bias}


def _epoch(both: Pair) -> int | None:
    mids = [exposure.mid for exposure in both.exposures]
    return None if mids[0] is None or mids[1] is None else (mids[0] + mids[1]) // 2


def provenance(
    both: Pair,
    name: str,
    products: Mapping[str, Product],
    options: Mapping[str, Any],
    notes: Sequence[str],
) -> Provenance:
    """Inputs, parents, options, versions and notes of the effect `name`."""
    return Provenance(
        effect=name,
        inputs=both.inputs,
        parents=tuple(dict.fromkeys([*both.parents, *(p.identity for p in products.values())])),
        options=dict(options),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        notes=tuple(notes),
    )
