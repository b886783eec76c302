"""The parts of the noise as quantities and tables of a product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._one_over_f_fit import (
    Linear,
    Parts,
    Pink,
    covariance,
    model,
    part,
    shares,
)
from calibrant.effects._one_over_f_picture import PictureFrame
from calibrant.effects._one_over_f_reference import Reference
from calibrant.effects._one_over_f_response import Responses
from calibrant.effects._one_over_f_spectra import Spectra
from calibrant.instrument.clock import Border, Clock
from calibrant.product import Quantity, Table

PSD = "adu2/Hz"
Floats = NDArray[np.float64]

QUANTITIES = {
    "white": "White noise of a single read of an output: one-sided density W.",
    "white_noise": "The same as the standard deviation of a single read of a pixel.",
    "pink_own": "Noise of an output alone: density U at 1 Hz, single read; U(f) = pink_own / f^slope_own.",
    "slope_own": "Its slope; 1 where the noise is too weak to tell.",
    "knee_own": "Frequency at which U is as strong as W.",
    "own_at_row": "U at the row frequency.",
    "own_below_row": "Integral of U from one over the time of a frame to the row frequency.",
    "own_above_row": "Integral of U from the row frequency to the Nyquist frequency.",
    "alternating": "Noise whose sign turns from column to column: density 1 Hz from the Nyquist frequency.",
    "slope_alternating": "Its slope.",
    "alternating_below_row": "Its integral, from one over the time of a frame to a row frequency below it.",
    "pink_common": "Noise that outputs share: density C at 1 Hz, for an output of common_gain 1.",
    "slope_common": "Its slope.",
    "knee_common": "Frequency at which C is as strong as the mean W.",
    "common_at_row": "C at the row frequency.",
    "common_below_row": "Integral of C from one over the time of a frame to the row frequency.",
    "common_above_row": "Integral of C from the row frequency to the Nyquist frequency.",
    "common_gain": "By which an output has the common noise; 1 on average.",
    "removable": "Part of the variance of means of rows that the best correction by columns removes.",
    "picture_frame_variance": "Variance along columns of a pattern that both edges share, single read.",
    "picture_frame": "Rms of that pattern over active pixels, single read, where it is seen.",
    "row_frequency": "Rows in a second.",
    "frame_time": "Seconds from read to read.",
    "differences": "Differences of groups that were used.",
    "good": "Part of the pixels inside the border that were used.",
    "chi2_own": "Chi-square per degree of freedom of the fit to an output.",
    "chi2_common": "Chi-square per degree of freedom of the fit to what outputs share.",
}


@dataclass(frozen=True, eq=False)
class Found:
    """All that was measured; `reference` and `picture` are None where they cannot be."""

    spectra: Spectra
    responses: Responses
    parts: Parts
    white_of_difference: float
    reference: Reference | None
    streams: tuple[str, ...]
    picture: PictureFrame | None


def quantities(found: Found) -> tuple[Quantity, ...]:
    """Numbers of each output (places "1", "2", ...) and of all."""
    clock, made = found.spectra.clock, []
    limits = 1 / clock.frame_time, clock.row_frequency
    for number, one in enumerate(found.parts.own, 1):
        place = str(number)
        noise = math.sqrt(max(one.white * clock.nyquist, 0.0))
        made += [
            Quantity("white", one.white, one.white_sigma, PSD, place),
            Quantity("white_noise", noise, _half(one.white_sigma * clock.nyquist, noise), "adu", place),
            *_pink("own", one.pink, clock, one.white, place),
            Quantity("alternating", one.alternating.amplitude, one.alternating.sigma, PSD, place),
            Quantity("slope_alternating", one.alternating.slope, _sigma(one.alternating), "", place),
            Quantity("alternating_below_row", *one.alternating.integral(*limits), "adu2", place),
            Quantity("chi2_own", one.chi2, None, "", place),
            Quantity("good", float(found.spectra.good[number - 1]), None, "", place),
        ]
    made += _shared(found)
    if found.reference is not None:
        made += _removable(found.reference)
    if found.picture is not None:
        picture = found.picture
        made.append(Quantity("picture_frame_variance", picture.variance, picture.sigma, "adu2"))
        if picture.pattern is not None:
            sigma = picture.rms * picture.sigma / picture.variance / 2
            made.append(Quantity("picture_frame", picture.rms, sigma, "adu"))
    return (
        *made,
        Quantity("row_frequency", clock.row_frequency, None, "Hz"),
        Quantity("frame_time", clock.frame_time, None, "s"),
        Quantity("differences", float(found.spectra.frames)),
    )


def _shared(found: Found) -> list[Quantity]:
    parts, clock = found.parts, found.spectra.clock
    if parts.common is None:
        return []
    white = float(np.mean([one.white for one in parts.own]))
    made = _pink("common", parts.common, clock, white, "")
    made.append(Quantity("chi2_common", parts.common_chi2))
    for number, (gain, sigma) in enumerate(zip(parts.gains, parts.gain_sigma, strict=True), 1):
        made.append(Quantity("common_gain", float(gain), _finite(float(sigma)), "", str(number)))
    return made


def _pink(name: str, pink: Pink, clock: Clock, white: float, place: str) -> list[Quantity]:
    knee, knee_sigma = pink.knee(white)
    row, low = clock.row_frequency, 1 / clock.frame_time
    return [
        Quantity(f"pink_{name}", pink.amplitude, pink.sigma, PSD, place),
        Quantity(f"slope_{name}", pink.slope, _sigma(pink), "", place),
        Quantity(f"knee_{name}", knee, _finite(knee_sigma), "Hz", place),
        Quantity(f"{name}_at_row", float(pink.density(np.array(row))), pink.density_sigma(row), PSD, place),
        Quantity(f"{name}_below_row", *pink.integral(low, row), "adu2", place),
        Quantity(f"{name}_above_row", *pink.integral(row, clock.nyquist), "adu2", place),
    ]


def _removable(reference: Reference) -> list[Quantity]:
    return [
        Quantity("removable", float(value), float(sigma), "", str(number))
        for number, (value, sigma) in enumerate(zip(*reference.removable, strict=True), 1)
    ]


def _sigma(pink: Pink) -> float | None:
    return _finite(pink.slope_sigma)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _half(sigma: float, value: float) -> float | None:
    """Sigma of the root of a number from that of the number."""
    return sigma / (2 * value) if value > 0 else None


def tables(found: Found, array: Clock, border: Border) -> dict[str, Table]:
    """Spectra with the fitted parts, coherence and weights, and the clock that `apply` needs."""
    made: dict[str, Table] = {"spectra": _spectra(found), "clock": clock_table(array, border)}
    if found.parts.common is not None:
        made["common"] = _common(found)
    if found.reference is not None:
        made["coherence"], made["weights"] = _coherence(found.reference), _weights(found)
    return made


def units() -> dict[str, str]:
    """Of the columns of `tables`."""
    columns = ("power", "sigma", "white", "own", "common", "alternating")
    return {
        **{f"spectra.{name}": PSD for name in columns},
        **{f"common.{name}": PSD for name in ("power", "sigma", "model")},
        **{f"coherence.{name}": PSD for name in ("power", "remaining")},
        **{f"{name}.frequency": "Hz" for name in ("spectra", "common", "coherence", "weights")},
        "clock.pixel_time": "s",
    }


def _spectra(found: Found) -> Table:
    """Powers of outputs as measured, as of single reads; the parts as they are seen in the same bins."""
    rows: list[dict[str, Any]] = []
    seen = shares(found.parts, found.spectra, found.responses)
    matrices = model(found.parts, found.spectra, found.responses)
    for scale, matrix, of_parts in zip(found.spectra.scales, matrices, seen, strict=True):
        outputs = found.spectra.clock.outputs
        for i in range(outputs):
            form = np.zeros((outputs, outputs))
            form[i, i] = 1.0
            sigma = np.sqrt(np.diag(covariance(form, matrix, scale)))
            columns = {"power": part(form, scale), "sigma": sigma}
            columns |= {name: values[i] for name, values in of_parts.items()}
            rows.append(
                {"scale": np.full(len(sigma), scale.name), "output": np.full(len(sigma), i + 1)}
                | {"frequency": scale.frequency}
                | {name: values / found.white_of_difference for name, values in columns.items()}
            )
    return _joined(rows)


def _common(found: Found) -> Table:
    rows: list[dict[str, Any]] = []
    form = Linear.of(found.parts.gains).common
    seen = shares(found.parts, found.spectra, found.responses)
    matrices = model(found.parts, found.spectra, found.responses)
    for scale, matrix, of_parts in list(zip(found.spectra.scales, matrices, seen, strict=True))[:2]:
        columns = {
            "power": part(form, scale),
            "sigma": np.sqrt(np.diag(covariance(form, matrix, scale))),
            "model": of_parts["common"][0] / found.parts.gains[0] ** 2,
        }
        rows.append(
            {"scale": np.full(len(scale.frequency), scale.name), "frequency": scale.frequency}
            | {name: values / found.white_of_difference for name, values in columns.items()}
        )
    return _joined(rows)


def _coherence(reference: Reference) -> Table:
    n = len(reference.frequency)
    return _joined(
        [
            {
                "output": np.full(n, i + 1),
                "frequency": reference.frequency,
                "coherence": reference.coherence[i],
                "sigma": reference.sigma[i],
                "power": reference.power[i],
                "remaining": reference.remaining[i],
            }
            for i in range(len(reference.coherence))
        ]
    )


def _weights(found: Found) -> Table:
    assert found.reference is not None
    weights, n = found.reference.weights, len(found.reference.frequency)
    return _joined(
        [
            {
                "output": np.full(n, i + 1),
                "stream": np.full(n, name),
                "frequency": found.reference.frequency,
                "real": weights[i, s].real,
                "imaginary": weights[i, s].imag,
            }
            for i in range(len(weights))
            for s, name in enumerate(found.streams)
        ]
    )


def _joined(rows: Sequence[dict[str, Any]]) -> Table:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


CLOCK = ("rows", "cols", "outputs", "pixel_time", "row_overhead", "alternate", "fast", "slow")


def clock_table(clock: Clock, border: Border) -> Table:
    """The clock of the array and its border in the order of readout, in one line."""
    values: dict[str, Any] = {name: getattr(clock, name) for name in CLOCK}
    values |= {"overhead_rows": clock.frame_overhead[0], "overhead_ticks": clock.frame_overhead[1]}
    values |= {f"border_{side}": number for side, number in border._asdict().items()}
    return {
        name: np.array([value], np.float64 if name == "pixel_time" else np.int64)
        for name, value in values.items()
    }


def clock_of(table: Table) -> tuple[Clock, Border]:
    """The inverse of `clock_table`."""
    line = {name: column[0] for name, column in table.items()}
    facts = {name: int(line[name]) for name in CLOCK if name not in ("pixel_time", "alternate")}
    clock = Clock(
        **facts,
        pixel_time=float(line["pixel_time"]),
        alternate=bool(line["alternate"]),
        frame_overhead=(int(line["overhead_rows"]), int(line["overhead_ticks"])),
    )
    return clock, Border(*(int(line[f"border_{side}"]) for side in Border._fields))
