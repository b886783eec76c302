"""A photon transfer curve as a Product: its quantities, and tables that hold all that a plot draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._gain_levels import F8, Amplifier
from calibrant.effects._gain_lines import straight_lines
from calibrant.effects._pair_gain import Estimate
from calibrant.effects._ptc_fit import PtcFit
from calibrant.effects._ptc_levels import Levels, standard_error
from calibrant.effects._ptc_models import exponential
from calibrant.product import Quantity

UNITS: Mapping[str, str] = {
    "ptc.exptime": "s", "ptc.mean": "adu", "ptc.variance": "adu2", "ptc.sigma": "adu2", "ptc.model": "adu2",
    "covariances.mean": "adu", "covariances.covariance": "adu2", "covariances.sigma": "adu2",
    "covariances.model": "adu2", "a_matrix.a": "1/electron", "a_matrix.sigma": "1/electron",
    "a_matrix.b": "1/electron", "a_matrix.b_sigma": "1/electron", "straight.gain": "electron/adu",
    "straight.read_noise": "electron", "straight.bias_percent": "%",
}  # fmt: skip
BESIDE = 0.05  # of the ratio of two read noises
USUAL_A00 = -3e-6  # 1/electron: brighter-fatter of a thick CCD
TOLD = 0.01  # of a gain: what pairs, or straight lines, may be off by without a word
Table = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Result:
    """What was found for one amplifier: a fit, or the estimate of its pairs."""

    part: Amplifier
    fit: PtcFit | None
    pairs: Estimate

    @property
    def gain(self) -> float:
        """e-/adu."""
        return self.pairs.gain if self.fit is None else self.fit.gain

    @property
    def gain_sigma(self) -> float:
        """e-/adu; NaN if unknown."""
        return self.pairs.sigma if self.fit is None else self.fit.gain_sigma

    @property
    def used(self) -> NDArray[np.bool_]:
        """(pairs,)."""
        return self.part.good if self.fit is None else self.fit.used

    @property
    def model(self) -> F8:
        """(pairs,), variance, adu^2."""
        if self.fit is not None:
            return self.fit.model_variance
        variance: F8 = self.part.mean / self.pairs.gain + self.part.square
        return variance

    def quantities(self) -> list[Quantity]:
        """Of the amplifier; NaN where nothing could be found."""
        rows: list[tuple[str, float, float | None, str]]
        if self.fit is None:
            noise = self.part.noise * self.pairs.gain
            rows = [
                ("gain", self.pairs.gain, self.pairs.sigma, "electron/adu"),
                ("read_noise", noise, None, "electron"),
            ]
        else:
            fit = self.fit
            rows = [
                ("gain", fit.gain, fit.gain_sigma, "electron/adu"),
                ("read_noise", fit.read_noise, fit.read_noise_sigma, "electron"),
                ("a00", fit.a00, fit.a00_sigma, "1/electron"),
                ("turnoff", fit.turnoff, fit.turnoff_sigma, "adu"),
                ("full_well", fit.full_well, fit.turnoff_sigma * fit.gain, "electron"),
                ("chi2", fit.chi2, None, ""),
            ]
            if math.isfinite(self.noise_ratio()[0]):
                rows.append(("noise_ratio", *self.noise_ratio(), ""))
        rows.append(("pairs", float(self.used.sum()), None, ""))
        known = ((n, v, None if s is None or not math.isfinite(s) else s, u) for n, v, s, u in rows)
        return [Quantity(*row, self.part.name) for row in known]

    def noise_ratio(self) -> tuple[float, float]:
        """Read noise of the curve over that of bias or overscan, and its sigma; NaN if one is unknown."""
        known = self.part.noise * self.gain
        if self.fit is None or not known > 0:
            return math.nan, math.nan
        return self.fit.read_noise / known, self.fit.read_noise_sigma / known

    def judge(self) -> None:
        """A note on a read noise that is not what it was said to be."""
        ratio, sigma = self.noise_ratio()
        if self.fit is not None and abs(ratio - 1.0) > max(BESIDE, 3.0 * sigma):
            self.part.notes.append(
                f"read noise of the curve {self.fit.read_noise:.3g} e-, of bias or overscan "
                f"{self.part.noise * self.gain:.3g} e-: more than 5 % apart"
            )


def remarks(results: Sequence[Result]) -> list[str]:
    """What is said once for all amplifiers: nominal gains turned over, and what bright pairs do not tell."""
    notes = []
    turned = [one for one in results if one.part.swapped(one.gain, one.gain_sigma)]
    if turned:
        first = turned[0]
        where = f" ({len(turned)} amplifiers, such as {first.part.name})" if len(turned) > 1 else ""
        notes.append(
            f"the nominal gain {first.part.nominal:.4g} looks like adu/e-: measured are "
            f"{first.gain:.4g} e-/adu{where}"
        )
    pairs = [one for one in results if one.fit is None and one.pairs.gain > 0]
    charges = [float(np.median(one.part.mean[one.part.good])) * one.pairs.gain for one in pairs]
    charge = float(np.median(charges)) if charges else 0.0
    if -USUAL_A00 * charge > TOLD:
        lost = 1.0 - float(exponential(charge, 1.0, USUAL_A00, 0.0)) / charge
        notes.append(
            f"pairs take all noise for that of single photons: at this light, {charge:.2g} e-, the gain of a "
            f"thick CCD (a00 = {USUAL_A00:g} per electron) comes out {100 * lost / (1 - lost):.0f} % high; "
            "fainter pairs, or three levels, tell it"
        )
    return notes


def straight_note(table: Table, model: str) -> list[str]:
    """By how much straight lines through the same levels are off, in the middle of the amplifiers."""
    off = {}
    for line in ("unweighted", "weighted"):
        biases = table["bias_percent"][table["line"] == line]
        known = biases[np.isfinite(biases)]
        off[line] = float(np.median(known)) if known.size else 0.0
    if model == "linear" or max(abs(value) for value in off.values()) < 100 * TOLD:
        return []
    return [
        f"straight lines through the same levels give other gains: by {off['unweighted']:+.1f} % unweighted, "
        f"{off['weighted']:+.1f} % weighted (table straight)"
    ]


def tables(results: Sequence[Result], columns: Table, lags: int) -> dict[str, Table]:
    """The tables ptc, covariances, a_matrix and straight; those without a line are left out."""
    made = {"ptc": _joined([_ptc(one, columns) for one in results])}
    if lags:
        made["covariances"] = _joined([_covariances(one) for one in results])
    fitted = [one for one in results if one.fit is not None]
    matrices = [_matrix(one.part.name, one.fit) for one in fitted if one.fit and one.fit.a is not None]
    if matrices:
        made["a_matrix"] = _joined(matrices)
    if fitted:
        made["straight"] = _joined([_straight(one) for one in fitted])
    return made


def _joined(parts: Sequence[Table]) -> Table:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _ptc(one: Result, columns: Table) -> Table:
    part, model = one.part, one.model
    sigma = standard_error(part.variance, np.maximum(part.pixels, 1))
    return {
        "amplifier": np.full(len(part.mean), part.name),
        **columns,
        "mean": part.mean,
        "variance": part.variance,
        "sigma": sigma,
        "pixels": part.pixels,
        "used": one.used,
        "model": model,
        "residual": (part.variance - model) / np.where(sigma > 0, sigma, np.nan),
    }


def _covariances(one: Result) -> Table:
    """A line for each lag of each pair."""
    part = one.part
    pair, i, j = (index.ravel() for index in np.indices(part.covariance.shape))
    model = None if one.fit is None else one.fit.model_covariance
    # Var(C) = v^2 / n of white noise, twice that for the variance itself.
    twice = np.where((i == 0) & (j == 0), 2.0, 1.0)
    return {
        "amplifier": np.full(pair.size, part.name),
        "pair": pair,
        "i": i,
        "j": j,
        "mean": part.mean[pair],
        "covariance": part.covariance.ravel(),
        "sigma": part.variance[pair] * np.sqrt(twice / np.maximum(part.counts.ravel(), 1)),
        "pixels": part.counts.ravel(),
        "model": np.full(pair.size, np.nan) if model is None else model.ravel(),
    }


def _matrix(name: str, fit: PtcFit) -> Table:
    assert fit.a is not None and fit.a_sigma is not None
    i, j = (index.ravel() for index in np.indices(fit.a.shape))
    table = {
        "amplifier": np.full(i.size, name),
        "i": i,
        "j": j,
        "a": fit.a.ravel(),
        "sigma": fit.a_sigma.ravel(),
    }
    if fit.model == "full":
        nothing = np.full(fit.a.shape, np.nan)
        table["b"] = (nothing if fit.b is None else fit.b).ravel()
        table["b_sigma"] = (nothing if fit.b_sigma is None else fit.b_sigma).ravel()
    return table


def _straight(one: Result) -> Table:
    """Lines through the levels that the fit used, and how far their gain is from its."""
    part, used = one.part, one.used
    levels = Levels(part.mean[used], part.variance[used], part.pixels[used].astype(np.float64))
    lines = straight_lines(*levels.take(np.argsort(levels.mean)), one.gain)
    return {"amplifier": np.full(len(lines["line"]), part.name), **lines}
