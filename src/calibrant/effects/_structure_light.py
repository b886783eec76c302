"""Whether a structure goes with the light or is added to it: flats of two levels, and darks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibrant.effects._structure_digest import Digest
from calibrant.effects._structure_finding import STRUCTURES, Finding
from calibrant.effects._structure_geometry import Geometry
from calibrant.product import Product
from calibrant.stats import mad_std

APART = 3.0  # sigmas beyond which one of the two is excluded, and times as far as the other
EXACT = 0.05  # relative: how well the predictions hold for large amplitudes
NEAR = 3.0  # pixels within which findings of two levels are the same
Levels = Mapping[tuple[str, str], tuple[float, float]]
"""Detector and band -> levels of the brighter and the fainter flat, adu."""


@dataclass(frozen=True)
class Light:
    """How a structure goes with the level.

    Attributes
    ----------
    structure : str
    verdict : str
        ``light``: a fixed fraction of it; ``added``: a fixed number of counts; ``unknown``.
    from_light, from_added : float
        Sigmas by which what was seen departs from the one and the other.
    compared : int
        Amplitudes at two levels.
    """

    structure: str
    verdict: str
    from_light: float
    from_added: float
    compared: int


def judge(bright: Sequence[Finding], faint: Sequence[Finding], levels: Levels) -> dict[str, Light]:
    """Compare what was found at two levels.

    A structure that goes with the light has the same relative amplitude at both; one that is added has
    ``A2 = A1 * level1 / level2``. The slope of A2 against either prediction tells how far from it they are.
    """
    return {name: _judged(name, bright, faint, levels) for name in STRUCTURES}


def _judged(name: str, bright: Sequence[Finding], faint: Sequence[Finding], levels: Levels) -> Light:
    one, other, ratio, weight = [], [], [], []
    for finding in bright:
        if finding.structure != name or not finding.detected:
            continue
        if name == "column" and finding.amplitude < 0:
            continue  # dead ones have nothing to compare
        match = _match(finding, faint)
        pair = levels.get((finding.detector, finding.band)) or _of_band(levels, finding.band)
        if match is None or pair is None:
            continue
        variance = finding.sigma**2 + match.sigma**2 + (EXACT * match.amplitude) ** 2
        if math.isfinite(match.amplitude) and variance > 0:
            one.append(finding.amplitude)
            other.append(match.amplitude)
            ratio.append(pair[0] / pair[1])
            weight.append(1.0 / variance)
    if not one:
        return Light(name, "unknown", math.nan, math.nan, 0)
    a, b, q, w = (np.array(values, np.float64) for values in (one, other, ratio, weight))
    away = []
    for predicted in (a, a * q):
        away.append(abs(float(w * predicted @ (b - predicted))) / math.sqrt(float(w * predicted @ predicted)))
    verdict = "unknown"
    if away[1] > APART * max(1.0, away[0]):
        verdict = "light"
    elif away[0] > APART * max(1.0, away[1]):
        verdict = "added"
    return Light(name, verdict, away[0], away[1], len(one))


def _of_band(levels: Levels, band: str) -> tuple[float, float] | None:
    """Of a structure of all detectors: their mean."""
    found = [pair for (_, own), pair in levels.items() if own == band]
    return (sum(p[0] for p in found) / len(found), sum(p[1] for p in found) / len(found)) if found else None


def _match(finding: Finding, others: Sequence[Finding]) -> Finding | None:
    for other in others:
        if other.place != finding.place:
            continue
        apart = math.hypot(other.row - finding.row, other.col - finding.col)
        if math.isnan(finding.col) or finding.structure not in ("column", "dust_shadow"):
            return other
        limit = NEAR if finding.structure == "dust_shadow" else 0.5
        across = apart if finding.structure == "dust_shadow" else abs(other.col - finding.col)
        if across <= limit:
            return other
    return None


def in_dark(
    findings: Sequence[Finding], darks: Mapping[str, Product], geometries: Mapping[str, Geometry]
) -> tuple[int, int, float]:
    """Of the bright columns: how many the darks show as well, of how many, and the least sigmas of these.

    Parameters
    ----------
    darks : mapping
        Detector -> dark, assembled as the flats are.
    """
    seen, looked, least = 0, 0, math.inf
    places = {(f.detector, f.col): f for f in findings if f.structure == "column" and f.amplitude > 0}
    for finding in places.values():
        dark = darks.get(finding.detector)
        if dark is None or tuple(dark.data.shape) != geometries[finding.detector].shape:
            continue
        looked += 1
        significance = _excess(dark, finding, geometries[finding.detector])
        if significance > 5.0:
            seen, least = seen + 1, min(least, significance)
    return seen, looked, least


def _excess(dark: Product, finding: Finding, geometry: Geometry) -> float:
    """Sigmas of a column in a dark against the three on either side."""
    half = 0.5 * finding.scale / geometry.pitch[0]
    rows = slice(max(0, round(finding.row - half)), round(finding.row + half))
    col = int(finding.col)
    part = np.asarray(dark.data[rows, max(0, col - 3) : col + 4], np.float64)
    middle = min(col, 3)
    others = np.delete(part, middle, axis=1)
    known = others[np.isfinite(others)]
    own = part[:, middle][np.isfinite(part[:, middle])]
    if known.size < 8 or own.size < 4:
        return 0.0
    width = max(float(mad_std(known)), 1e-12)
    return float((np.median(own) - np.median(known)) / (1.2533 * width / math.sqrt(own.size)))


def with_dark(light: Light, seen: int, looked: int) -> Light:
    """The verdict on columns, where darks decide what one level could not."""
    if light.verdict == "unknown" and looked and seen == looked:
        return replace(light, verdict="added")
    return light


def with_gains(digests: Sequence[Digest], products: Mapping[str, Product]) -> str:
    """How much of the steps between amplifiers the gains explain, as a sentence; empty without gains.

    In electrons a step of gain is gone: ``level + ln(gain)`` is the same for all amplifiers.
    """
    before, after = [], []
    for d in digests:
        product = products.get(d.detector)
        gains = {q.place: q.value for q in product if q.name == "gain"} if product is not None else {}
        names = [amp.name for amp in d.geometry.amplifiers]
        if not set(names) <= set(gains):
            continue
        values = np.array([gains[name] for name in names], np.float64)
        known = np.isfinite(d.levels.values) & (values > 0)
        if known.sum() > 1:
            before.append(float(np.std(d.levels.values[known])))
            after.append(float(np.std(d.levels.values[known] + np.log(values[known]))))
    if not before:
        return ""
    rms = [100.0 * math.sqrt(float(np.mean(np.square(v)))) for v in (before, after)]
    verdict = "the steps are those of the gains" if rms[1] < 0.3 * rms[0] else "the gains do not explain them"
    return f"With the gains given the rms of the steps goes from {rms[0]:.2g} to {rms[1]:.2g} %: {verdict}."
