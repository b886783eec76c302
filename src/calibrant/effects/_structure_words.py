"""Sentences of the inventory: the questions that a person asks of a flat, answered from numbers.

Where, in which bands, at what significance, chromatic or not, light or counts: from the findings. Where a
structure of such a kind enters, and what cures it, is physics of the kind: the table `KINDS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._structure_finding import STRUCTURES, Finding
from calibrant.effects._structure_light import Light

CHROMATIC = 5.0  # sigmas between bands


@dataclass(frozen=True)
class Kind:
    """What is known of a structure beforehand.

    Attributes
    ----------
    name, amplitude, scale : str
        In words; what amplitude and scale measure.
    coordinates : str
        In which it is a simple shape.
    chain : str
        Where it enters between sky and counts.
    acts_on : str
        Photons, electrons or counts.
    cure : str
        Whether dividing by the flat is right.
    added : str
        The cure if it turns out to be added instead of going with the light.
    """

    name: str
    amplitude: str
    scale: str
    coordinates: str
    chain: str
    acts_on: str
    cure: str
    added: str = "it is added to the light: subtract it, do not divide"


KINDS: Mapping[str, Kind] = {
    "amplifier_steps": Kind(
        "Steps between amplifiers", "level against the mean of the detector", "", "detector",
        "in the amplifiers, where electrons become counts: their gains differ",
        "electrons",
        "dividing by the flat takes them out as long as the gains stay; a gain for each amplifier does it "
        "without the noise of the flat",
        "an offset of the amplifiers: subtract it (overscan, bias), never divide",
    ),
    "vignetting": Kind(
        "Vignetting and slope of the light", "loss from the brightest to the faintest place",
        "distance of these", "focal plane",
        "in the optics or in the screen, before the detector; which of the two, only the sky can tell",
        "photons",
        "dividing is right for what the optics take away, wrong for what the screen lacks: an illumination "
        "correction from the sky tells them apart",
    ),
    "dust_shadow": Kind(
        "Shadows of dust", "mean loss within the shadow", "radius", "focal plane",
        "on a window or filter in front of the detector",
        "photons",
        "dividing is right, with a flat taken while the dust lay there",
    ),
    "edge_roll_off": Kind(
        "Roll-off at the edges of detectors", "loss at the very edge", "distance over which it falls to 1/e",
        "detector",
        "in the silicon: the field bends at the edge, pixels there collect from another area",
        "electrons",
        "dividing mends the level of the sky but not the light and places of stars, whose charge is shifted, "
        "not lost: mask the edge, or correct areas and positions",
    ),
    "tree_rings": Kind(
        "Tree rings", "rms over the detector", "distance of rings", "detector",
        "in the silicon: rings of the dopant bend the field, and pixels there collect from another area",
        "electrons",
        "dividing mends the level of the sky, but charge was shifted, not lost: stars need the areas and "
        "positions of pixels corrected instead",
    ),
    "chromatic_pattern": Kind(
        "Difference between bands", "rms over the detector, against what most bands have",
        "length of its waves",
        "detector",
        "at the surface of the detector: coating or treatment absorbs and reflects by wavelength",
        "photons",
        "dividing is right, with the flat of the same band, for light of the colour of the lamp",
    ),
    "fringes": Kind(
        "Fringes", "rms over the detector, against what most bands have", "length of their waves", "detector",
        "in the silicon, thin and transparent at these wavelengths: light interferes with its reflection",
        "photons",
        "no: lines of the sky make other fringes than the lamp; take them out of the flat, and subtract a "
        "scaled fringe frame",
    ),
    "column": Kind(
        "Bad columns", "departure from the columns beside", "length", "detector",
        "in the silicon or in the transport of charge along a column",
        "electrons",
        "dark ones have lost their light: mask them; dividing only raises noise",
        "bright ones hold charge that no light made: subtract a dark, mask what is left, do not divide",
    ),
    "periodic_pattern": Kind(
        "Periodic pattern", "amplitude of the sine", "period", "order of the readout",
        "in the electronics of the readout; in the layout of pixels if it is a fraction of the light",
        "counts",
        "dividing is right only if it stays in place and goes with the light",
        "interference in the readout: subtract it frame by frame, do not divide",
    ),
    "pixel_response": Kind(
        "Response from pixel to pixel", "rms beyond the noise of the flat", "", "detector",
        "in the pixels: their efficiency and their area",
        "photons",
        "dividing is right; the flat must have more light than the frames",
    ),
}  # fmt: skip


def sentence(finding: Finding, unit: str) -> str:
    """One finding."""
    kind = KINDS[finding.structure]
    where = " ".join(
        part
        for part in (
            f"detector {finding.detector}" if finding.detector else "all detectors",
            f"amplifier {finding.amplifier}" if finding.amplifier else "",
            f"band {finding.band}" if finding.band else "",
        )
        if part
    )
    text = f"{kind.name}, {where}: {finding.amplitude:.3g} +- {finding.sigma:.2g} %"
    if math.isfinite(finding.scale) and kind.scale:
        text += f", {kind.scale} {finding.scale:.3g} {unit}"
    return f"{text} ({'found' if finding.detected else 'not found'}, {finding.significance:.1f} sigma)"


def inventory(
    findings: Sequence[Finding],
    lights: Mapping[str, Light],
    *,
    threshold: float,
    unit: str,
    detectors: Sequence[str],
    bands: Sequence[str],
    remarks: Mapping[str, str],
) -> dict[str, NDArray[np.generic]]:
    """The table ``inventory``: one row for each structure that was looked for, with its sentence.

    Parameters
    ----------
    remarks : mapping of str to str
        More to say of a structure.
    """
    rows = []
    for name in STRUCTURES:
        own = [f for f in findings if f.structure == name]
        rows.append(
            _row(
                own or [Finding(name)], lights[name], threshold, unit, detectors, bands, remarks.get(name, "")
            )
        )
    types = {"detected": bool, "significance": float, "amplitude": float, "sigma": float}
    return {name: np.array([row[name] for row in rows], types.get(name, str)) for name in rows[0]}


def _row(
    findings: Sequence[Finding],
    light: Light,
    threshold: float,
    unit: str,
    detectors: Sequence[str],
    bands: Sequence[str],
    remark: str,
) -> dict[str, object]:
    name = findings[0].structure
    kind, found = KINDS[name], [f for f in findings if f.detected]
    # Of what was found the strongest; of what was not, that which came closest.
    nearest = max(findings, key=lambda f: f.significance)
    best = max(found, key=lambda f: abs(f.amplitude)) if found else nearest
    colour, range_of_bands = chromatic(found)
    row: dict[str, object] = {
        "structure": name,
        "detected": bool(found),
        "significance": max(f.significance for f in found or findings),
        "amplitude": best.amplitude,
        "sigma": best.sigma,
        "detectors": _listed([f.detector for f in found], detectors, "detectors") if found else "",
        "bands": _listed([f.band for f in found], bands, "bands") if found else "",
        "amplifiers": _few([f.amplifier for f in found if f.amplifier]),
        "coordinates": kind.coordinates,
        "chromatic": colour,
        "light": light.verdict,
        "chain": kind.chain,
        "cure": _cure(kind, found, light),
    }
    parts = (
        [_what(kind, best, unit), _where(kind, row)] if found else [_nothing(kind, findings, best, threshold)]
    )
    if found:
        parts += [_colour(colour, range_of_bands), _about_light(light), _chain(kind, light)]
        parts += [f"Is dividing by the flat right? {_capital(str(row['cure']))}.", remark]
    row["sentence"] = " ".join(part for part in parts if part)
    return row


def _cure(kind: Kind, found: Sequence[Finding], light: Light) -> str:
    if kind is KINDS["column"]:  # dark and bright ones are different things
        signs = {f.amplitude > 0 for f in found}
        return "; ".join(text for sign, text in ((False, kind.cure), (True, kind.added)) if sign in signs)
    return kind.added if light.verdict == "added" else kind.cure


def chromatic(found: Sequence[Finding]) -> tuple[str, str]:
    """``yes``, ``no`` or ``unknown``, and the strongest and weakest band in words.

    Amplitudes of bands are compared place by place: chi2 of their departures from the weighted mean.
    """
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for f in found:
        if f.band and f.sigma > 0:
            place = (f.detector, f.amplifier, *((f.row, f.col) if f.structure == "dust_shadow" else ()))
            groups.setdefault(place, []).append(f)
    chi2 = freedom = 0.0
    for several in groups.values():
        weight = np.array([f.sigma**-2 for f in several])
        value = np.array([f.amplitude for f in several])
        chi2 += float(weight @ (value - weight @ value / weight.sum()) ** 2)
        freedom += len(several) - 1
    bands = list(dict.fromkeys(f.band for f in found if f.band))
    if freedom == 0 or found[0].structure == "column":  # several columns of an amplifier are not told apart
        return "unknown", ""
    mean = {b: float(np.mean([abs(f.amplitude) for f in found if f.band == b])) for b in bands}
    most, least = max(mean, key=lambda b: mean[b]), min(mean, key=lambda b: mean[b])
    sigmas = (chi2 - freedom) / math.sqrt(2.0 * freedom)
    if sigmas > CHROMATIC:
        return "yes", f"{mean[most]:.2g} % in {most}, {mean[least]:.2g} % in {least}"
    return "no", ""


def _what(kind: Kind, best: Finding, unit: str) -> str:
    size = f"{best.amplitude:.3g} +- {best.sigma:.2g} %"
    text = f"{kind.name}: {size} ({kind.amplitude}; {best.significance:.0f} sigma)"
    return text + (
        f", {kind.scale} {best.scale:.3g} {unit}." if kind.scale and math.isfinite(best.scale) else "."
    )


def _where(kind: Kind, row: Mapping[str, object]) -> str:
    text = f"Seen in {row['detectors']}, {row['bands']}"
    if row["amplifiers"]:
        text += f", amplifiers {row['amplifiers']}"
    by = kind.coordinates if "readout" in kind.coordinates else f"place on the {kind.coordinates}"
    return f"{text}; it goes by the {by}."


def _colour(verdict: str, range_of_bands: str) -> str:
    if verdict == "yes":
        return f"Chromatic: {range_of_bands}."
    return "Within its errors the same in all bands that have it." if verdict == "no" else ""


def _chain(kind: Kind, light: Light) -> str:
    if light.verdict == "added" and kind.acts_on != "counts":
        return "It enters after the light: in the detector or its electronics."
    return f"It enters {kind.chain}; it acts on {kind.acts_on}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _about_light(light: Light) -> str:
    numbers = (
        f"{light.from_light:.1f} sigma from a fixed fraction of the light, "
        f"{light.from_added:.1f} from a fixed number of counts"
    )
    if light.compared == 0:
        if light.verdict == "added":
            return "It is there without light: the darks show it."
        return "Whether it goes with the light was not measured: that takes flats of two levels."
    if light.verdict == "light":
        return f"It goes with the light ({numbers}, over {light.compared} amplitudes at two levels)."
    if light.verdict == "added":
        return f"It is added, whatever the light ({numbers}, over {light.compared} amplitudes at two levels)."
    return f"Two levels do not tell whether it goes with the light ({numbers})."


def _nothing(kind: Kind, findings: Sequence[Finding], best: Finding, threshold: float) -> str:
    text = f"{kind.name}: not found at {threshold:g} sigma"
    known = [f for f in findings if f.sigma > 0 and math.isfinite(f.sigma)]
    if not known:
        return f"{text}."
    return f"{text}; the most is {best.amplitude:.2g} +- {best.sigma:.2g} % ({best.significance:.1f} sigma)."


def _listed(names: Sequence[str], everyone: Sequence[str], what: str) -> str:
    found = [name for name in everyone if name in set(names)]
    if ("" in names and not found) or len(found) == len(everyone):
        return f"all {what}" if len(everyone) > 1 else f"{what[:-1]} {everyone[0]}".strip()
    return f"{what} {', '.join(found)}" if len(found) > 1 else f"{what[:-1]} {found[0]}"


def _few(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique) if len(unique) <= 6 else f"{len(unique)} of them"
