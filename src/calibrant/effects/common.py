"""What the makers of masters share: checks of input, noise of a frame, keys and provenance of the product."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._input import check_kinds, check_units, with_values, without_copies
from calibrant.effects._steps import check_kind, name_of
from calibrant.errors import HistoryError, OptionError, SelectionError, ShapeError
from calibrant.exposures import Exposures
from calibrant.frame import DQ, NO_DATA, Exposure, Frame
from calibrant.product import Product, Provenance
from calibrant.stack.combine import combine
from calibrant.stack.reject import CCDClip, Rejection, SigmaClip
from calibrant.stack.source import Source

Progress = Callable[[int, int, str], None]

MATCH: Mapping[str, tuple[str, ...]] = {
    "bias": ("detector", "binning", "mode", "gain_setting", "offset_setting"),
    "dark": ("detector", "binning", "mode", "gain_setting", "offset_setting", "temperature"),
    "flat": ("detector", "binning", "mode", "filter"),
}
"""Settings that the frames of one master share, where the instrument does not name its own."""

ADVISED: Mapping[str, int] = {"bias": 10, "dark": 5, "flat": 5}
"""Frames that a master should have; fewer are a note, not an error."""

FEW = 12
"""Below this number of frames the scatter cannot show an outlier, and the noise model sets the limits."""

NOISE_LIMIT = 5.0
"""Sigmas about the median for limits from the noise model: normal noise loses 6e-7 of its values."""


@runtime_checkable
class Wrapping(Protocol):
    """A step of `Exposures.through` that wraps sources, as overscan does."""

    def wrap(self, source: Source, exposure: Exposure) -> Source:
        """The source of the prepared pixels."""
        ...


TIMES = frozenset({"exptime", "darktime", "duration", "dark_time", "exposure"})


# --- the input --------------------------------------------------------------------------------------------


def begin(
    exposures: Exposures,
    kind: str,
    *,
    forbids: Collection[str] = (),
    units: Collection[str] = ("adu",),
    of_kind: bool = False,
    notes: list[str] | None = None,
) -> Exposures:
    """Check the exposures of a master, and put them in order of time.

    Parameters
    ----------
    exposures : Exposures
    kind : str
        Of the master: its match keys must agree among the exposures (times excepted).
    forbids : collection of str
        Effects that must not have been applied to the pixels.
    units : collection of str
        Units that the raw pixels may be in, one for all.
    of_kind : bool
        Whether exposures of another kind are refused; those of unknown kind are taken at the caller's word.
    notes : list of str, optional
        If given, frames without any good pixel and constant ones are left out, and a sentence is added here.

    Raises
    ------
    SelectionError
        No exposures, mixed settings or kinds, a file given twice, or no frame with good pixels; the files are
        named.
    ShapeError
        Images of several sizes.
    UnitError
        A unit that cannot be used, or several.
    HistoryError
        If a forbidden effect was applied already.
    """
    if len(exposures) == 0:
        raise SelectionError(f"there are no exposures to make a {kind} of", do="check the selection")
    if of_kind:
        check_kinds(exposures, kind)
    _ = exposures.shape  # refuses mixed sizes
    for key in match_keys(exposures, kind):
        if key not in TIMES:
            exposures.one(key)
    check_units(exposures, units)
    if notes is not None:
        exposures = with_values(exposures, kind, notes)
    exposures = without_copies(exposures, kind, notes)
    for exposure in exposures:
        for effect in sorted(set(forbids) & exposure.applied):
            raise HistoryError(
                f"a {kind} cannot be made of frames that had their {effect} removed",
                where=name_of(exposure),
                do="leave the frame out",
            )
    for effect in sorted(set(forbids) & done_by_steps(exposures)):
        raise HistoryError(
            f"a {kind} cannot be made of frames that come through a step of {effect}",
            do="give its product to measure, or the frames as they are",
        )
    if any(exposure.start is None for exposure in exposures):
        return exposures
    return exposures.sort("start")


def done_by_steps(exposures: Exposures) -> frozenset[str]:
    """Names of the effects that prepare the pixels; a dark that holds its bias counts as both."""
    done = set()
    for prepare in exposures.steps:
        if isinstance(prepare, Wrapping):
            done.add(str(getattr(prepare, "effect", "")))
            continue
        step = prepare(exposures[0])
        done |= {step.effect} | ({"bias"} if step.options.get("includes_bias") else set())
    return frozenset(done - {""})


def match_keys(exposures: Exposures, kind: str) -> tuple[str, ...]:
    """Settings that must agree: the instrument's own for the kind, else `MATCH`."""
    if kind == "dark_library":  # of all temperatures
        return tuple(key for key in match_keys(exposures, "dark") if "temperature" not in key)
    return exposures.instrument.match.get(kind) or MATCH[kind]


