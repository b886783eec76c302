"""Numbers of all slices together, the shift along dispersion in fringes, and what changed in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._campaign_fit import Slice
from calibrant.effects._campaign_model import OWN, PAD, spline
from calibrant.product import Quantity

FAR = 5.0  # sigmas
FLOORS: Mapping[str, float] = {"gain": 0.002, "edge": 0.03, "structure": 0.03, "dispersion": 0.02}
TRADES: Mapping[str, float] = {"gain": 1e-3, "edge": 0.015, "structure": 2e-4}
"""What parameters trade with another, alike in all slices, however little noise there is: gain and pedestal
(as much, times the light), edges and structure at the border of a slice."""
COMMON = (*TRADES, "pedestal", "pedestal_change")  # errors that do not fall with the number of slices
OUTLIER = 5.0  # sigmas of the scatter: slices further off do not enter the mean
FRINGE = 30.0  # a peak of the spectrum over its median that is a fringe
SHORT, LONG = 4.0, 40.0  # rows, of fringes
F8 = NDArray[np.float64]


def model_table(found: Sequence[Slice], names: Sequence[str], reference: int) -> dict[str, NDArray[Any]]:
    """Table ``model``: each slice and campaign with all parameters of the joint model and their sigmas."""
    rows: dict[str, list[Any]] = {"slice": [], "campaign": []}
    for one in found:
        sigma = np.sqrt(np.diag(one.fit.covariance)).reshape(-1, len(OWN))
        fringe = fringe_period(one)
        base = len(OWN) * reference + 4
        for k, name in enumerate(names):
            rows["slice"].append(str(one.strip.number))
            rows["campaign"].append(name)
            for i, what in enumerate(OWN):
                rows.setdefault(what, []).append(one.fit.state.own[k, i])
                trade = trades(one, what, k == reference)
                rows.setdefault(f"{what}_sigma", []).append(math.hypot(sigma[k, i], trade))
            at, own = len(OWN) * k + 4, one.fit.state.own
            cov = one.fit.covariance
            change = math.sqrt(max(cov[at, at] + cov[base, base] - 2 * cov[at, base], 0.0))
            trade = 0.0 if k == reference else trades(one, "pedestal", False)
            rows.setdefault("pedestal_change", []).append(own[k, 4] - own[reference, 4])
            rows.setdefault("pedestal_change_sigma", []).append(math.hypot(change, trade))
            rows.setdefault("phase", []).append(own[k, 3] / fringe)
            rows.setdefault("phase_sigma", []).append(sigma[k, 3] / fringe)
            rows.setdefault("chi", []).append(one.fit.chi)
    return {name: np.array(values) for name, values in rows.items()}


def trades(one: Slice, what: str, reference: bool) -> float:
    """What of a parameter cannot be told from its counterpart, however little noise there is."""
    if what == "pedestal":
        return TRADES["gain"] * float(np.median(one.fit.state.spectrum))
    return 0.0 if reference else TRADES.get(what, 0.0)


def fringe_period(one: Slice) -> float:
    """Rows of a fringe of the spectrum, mean of 1 / period inverted; NaN if there are no fringes."""
    rows = np.arange(one.strip.rows, dtype=np.float64)
    spectrum = spline(one.fit.state.spectrum, rows + 1 + PAD)
    seen = np.unique(one.strip.row)
    rows, spectrum = rows[seen], spectrum[seen]
    axis = rows if one.strip.wavenumber is None else one.strip.wavenumber[seen]
    order = np.argsort(axis)
    even = np.linspace(axis.min(), axis.max(), len(axis))
    resampled = np.interp(even, axis[order], spectrum[order])
    smooth = np.polynomial.Polynomial.fit(even, resampled, 6)(even)
    wave = (resampled / np.where(smooth == 0, 1, smooth) - 1) * np.hanning(len(even))
    power = np.abs(np.fft.rfft(wave)) ** 2
    periods = len(even) / np.maximum(np.arange(len(power)), 1)  # in rows of the mean step
    allowed = (periods >= SHORT) & (periods <= LONG)
    if not allowed.any() or power[allowed].max() < FRINGE * np.median(power[allowed]):
        return math.nan
    return float(periods[allowed][np.argmax(power[allowed])])


def together(table: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Table ``trend``: the mean of the slices of each campaign; its sigma knows their scatter."""
    rows: dict[str, list[Any]] = {"campaign": list(names)}
    for what in (*OWN, "pedestal_change", "phase"):
        pairs = []
        for name in names:
            here = table["campaign"] == name
            mean, sigma = mean_of(table[what][here], table[f"{what}_sigma"][here])
            least = float(np.median(table[f"{what}_sigma"][here])) if what in COMMON else 0.0
            pairs.append((mean, max(sigma, least)))
        rows[what] = [value for value, _ in pairs]
        rows[f"{what}_sigma"] = [sigma for _, sigma in pairs]
    return {name: np.array(values) for name, values in rows.items()}


