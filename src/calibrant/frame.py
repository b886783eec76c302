"""Frame, DQ and Exposure: an image with its errors, its flags, and the facts of how it was taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import IntFlag
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import HistoryError, ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MICROSECOND = 1_000_000  # per second


class DQ(IntFlag):
    """Data-quality bits: the value table of the JWST pipeline, so that its files and ours agree."""

    DO_NOT_USE = 1 << 0
    SATURATED = 1 << 1
    JUMP_DET = 1 << 2
    DROPOUT = 1 << 3
    OUTLIER = 1 << 4
    PERSISTENCE = 1 << 5
    AD_FLOOR = 1 << 6
    CHARGELOSS = 1 << 7
    RESERVED = 1 << 8
    NON_SCIENCE = 1 << 9
    DEAD = 1 << 10
    HOT = 1 << 11
    WARM = 1 << 12
    LOW_QE = 1 << 13
    RC = 1 << 14
    TELEGRAPH = 1 << 15
    NONLINEAR = 1 << 16
    BAD_REF_PIXEL = 1 << 17
    NO_FLAT_FIELD = 1 << 18
    NO_GAIN_VALUE = 1 << 19
    NO_LIN_CORR = 1 << 20
    NO_SAT_CHECK = 1 << 21
    UNRELIABLE_BIAS = 1 << 22
    UNRELIABLE_DARK = 1 << 23
    UNRELIABLE_SLOPE = 1 << 24
    UNRELIABLE_FLAT = 1 << 25
    OPEN = 1 << 26
    ADJ_OPEN = 1 << 27
    FLUX_ESTIMATED = 1 << 28
    MSA_FAILED_OPEN = 1 << 29
    OTHER_BAD_PIXEL = 1 << 30
    REFERENCE_PIXEL = 1 << 31

    @property
    def sentence(self) -> str:
        """What a single bit means, in one sentence."""
        return _DQ_SENTENCES[self]

    @classmethod
    def names(cls, value: int) -> tuple[str, ...]:
        """Names of the bits that are set in `value`, lowest first."""
        return tuple(bit.name or "" for bit in cls if value & bit)


_DQ_SENTENCES: dict[DQ, str] = {
    DQ.DO_NOT_USE: "The value must not be used.",
    DQ.SATURATED: "The pixel reached saturation during the exposure.",
    DQ.JUMP_DET: "A jump was found: a cosmic ray hit the pixel.",
    DQ.DROPOUT: "Data were lost in transmission.",
    DQ.OUTLIER: "Rejected as an outlier against other exposures.",
    DQ.PERSISTENCE: "Light of an earlier exposure persists here.",
    DQ.AD_FLOOR: "The value lies at the floor of the converter.",
    DQ.CHARGELOSS: "Charge was lost to neighbouring pixels.",
    DQ.RESERVED: "Reserved.",
    DQ.NON_SCIENCE: "The pixel holds no science data.",
    DQ.DEAD: "The pixel does not respond to light.",
    DQ.HOT: "The dark current is very high.",
    DQ.WARM: "The dark current is high.",
    DQ.LOW_QE: "The quantum efficiency is low.",
    DQ.RC: "The pixel responds with a resistor-capacitor lag.",
    DQ.TELEGRAPH: "The dark level jumps between two values.",
    DQ.NONLINEAR: "The response is not linear here.",
    DQ.BAD_REF_PIXEL: "A reference pixel that cannot be trusted.",
    DQ.NO_FLAT_FIELD: "No flat field was measured here.",
    DQ.NO_GAIN_VALUE: "No gain was measured here.",
    DQ.NO_LIN_CORR: "No linearity correction is available here.",
    DQ.NO_SAT_CHECK: "Saturation was not checked here.",
    DQ.UNRELIABLE_BIAS: "The bias is uncertain here.",
    DQ.UNRELIABLE_DARK: "The dark is uncertain here.",
    DQ.UNRELIABLE_SLOPE: "The slope is uncertain here.",
    DQ.UNRELIABLE_FLAT: "The flat is uncertain here, or was held at its floor.",
    DQ.OPEN: "The pixel is not connected.",
    DQ.ADJ_OPEN: "A neighbour is not connected.",
    DQ.FLUX_ESTIMATED: "The value was estimated from neighbours.",
    DQ.MSA_FAILED_OPEN: "Light of a shutter that failed open falls here.",
    DQ.OTHER_BAD_PIXEL: "The pixel is bad in another way, such as noise.",
    DQ.REFERENCE_PIXEL: "A reference pixel, blind to light.",
}

NO_DATA = DQ.DO_NOT_USE | DQ.NON_SCIENCE
"""A pixel without any good value."""


@dataclass(frozen=True)
class Exposure:
    """The facts of one exposure, translated from its header by the instrument's rules.

    Attributes
    ----------
    kind : str
        What it is: ``bias``, ``dark``, ``flat``, ``light``, ``arc``, ...; ``unknown`` if no rule says.
    start : int or None
        Begin of the exposure, microseconds since 1970 UTC without leap seconds.
    duration, dark_time : float or None
        Time of exposure, and of collecting dark current, in seconds.
    temperature : float or None
        Of the detector, in degrees Celsius.
    gain, read_noise, saturation : float or None
        As the header states them: e-/adu, e-, adu.
    binning : tuple of int
        Rows, columns.
    shape : tuple of int
        Of the raw image, rows x cols.
    applied : frozenset of str
        What was already done to the pixels before they reached us, e.g. ``dark``.
    keys : mapping
        Free facts that the instrument file names.
    """

    kind: str = "unknown"
    start: int | None = None
    duration: float | None = None
    dark_time: float | None = None
    temperature: float | None = None
    filter: str | None = None
    mode: str | None = None
    gain_setting: str | None = None
    offset_setting: str | None = None
    binning: tuple[int, int] = (1, 1)
    detector: str = "0"
    instrument: str = ""
    campaign: str | None = None
    identifier: str | None = None
    object: str | None = None
    shape: tuple[int, ...] = ()
    unit: str = "adu"
    gain: float | None = None
    read_noise: float | None = None
    saturation: float | None = None
    applied: frozenset[str] = frozenset()
    keys: Mapping[str, Any] = field(default_factory=dict)
    path: str | None = None

    @property
    def mid(self) -> int | None:
        """Middle of the exposure, microseconds since 1970 UTC; the start where no duration is known."""
        if self.start is None:
            return None
        return self.start + round((self.duration or 0.0) * MICROSECOND / 2)

    @property
    def time(self) -> str | None:
        """Begin as ISO 8601 text in UTC."""
        return None if self.start is None else iso_time(self.start)

    def get(self, name: str) -> Any:
        """One fact by name: an attribute, a computed one, or a free key of the instrument; None if unknown.

        ``exptime`` is accepted for ``duration``.
        """
        name = {"exptime": "duration", "exposure": "duration", "darktime": "dark_time"}.get(name, name)
        return self.keys[name] if name in self.keys else getattr(self, name, None)


def iso_time(microseconds: int) -> str:
    """ISO 8601 text, UTC, of microseconds since 1970."""
    whole, rest = divmod(microseconds, MICROSECOND)
    stamp = datetime.fromtimestamp(whole, UTC).replace(microsecond=rest)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Applied:
    """One line of a frame's history: an effect, the product it used, and its options."""

    effect: str
    product: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@runtime_checkable
