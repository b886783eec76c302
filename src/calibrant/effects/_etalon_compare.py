"""Fringes of two sources, or of two epochs: ratio, difference of phase and thickness, and the cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2 as chi2_of

from calibrant.effects._etalon_cause import SURE, WRONG, Cause, Pair, causes, line_spread_of, pair
from calibrant.effects._etalon_model import UM
from calibrant.effects._etalon_tables import mean
from calibrant.effects.common import versions
from calibrant.errors import SelectionError
from calibrant.product import Product, Provenance, Quantity

KIND = "fringe_comparison"


def compare(first: Product, second: Product) -> Product:
    """The fringes of a source beside those of another, column by column.

    Parameters
    ----------
    first, second : Product
        Of `measure`, with the same slices, points and resolution. If one of the frames was filtered along the
        rows and the other was not, the ratio is that of the filter, too.

    Returns
    -------
    Product
        Quantities: ``depth_ratio`` (observed, second over first), ``R_ratio``, ``phase`` [cycle, -0.5 to 0.5]
        and ``D`` [um], second minus first, each with sigma. Table ``wavelengths``: wavelength [um], R_ratio,
        depth_ratio, phase [cycle], each with ``..._sigma``; table ``causes``: cause, value, sigma, chi2, bic,
        best first (`docs/effects/fringe.md`), and ``models`` with their curves; ``transmissions`` of one
        column in both: wavelength, first, second, each with its fit. A note says which cause is preferred.

    Raises
    ------
    SelectionError
        If one is no product of fringes, or they share no column.
    """
    for one in (first, second):
        if one.kind != "fringe":
            raise SelectionError("not fringes", expected="a product of kind fringe", got=one.kind)
    both = pair(first.tables["points"], second.tables["points"])
    if both is None:
        raise SelectionError("the two have no column and row in common", do="measure the same slices")
    ranked = causes(both, first.quantity("D").value)
    table = {
        "cause": np.array([one.name for one in ranked]),
        **{
            name: np.array([getattr(one, name) for one in ranked])
            for name in ("value", "sigma", "chi2", "bic")
        },
    }
    names = [
        str(one.keys.get("source", f"the {n} source")) for one, n in ((first, "first"), (second, "second"))
    ]
    notes = [verdict(ranked, both, first.quantity("D").value, names)]
    if first.provenance.options.get("resolution") != second.provenance.options.get("resolution"):
        notes.append(
            "the two were measured with different resolutions: their reflectivities are not comparable"
        )
    wavelengths: dict[str, Any] = {"wavelength": UM / both.wavenumber}
    for name, of in (("R_ratio", "ratio"), ("depth_ratio", "depth"), ("phase", "phase")):
        wavelengths[name] = getattr(both, of)
        wavelengths[f"{name}_sigma"] = getattr(both, f"{of}_sigma")
    return Product(
        KIND,
        instrument=first.instrument,
        keys=first.keys,
        tables={
            "wavelengths": wavelengths,
            "causes": table,
            "models": _models(ranked, both),
            **_transmissions(first, second),
        },
        units={
            **{f"{name}.wavelength": "um" for name in ("wavelengths", "models", "transmissions")},
            "wavelengths.phase": "cycle",
            "wavelengths.phase_sigma": "cycle",
        },
        quantities=tuple(_quantities(first, second, both)),
        provenance=Provenance(
            "fringe", parents=(first.identity, second.identity), versions=versions(), notes=tuple(notes)
        ),
    )


def _models(ranked: list[Cause], both: Pair) -> dict[str, Any]:
    """What each cause makes of ratio and phase."""
    count = len(both.ratio)
    return {
        "cause": np.repeat([one.name for one in ranked], count),
        "wavelength": np.tile(UM / both.wavenumber, len(ranked)),
        "ratio": np.concatenate([one.ratio for one in ranked]),
        "phase": np.concatenate([one.phase for one in ranked]),
    }


def _transmissions(first: Product, second: Product) -> dict[str, dict[str, Any]]:
    """The example of both, over its continuum, where it is the same column; else nothing."""
    one, other = (product.tables.get("example") for product in (first, second))
    if one is None or other is None:
        return {}
    places = [(t["slice"][0], t["col"][0]) for t in (one, other)]
    _, i, j = np.intersect1d(one["row"], other["row"], return_indices=True)
    if places[0] != places[1] or not len(i):
        return {}
    made: dict[str, Any] = {name: one[name][i] for name in ("slice", "col", "row", "wavelength")}
    for name, table, here in (("first", one, i), ("second", other, j)):
        level = table["continuum"][here]
        made |= {
            name: table["value"][here] / level,
            f"{name}_sigma": table["sigma"][here] / level,
            f"{name}_fit": table["model"][here] / level,
        }
    return {"transmissions": made}


def _quantities(first: Product, second: Product, both: Pair) -> list[Quantity]:
    made = []
    group = np.zeros(len(both.ratio), np.int64)
    for name, of, unit in (
        ("depth_ratio", "depth", ""),
        ("R_ratio", "ratio", ""),
        ("phase", "phase", "cycle"),
    ):
        value, sigma = mean(getattr(both, of), getattr(both, f"{of}_sigma"), group, 1)
        made.append(Quantity(name, float(value[0]), float(sigma[0]), unit))
    one, other = (_thicknesses(product) for product in (first, second))
    shared = [(*one[key], *other[key]) for key in one if key in other]
    a, a_sigma, b, b_sigma = np.array(shared).T
    value, sigma = mean(b - a, np.hypot(a_sigma, b_sigma), np.zeros(len(a), np.int64), 1)
    made.append(Quantity("D", float(value[0]), float(sigma[0]), "um"))
    return made


def _thicknesses(product: Product) -> dict[tuple[int, int], tuple[float, float]]:
    """Slice and column -> thickness and its sigma."""
    table = product.tables["columns"]
    keys = zip(table["slice"].tolist(), table["col"].tolist(), strict=True)
    return dict(zip(keys, zip(table["D"].tolist(), table["D_sigma"].tolist(), strict=True), strict=True))


def verdict(
    ranked: list[Cause],
    both: Pair,
    thickness: float,
    names: Sequence[str] = ("the first source", "the second source"),
) -> str:
    """Which cause is preferred, in one sentence; `names` of the two."""
    best, next_one = ranked[:2]
    free = 2 * len(both.ratio) - (2 if best.name == "reflectivity" else 1)
    if chi2_of.sf(best.chi2, free) < WRONG:
        return (
            f"no cause explains the two: the best, {best.name}, leaves chi squared {best.chi2:.0f} of {free}"
        )
    told = _told(best, both, thickness, names)
    if next_one.bic - best.bic < SURE:
        return f"{told}; or {_told(next_one, both, thickness, names)}: the two cannot be told apart"
    return f"{told}: preferred by {next_one.bic - best.bic:.0f} (BIC) over {next_one.name}"


def _told(cause: Cause, both: Pair, thickness: float, names: Sequence[str]) -> str:
    source = names[1] if cause.value > 0 else names[0]
    number = f"{abs(cause.value):.4f} +- {cause.sigma:.4f}"
    if cause.name == "reflectivity":
        return f"reflectivity: {names[1]} meets {number} of that of {names[0]}"
    if cause.name == "cone":
        return f"cone: the light of {source} spreads by {number} rad in the plate"
    power = line_spread_of(cause.value, thickness, float(both.wavenumber.mean()))
    return f"line spread: lines of {source} are broader, as by a resolution of {power:.0f}"
