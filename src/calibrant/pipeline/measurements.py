"""The measurements that can be made of a folder: on which frames, with which masters, by which effect."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from calibrant.effects import (
    amplifier_offsets,
    bad_pixels,
    brighter_fatter,
    charge_transfer,
    crosstalk,
    dark_library,
    dark_ramp,
    dark_slope,
    defects,
    flat_structure,
    fringe_frame,
    gain,
    illumination,
    linearity,
    one_over_f,
    ramp,
    ramp_linearity,
    read_noise,
    reference_pixels,
    sky_flat,
    superbias,
)
from calibrant.effects._bad_pixels_kinds import Limits as BadPixels
from calibrant.effects._crosstalk_fit import Choice as CrosstalkChoice
from calibrant.effects._fringe_fit import Boxes
from calibrant.effects._gain_curve import Options as GainOptions
from calibrant.effects._ramp_noise import Method
from calibrant.effects._ramp_noise import Options as RampNoise
from calibrant.effects._sky_sources import Search
from calibrant.effects._sky_surface import Form
from calibrant.errors import OptionError
from calibrant.exposures import Exposures
from calibrant.files.jwst_reference import write_readnoise
from calibrant.frame import DQ, Exposure
from calibrant.pipeline.measurements_slices import SLICED, Sliced
from calibrant.product import Product
from calibrant.stack.pixel import PixelStep

Progress = Callable[[int, int, str], None]
PATTERN = ("detector", "readpatt", "nframes", "subarray")
"""Facts of ramps that are not measured together."""
RAMPS = ("duration", "groups", "integrations", "temperature")
"""Facts that may differ among the ramps of one measurement."""
UNLIT = np.uint32(DQ.NO_FLAT_FIELD | DQ.UNRELIABLE_FLAT)
DARK_PART = 0.01  # of a flat: more is told where defects are looked for


@dataclass(frozen=True)
class Measurement:
    """One thing that is measured.

    Attributes
    ----------
    name, title : str
        On the command line, and in a sentence.
    measure : callable
        ``measure(exposures, products=..., **options, **engine) -> Product``.
    takes : tuple of callable
        Whose parameters are its options; `measure` alone if empty.
    of : tuple of str
        Kinds of exposures.
    masters : tuple of str
        Kinds of masters that are handed to it, where the folder has them.
    after : tuple of str
        Measurements of the same frames that are made before and handed to it.
    corrected : tuple of str
        Measurements of the same frames that correct their pixels before, where they can be made.
    prepared : bool
        Whether the overscan is taken off and the amplifiers are put together.
    mixes : tuple of str
        Facts that may differ among the frames of one measurement; ``time``: whatever lies between them.
    across : bool
        One measurement of all detectors and filters, made of all masters of the kinds in `masters`.
    told_by : tuple of str
        Facts that tell groups of frames apart, where the instrument does not name its own for the kind; those
        of flats, or darks, if there are none.
    beside : mapping
        Ending -> ``write(product, path, overwrite=...)`` of files that are written beside the product.
    history : callable or None
        ``history(products) -> Product`` of the products of all epochs, where a detector has several.
    """

    name: str
    title: str
    measure: Callable[..., Product]
    of: tuple[str, ...] = ("flat",)
    masters: tuple[str, ...] = ("bias",)
    after: tuple[str, ...] = ()
    corrected: tuple[str, ...] = ()
    prepared: bool = True
    mixes: tuple[str, ...] = ("exptime", "darktime")
    across: bool = False
    takes: tuple[Callable[..., Any], ...] = ()
    told_by: tuple[str, ...] = ()
    beside: Mapping[str, Callable[..., None]] = field(default_factory=dict)
    history: Callable[[Sequence[Product]], Product] | None = None

    @property
    def like(self) -> str:
        """Kind of calibration whose settings tell its frames apart."""
        return "dark" if self.of == ("dark",) else "flat"

    @property
    def kind(self) -> str:
        """Of its product."""
        return self.name.replace("-", "_")

    @property
    def options(self) -> tuple[Callable[..., Any], ...]:
        """Whose parameters are its options."""
        return self.takes or (self.measure,)


def of_ramps(name: str, title: str, measure: Callable[..., Product], **more: Any) -> Measurement:
    """A measurement of ramps in the dark: reads as they are, no masters, each read pattern for itself."""
    facts: dict[str, Any] = {"of": ("dark",), "masters": (), "prepared": False, "told_by": PATTERN}
    return Measurement(name, title, measure, **{"mixes": (*Measurement.mixes, *RAMPS), **facts, **more})


def _read_noise(
    exposures: Exposures, *, method: Method = "stack", products: Mapping[str, Product], **options: Any
) -> Product:
    """Of ramps."""
    return read_noise.measure(exposures, method=method, products=products, **options)


def _ramp(
    exposures: Exposures,
    *,
    gain: float | None = None,
    read_noise: float | None = None,
    saturation: float | None = None,
    thresholds: tuple[float, float] | None = (20.25, 23.8),
    method: Literal["optimal", "fixsen"] = "optimal",
    products: Mapping[str, Product],
    **engine: Any,
) -> Product:
    """Of one exposure."""
    return ramp.measure(
        exposures, products=products, gain=gain, read_noise=read_noise, saturation=saturation,
        thresholds=thresholds, method=method, **engine,
    )  # fmt: skip


def _defects(exposures: Exposures, **options: Any) -> Product:
    """Defects are found on the masters of the frames, not on the frames."""
    del exposures
    found = defects.measure(**options)
    flat = options["products"].get("flat")
    unknown = 0.0 if flat is None else float(np.mean((flat.planes["dq"] & UNLIT) != 0))
    if unknown < DARK_PART:
        return found
    note = (
        f"{100 * unknown:.3g} % of the flat tells no response, unlit or dead as a whole: no dead pixel was "
        "looked for there; what is divided by this flat is flagged UNRELIABLE_FLAT or NO_FLAT_FIELD"
    )
    told = replace(found.provenance, notes=(*found.provenance.notes, note))
    return replace(found, provenance=told)


def _flat_structure(
    exposures: Exposures,
    *,
    products: Mapping[str, Iterable[Product]],
    progress: Progress | None = None,
    runner: Any = None,
    budget: str | int = "",
    threshold: float = 5.0,
) -> Product:
    """Of the master flats, with the darks to tell charge from light."""
    del runner, budget
    darks = {str(dark.keys.get("detector", "")): dark for dark in products["dark"]}
    return flat_structure.measure(
        products["flat"], instrument=exposures.instrument, darks=darks, threshold=threshold, progress=progress
    )


MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement(
        "gain", "the gain", gain.measure, corrected=("linearity",), takes=(gain.measure, GainOptions)
    ),
    Measurement(
        "linearity", "the linearity", linearity.measure, takes=(linearity.measure, linearity._Options)
    ),
    Measurement(
        "crosstalk",
        "crosstalk",
        crosstalk.measure,
        of=("light",),
        takes=(crosstalk.measure, CrosstalkChoice),
    ),
    Measurement(
        "charge-transfer", "the charge transfer", charge_transfer.measure, masters=(), prepared=False
    ),
    Measurement("brighter-fatter", "the brighter-fatter effect", brighter_fatter.measure, after=("gain",)),
    Measurement(
        "amplifier-offsets",
        "the offsets of amplifiers",
        amplifier_offsets.measure,
        of=("flat", "light"),
        masters=("bias",),
        mixes=("exptime", "darktime", "filter"),
        takes=(amplifier_offsets.measure, amplifier_offsets._Options),
    ),
    Measurement(
        "sky-flat",
        "the flat of the sky",
        sky_flat.measure,
        of=("light",),
        masters=("bias", "dark"),
        takes=(sky_flat.measure, Search),
    ),
    Measurement(
        "illumination",
        "the illumination",
        illumination.measure,
        of=("light",),
        masters=("bias", "dark", "flat"),
        takes=(illumination.measure, Search, Form),
    ),
    Measurement(
        "fringe-frame",
        "the fringes",
        fringe_frame.measure,
        of=("light",),
        masters=("bias", "dark", "flat"),
        takes=(fringe_frame.measure, Search, Boxes),
    ),
    Measurement(
        "defects",
        "defects",
        _defects,
        masters=("bias", "dark", "flat"),
        takes=(defects.measure, defects.Limits),
    ),
    Measurement(
        "dark-library",
        "the library of darks",
        dark_library.measure,
        of=("dark",),
        mixes=("exptime", "darktime", "temperature", "time"),
    ),
    Measurement(
        "flat-structure", "the structure of flats", _flat_structure, masters=("dark", "flat"), across=True
    ),
    of_ramps(
        "read-noise",
        "the read noise",
        _read_noise,
        takes=(_read_noise, RampNoise),
        beside={"reference": write_readnoise},
        history=read_noise.trend,
    ),
    of_ramps(
        "ramp",
        "the slopes of ramps",
        _ramp,
        of=("dark", "flat", "light"),
        told_by=("detector", "path"),  # each exposure for itself: what they show is not the same light
    ),
    of_ramps("superbias", "the superbias", superbias.measure),
    of_ramps("dark-ramp", "the dark ramp", dark_ramp.measure),
    of_ramps("ramp-linearity", "the linearity of pixels", ramp_linearity.measure, of=("flat",)),
    of_ramps("one-over-f", "1/f noise", one_over_f.measure),
    of_ramps(
        "reference-pixels",
        "the stability of reference pixels",
        reference_pixels.measure,
        history=reference_pixels.history,
    ),
    of_ramps("dark-slope", "the dark slope", dark_slope.measure, history=dark_slope.history),
    of_ramps(
        "bad-pixels",
        "bad pixels",
        bad_pixels.measure,
        of=("dark", "flat"),
        told_by=("detector", "subarray"),
        takes=(bad_pixels.measure, BadPixels),
    ),
)

CORRECT: Mapping[str, Callable[[Product], Callable[[Exposure], PixelStep]]] = {
    "linearity": lambda product: lambda exposure: linearity.step(exposure, product),
}
"""Kind of product -> the step of `Exposures.through` that corrects pixels with it."""


def find(name: str) -> Measurement | Sliced:
    """A measurement by its name, ``charge-transfer`` as well as ``charge_transfer``.

    Raises
    ------
    OptionError
        If there is none; the nearest spelling is named.
    """
    known: dict[str, Measurement | Sliced] = {one.name: one for one in MEASUREMENTS}
    known |= {one.name: one for one in SLICED}
    word = name.replace("_", "-")
    if word in known:
        return known[word]
    near = difflib.get_close_matches(word, known, 1)
    raise OptionError(
        f"nothing is called {name!r} that can be measured",
        expected=", ".join(known),
        do=f"did you mean {near[0]!r}?" if near else None,
    )