class Lazy(Protocol):
    """A plane that is still in its file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As of the array that `load` gives."""
        ...

    def load(self) -> NDArray[Any]:
        """Read the whole plane as an array in native byte order."""
        ...


Plane = NDArray[Any] | Lazy


@dataclass(frozen=True, eq=False)
class Frame:
    """An image with what is known of its errors and flags. ``None`` means unknown, never zero.

    Attributes
    ----------
    data : array or Lazy
        float32 once loaded; (rows, cols), (reads, rows, cols) or (ints, reads, rows, cols), in `unit`.
    variance : array or None
        Independent variance (averages down), float32, shape of data, unit squared.
    systematic : array or None
        Variance of the calibrations that were applied (does not average down), same shape and unit.
    dq : array or None
        uint32 bits of `DQ`, (rows, cols).
    unit : str
        ``adu``, ``electron``, ``adu/s``, ``electron/s`` or ``""``.
    history : tuple of Applied
        The effects done by us, in order.
    header : str or None
        The original cards (80 characters each), carried untouched and never consulted by physics.
    systematic_from : frozenset of str
        Identities of the products whose variance is in `systematic`.
    read_dq : array or None
        uint8 flags of single reads, for ramps.
    extra : mapping
        Further planes of the same shape by name: ``count``, ``low``, ``high`` of a combination ...
    """

    data: Plane
    variance: Plane | None = None
    systematic: Plane | None = None
    dq: Plane | None = None
    unit: str = "adu"
    exposure: Exposure = field(default_factory=Exposure)
    history: tuple[Applied, ...] = ()
    header: str | None = None
    systematic_from: frozenset[str] = frozenset()
    read_dq: Plane | None = None
    extra: Mapping[str, Plane] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("variance", "systematic"):
            plane = getattr(self, name)
            if plane is not None and plane.shape != self.data.shape:
                raise ShapeError(
                    f"the {name} plane does not fit the data", expected=self.data.shape, got=plane.shape
                )
        if self.dq is not None and self.dq.shape != self.data.shape[-2:]:
            raise ShapeError(
                "the dq plane does not fit the data", expected=self.data.shape[-2:], got=self.dq.shape
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the data."""
        return self.data.shape

    @property
    def name(self) -> str:
        """A word for the frame in messages: its file, else its identifier, else "frame in memory"."""
        return self.exposure.path or self.exposure.identifier or "frame in memory"

    def load(self) -> Frame:
        """The same frame with every plane in memory: data and errors float32, dq uint32."""
        return replace(
            self,
            data=_loaded(self.data, np.float32),
            variance=None if self.variance is None else _loaded(self.variance, np.float32),
            systematic=None if self.systematic is None else _loaded(self.systematic, np.float32),
            dq=None if self.dq is None else _loaded(self.dq, np.uint32),
            read_dq=None if self.read_dq is None else _loaded(self.read_dq, np.uint8),
            extra={name: _loaded(plane, None) for name, plane in self.extra.items()},
        )

    def did(self, effect: str) -> bool:
        """Whether `effect` was applied, by us or before the file was written."""
        return effect in self.exposure.applied or any(step.effect == effect for step in self.history)

    def require(self, effect: str, *, needs: Iterable[str] = (), forbids: Iterable[str] = ()) -> None:
        """Check the history before `effect` is applied.

        Raises
        ------
        HistoryError
            If one of `needs` is missing, one of `forbids` was done, or the effect itself was done already.
        """
        for step in needs:
            if not self.did(step):
                raise HistoryError(
                    f"{effect} needs {step} to be applied first",
                    where=self.name,
                    do=f"apply {step} before {effect}",
                )
        for step in (effect, *forbids):
            if self.did(step):
                raise HistoryError(
                    f"{effect} cannot be applied because {step} was applied already",
                    where=self.name,
                    do="use the frame as it is, or start from the raw file",
                )

    def after(self, *steps: Applied, **changes: Any) -> Frame:
        """A copy with `changes` to its planes and `steps` added to its history."""
        return replace(self, history=self.history + steps, **changes)

    def show(self, **options: Any) -> Figure:
        """Draw the frame; options as of `calibrant.report.plots.image`."""
        from calibrant.report.plots import image

        return image(self, **options)

    def _repr_html_(self) -> str:
        """How a notebook shows the frame: a small picture, its facts and numbers."""
        from calibrant.report.plots import frame_html

        return frame_html(self)

    def to_ccddata(self) -> Any:
        """The frame as an `astropy.nddata.CCDData` (variance and systematic added, mask = any dq bit)."""
        from calibrant.files.interchange import to_ccddata

        return to_ccddata(self)

    @classmethod
    def from_ccddata(cls, ccd: Any) -> Frame:
        """A frame made of an `astropy.nddata.CCDData`."""
        from calibrant.files.interchange import from_ccddata

        return from_ccddata(ccd)


def _loaded(plane: Plane, dtype: type[np.generic] | None) -> NDArray[Any]:
    array = plane if isinstance(plane, np.ndarray) else plane.load()
    return array if dtype is None else np.ascontiguousarray(array, dtype=dtype)