def mean_of(values: F8, sigmas: F8) -> tuple[float, float]:
    """Weighted mean of slices; slices scatter by more than their sigmas say, and then that scatter counts."""
    good = np.isfinite(values) & np.isfinite(sigmas)
    values, sigmas = values[good], sigmas[good]
    if not values.size:
        return math.nan, math.nan
    if np.all(sigmas == 0):  # the reference
        return float(values.mean()), 0.0
    middle = np.median(values)
    own = float(np.median(np.abs(values - middle))) * 1.4826
    kept = np.abs(values - middle) <= OUTLIER * np.hypot(own, sigmas)
    values, sigmas = values[kept], sigmas[kept]
    count = len(values)
    beyond = max(values.var(ddof=1) - float(np.median(sigmas) ** 2), 0.0) if count > 1 else 0.0
    weights = 1 / (sigmas**2 + beyond)
    mean = float(values @ weights / weights.sum())
    return mean, float(1 / math.sqrt(weights.sum()))


def changed(trend: Mapping[str, NDArray[Any]], k: int) -> list[str]:
    """What of the joint model is different in a campaign: beyond its sigma, and beyond what can be told."""
    found = []
    for what, floor in FLOORS.items():
        value = float(trend[what][k]) - (1.0 if what == "gain" else 0.0)
        if abs(value) > max(FAR * float(trend[f"{what}_sigma"][k]), floor):
            found.append(what)
    value, sigma = float(trend["pedestal_change"][k]), float(trend["pedestal_change_sigma"][k])
    return [*found, "pedestal"] if abs(value) > FAR * sigma else found


def sentence(trend: Mapping[str, NDArray[Any]], k: int, reference: str, unit: str) -> str:
    """What changed between a campaign and the reference, and what did not."""
    parts = changed(trend, k)
    units = {"edge": " columns", "structure": " columns", "dispersion": " rows", "pedestal": f" {unit}"}
    told = []
    for what in OWN:
        column = "pedestal_change" if what == "pedestal" else what
        value, sigma = float(trend[column][k]), float(trend[f"{column}_sigma"][k])
        sign = "" if what == "gain" else "+"
        number = f"{value:{sign}.4g} +- {sigma:.2g}{units.get(what, '').rstrip()}"
        told.append(f"{what} {'changed' if what in parts else 'kept'} ({number})")
    name = str(trend["campaign"][k])
    which = " and ".join(parts) if parts else "nothing"
    return f"{name} against {reference}: {which} changed: {', '.join(told)}"


def quantities(trend: Mapping[str, NDArray[Any]], unit: str) -> list[Quantity]:
    """The trend as quantities; the place is the campaign."""
    units = {"edge": "pixel", "structure": "pixel", "dispersion": "pixel"}
    units |= {"pedestal": unit, "pedestal_change": unit, "phase": "cycle"}
    return [
        Quantity(what, float(value), float(sigma), units.get(what, ""), str(name))
        for what in (*OWN, "pedestal_change", "phase")
        for name, value, sigma in zip(trend["campaign"], trend[what], trend[f"{what}_sigma"], strict=True)
    ]


def drifts(trend: Mapping[str, NDArray[Any]], days: F8, unit: str) -> list[Quantity]:
    """Change per day of each parameter, of three campaigns or more with known times."""
    known = np.isfinite(days)
    made = []
    for what in (*OWN[:4], "pedestal_change"):
        value, sigma = trend[what][known], trend[f"{what}_sigma"][known]
        good = np.isfinite(value)
        if good.sum() < 3 or np.ptp(days[known][good]) == 0:
            continue
        least = sigma[sigma > 0].min(initial=math.inf)
        weight = 1 / np.maximum(sigma[good], least if math.isfinite(least) else 1.0)
        t = days[known][good] - days[known][good].mean()
        design = np.stack([np.ones(len(t)), t], axis=1) * weight[:, None]
        solved, *_ = np.linalg.lstsq(design, value[good] * weight)
        covariance = np.linalg.inv(design.T @ design)
        rest = value[good] * weight - design @ solved
        scale = max(float(rest @ rest) / (len(t) - 2), 1.0)
        per_day = {"gain": "1/d", "pedestal_change": f"{unit}/d"}.get(what, "pixel/d")
        error = math.sqrt(covariance[1, 1] * scale)
        made.append(Quantity(f"{what}_drift", float(solved[1]), error, per_day))
    return made