def typical(values: Sequence[Any]) -> Any:
    """Median of numbers, the most common of anything else; unknown ones count only if all are."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, float) for value in known):
        return float(np.median(known))
    return Counter(values).most_common(1)[0][0]


def bias_for(exposures: Exposures, products: Mapping[str, Product]) -> Product | None:
    """The bias among the products, seen to fit the exposures."""
    bias = products.get("bias")
    if bias is None:
        return None
    check_kind(bias, "bias", "adu")
    size = tuple(exposures.sources()[0].shape)
    if tuple(bias.data.shape) != size:
        raise ShapeError(
            "the bias does not fit the exposures",
            expected=size,
            got=bias.data.shape,
            do="take one of their kind",
        )
    return bias


def label(exposure: Exposure, index: int) -> str:
    """Name of a frame in tables: its file without the folder, else its place in the series."""
    name = exposure.path or exposure.identifier
    return f"frame {index}" if name is None else name.replace("\\", "/").rsplit("/", 1)[-1]


def advice(exposures: Exposures, kind: str) -> list[str]:
    """A sentence if there are fewer frames than a master should have."""
    wanted = exposures.instrument.minimum.get(kind, ADVISED[kind])
    n = len(exposures)
    if n >= wanted:
        return []
    return [f"made of {n} frame{'s' if n > 1 else ''}; at least {wanted} are advised for a {kind}"]


# --- gain, read noise, saturation -------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What is known of the detector beforehand; None where it is not.

    Attributes
    ----------
    gain : float or None
        e-/adu.
    read_noise : float or None
        adu.
    saturation : float or None
        adu, of raw values.
    """

    gain: float | None
    read_noise: float | None
    saturation: float | None


def facts(
    exposures: Exposures,
    products: Mapping[str, Product],
    *,
    gain: float | None = None,
    read_noise: float | None = None,
    saturation: float | None = None,
) -> Facts:
    """Gain, read noise and saturation: as given, else from products, else the nominal ones.

    Parameters
    ----------
    exposures : Exposures
    products : mapping of Product
        ``gain`` with the quantity gain [e-/adu]; ``read_noise`` or ``bias`` with read_noise [adu].
    gain, read_noise, saturation : float, optional
        In e-/adu, adu and adu; before all others.

    Raises
    ------
    OptionError
        If a gain is not positive, or a read noise is negative.
    """
    nominal = exposures.instrument.nominal(exposures[0])
    if gain is None:
        gain = _quantity(products, ("gain",), "gain")
    gain = nominal.gain if gain is None else gain
    if gain is not None and not gain > 0:
        raise OptionError("a gain must be positive", where="gain", expected="> 0 e-/adu", got=gain)
    if read_noise is None:
        read_noise = _quantity(products, ("read_noise", "bias"), "read_noise")
    if read_noise is None and nominal.read_noise is not None and gain is not None:
        read_noise = nominal.read_noise / gain
    if read_noise is not None and not read_noise >= 0:
        raise OptionError(
            "a read noise is a number that is not negative",
            where="read_noise",
            expected=">= 0 adu",
            got=read_noise,
        )
    return Facts(gain, read_noise, nominal.saturation if saturation is None else saturation)


def _quantity(products: Mapping[str, Product], kinds: Sequence[str], name: str) -> float | None:
    """Median over the places of a quantity, from the first product that has it."""
    for kind in kinds:
        if kind in products:
            values = [q.value for q in products[kind] if q.name == name and math.isfinite(q.value)]
            if values:
                return float(np.median(values))
    return None


# --- rejection --------------------------------------------------------------------------------------------


def default_rejection(n: int, *, limit: float = NOISE_LIMIT) -> Rejection | str:
    """The rejection for a master of `n` frames.

    Fewer than three frames cannot say which of them was hit. Up to eleven, limits come from the noise model
    about the median: with its own scatter no value of ten or fewer can be 3 sigma from the mean. From twelve
    frames on the scatter itself sets them, so that noisy pixels are judged by their own noise.
    """
    if n < 3:
        return "none"
    return CCDClip(low=limit, high=limit) if n < FEW else SigmaClip(3.0, centre="median", iterations=5)


@dataclass(frozen=True, eq=False)
class Stacked:
    """The planes of a combination, (rows, cols), as of `calibrant.stack.combine.Combined`."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    propagated: NDArray[np.float32] | None
    scatter: NDArray[np.float32]
    count: NDArray[np.uint16]
    low: NDArray[np.uint16]
    high: NDArray[np.uint16]
    dq: NDArray[np.uint32]


def stack(sources: Sequence[Source], **options: Any) -> Stacked:
    """Combine with all planes; options as of `calibrant.stack.combine.combine`."""
    made = combine(sources, **options)
    planes = {name: getattr(made, name) for name in Stacked.__dataclass_fields__}
    return Stacked(**planes)


def reliable(combined: Stacked, n: int, flag: DQ) -> NDArray[np.uint32]:
    """Flags of a master: no data where nothing was good, `flag` where less than half of the frames were.

    A hit that was rejected from one frame does not flag the master.
    """
    keep = np.uint32(NO_DATA | DQ.SATURATED)
    dq: NDArray[np.uint32] = (combined.dq & keep).astype(np.uint32)
    dq[combined.count * 2 < n] |= np.uint32(flag)
    dq[combined.count == 0] |= np.uint32(NO_DATA)
    return dq


# --- the product ------------------------------------------------------------------------------------------


def product_keys(exposures: Exposures, kind: str, **more: Any) -> dict[str, Any]:
    """What must match before the master may be used: typical values of the match keys, times excepted."""
    keys = {}
    for key in match_keys(exposures, kind):
        value = typical([exposure.get(key) for exposure in exposures])
        if value is not None and key not in TIMES:
            keys[key] = round(value, 3) if isinstance(value, float) else value
    return {**keys, **more}


@dataclass
class Record:
    """Notes and options gathered while a master is made.

    `known`: inputs have the hashes that are known already, as those of gigabytes of ramps should.
    """

    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    known: bool = False

    def provenance(self, effect: str, exposures: Exposures, products: Mapping[str, Product]) -> Provenance:
        """Inputs with hashes, parents, options, versions and notes."""
        parents = [*exposures.parents, *(product.identity for product in products.values())]
        return Provenance(
            effect=effect,
            inputs=tuple(exposures.inputs(known=self.known)),
            parents=tuple(dict.fromkeys(parents)),
            options=dict(self.options),
            versions=versions(),
            created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            notes=tuple(self.notes),
        )


def versions() -> dict[str, str]:
    """Versions of the software whose numbers are in a product."""
    return {"python": platform.python_version(), "numpy": np.__version__, "calibrant": _own_version()}


@cache
def _own_version() -> str:
    """Read from the installation once: every master and frame asks for it."""
    try:
        return version("calibrant")
    except PackageNotFoundError:  # a source tree that was never installed
        return "unknown"


def text(value: Any) -> Any:
    """An option as JSON can hold it: objects by their representation."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


# --- applying ---------------------------------------------------------------------------------------------


def check_fits(frame: Frame, product: Product) -> None:
    """That a master belongs to the detector, binning, mode and filter of a frame, and has its size.

    Keys that the frame does not know are not held against it, and numbers (temperatures) are left to whoever
    selects the master, who knows the tolerances.

    Raises
    ------
    ShapeError, SelectionError
    """
    if tuple(product.data.shape) != tuple(frame.shape[-2:]):
        raise ShapeError(
            f"the {product.kind} does not fit the frame",
            where=frame.name,
            expected=tuple(frame.shape[-2:]),
            got=tuple(product.data.shape),
            do="take one of the same detector and binning",
        )
    check_keys(frame, product)


def check_keys(frame: Frame, product: Product) -> None:
    """The part of `check_fits` that compares keys, for products that hold no image of the detector.

    Raises
    ------
    SelectionError
    """
    for key, wanted in product.keys.items():
        have = frame.exposure.get(key)
        if isinstance(wanted, float) or have is None or key in TIMES or key == "includes_bias":
            continue
        if _listed(have) != _listed(wanted):
            raise SelectionError(
                f"the {product.kind} is of another {key}", where=frame.name, expected=have, got=wanted
            )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, list)) else value


def before(frame: Frame) -> frozenset[str]:
    """Identities of the products that were applied to a frame."""
    return frame.systematic_from | {step.product for step in frame.history if step.product is not None}


def require_bias(frame: Frame, effect: str) -> None:
    """That the zero level of a frame is gone: by a bias, a dark that held it, a pedestal, or in the camera.

    Raises
    ------
    HistoryError
    """
    done = {step.effect for step in frame.history} | frame.exposure.applied
    whole = any(step.options.get("includes_bias") for step in frame.history)
    if not whole and not done & {"bias", "pedestal"} and "dark" not in frame.exposure.applied:
        raise HistoryError(
            f"{effect} needs the bias to be subtracted first",
            where=frame.name,
            do=f"apply the bias before the {effect}",
        )
