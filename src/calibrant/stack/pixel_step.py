"""PixelStep: what one effect does to each pixel on its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError, ShapeError, UnitError
from calibrant.frame import DQ, Applied

Operand = NDArray[Any] | float
PLANE_NAMES = ("offset", "offset_variance", "divisor", "divisor_variance", "read_noise", "dq")
"""Fields of a step that may hold a plane."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A correction that depends on the value itself, for each amplifier: ``data += table(data)``.

    The table is linear between its nodes and held constant outside them: what was not measured is not
    extrapolated. Errors are propagated: ``variance *= (1 + slope)**2``, with slope 0 outside.

    Parameters
    ----------
    table : ndarray
        float32, (amplifiers, nodes), at least two nodes; in the unit of the data. Node k of amplifier a is
        at ``start[a] + k * spacing[a]``.
    start, spacing : ndarray
        float32, (amplifiers,), in the unit of the data.
    low, high : ndarray
        float32, (amplifiers,): values below `low` or above `high` are flagged; NaN and infinity are no limit.
    index : ndarray or int
        Amplifier of each pixel: uint8, (rows, cols) or a shape that broadcasts to it; or one for all pixels.
    flag : DQ
        For values outside the limits.
    saturation : ndarray, optional
        float32, (amplifiers,): values that reach it are flagged SATURATED; NaN is no limit.

    Raises
    ------
    ShapeError
        If the arrays do not belong together.
    OptionError
        If a spacing is not positive, or the index names an amplifier without a curve.
    """

    table: NDArray[np.float32]
    start: NDArray[np.float32]
    spacing: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    index: NDArray[np.uint8] | int = 0
    flag: DQ = DQ.NONLINEAR
    saturation: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.table.ndim != 2 or self.table.shape[1] < 2:
            raise ShapeError(
                "a curve is a table of at least two nodes for each amplifier",
                expected="(amplifiers, nodes)",
                got=self.table.shape,
            )
        for name in ("start", "spacing", "low", "high", "saturation"):
            given = getattr(self, name)
            if given is not None and np.shape(given) != self.table.shape[:1]:
                raise ShapeError(
                    f"a curve has one {name} for each amplifier",
                    expected=self.table.shape[:1],
                    got=np.shape(getattr(self, name)),
                )
        if not (
            np.isfinite(self.start).all() and np.isfinite(self.spacing).all() and (self.spacing > 0).all()
        ):
            raise OptionError("the nodes of a curve must ascend", expected="finite starts, spacings above 0")
        if np.asarray(self.index).dtype.kind not in "iu":
            raise OptionError(
                "amplifiers are counted in integers", expected="uint8", got=np.asarray(self.index).dtype
            )
        if np.min(self.index) < 0 or np.max(self.index) >= min(len(self.table), 256):
            raise OptionError(
                "a pixel belongs to an amplifier that has no curve",
                expected=f"0 to {min(len(self.table), 256) - 1}",
                got=f"{np.min(self.index)} to {np.max(self.index)}",
            )


@dataclass(frozen=True, eq=False)
class PixelStep:
    """What one effect does to each pixel on its own, in this order.

    1. `saturation`: values that reach it are flagged SATURATED.
       Then `curve`: data += table(data); variance and systematic *= (1 + slope)**2.
    2. `offset`: data -= offset * offset_factor; systematic += offset_variance * offset_factor**2.
    3. `read_noise`, `gain`: variance += read_noise**2 + max(data, 0) / gain.
    4. `divisor`: data /= divisor; variance /= divisor**2;
       systematic = (systematic + data**2 * divisor_variance) / divisor**2, with the divided data.
    5. `scale`: data *= scale; variance and systematic *= scale**2.
    6. `dq`: its bits are added.

    Planes broadcast to the image: (rows, cols), (rows, 1), (1, cols), (cols,), or plain numbers.

    Parameters
    ----------
    effect : str
        Name of the effect, for the history.
    product : str, optional
        Identity of the product that the planes come from.
    offset, offset_variance : array or float, optional
        In the unit of the data per unit of `offset_factor`, and that squared.
    offset_factor : float
        For example the dark time, where the offset is a rate.
    divisor, divisor_variance : array or float, optional
        Dimensionless for a flat. Where the divisor is zero or not a number, the data become NaN and are
        flagged DO_NOT_USE and `divisor_flag`.
    scale : float
        For example the gain in e-/adu.
    read_noise : array or float, optional
        In adu.
    gain : float, optional
        In e-/adu, for the photon noise of data that are bias-subtracted at this point.
    dq : array, optional
        Integer flags of `DQ`.
    saturation : float, optional
        In the unit of the data before the step.
    curve : Curve, optional
        In the unit of the data before the step.
    unit, requires_unit : str, optional
        Unit after the step (None: unchanged), and the unit that the data must have before it (None: any;
        steps with `read_noise` or `gain` always need ``adu``).
    options, note : mapping, str
        For the history.

    Raises
    ------
    OptionError
        If a number has no meaning: a gain or scale that is not positive, a variance without its plane.
    ShapeError
        If a plane has more than two axes.
    """

    effect: str
    product: str | None = None
    offset: Operand | None = None
    offset_factor: float = 1.0
    offset_variance: Operand | None = None
    divisor: Operand | None = None
    divisor_variance: Operand | None = None
    scale: float = 1.0
    read_noise: Operand | None = None
    gain: float | None = None
    dq: NDArray[Any] | None = None
    saturation: float | None = None
    curve: Curve | None = None
    unit: str | None = None
    requires_unit: str | None = None
    divisor_flag: DQ = DQ.NO_FLAT_FIELD
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if self.gain is not None and not (math.isfinite(self.gain) and self.gain > 0):
            raise OptionError("the gain must be a positive number", where=self.effect, got=self.gain)
        if not (math.isfinite(self.scale) and self.scale != 0):
            raise OptionError("the scale must be a number other than 0", where=self.effect, got=self.scale)
        if not math.isfinite(self.offset_factor):
            raise OptionError("the offset factor must be a number", where=self.effect, got=self.offset_factor)
        for name in ("offset", "divisor"):
            if getattr(self, f"{name}_variance") is not None and getattr(self, name) is None:
                raise OptionError(
                    f"{name}_variance was given without {name}", where=self.effect, do=f"give the {name} too"
                )
        if self.dq is not None and self.dq.dtype.kind not in "iu":
            raise OptionError(
                "flags must be integers", where=self.effect, expected="uint32", got=self.dq.dtype
            )

    @property
    def makes_variance(self) -> bool:
        """Whether the step adds independent noise."""
        return self.read_noise is not None or self.gain is not None

    @property
    def makes_systematic(self) -> bool:
        """Whether the step carries the variance of a calibration."""
        return self.offset_variance is not None or self.divisor_variance is not None

    @property
    def applied(self) -> Applied:
        """The line that the step leaves in a frame's history."""
        return Applied(self.effect, self.product, self.options, self.note)

    def check_shape(self, shape: tuple[int, ...], name: str) -> None:
        """See that every plane broadcasts to an image of `shape` (rows, cols).

        Raises
        ------
        ShapeError
            Naming the image `name`, the effect and the plane.
        """
        planes = {field_name: getattr(self, field_name) for field_name in PLANE_NAMES}
        planes["curve"] = None if self.curve is None else self.curve.index
        for field_name, plane in planes.items():
            own = np.shape(0.0 if plane is None else plane)
            fits = len(own) <= 2 and all(a in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False))
            if not fits:
                raise ShapeError(
                    f"the {field_name.replace('_', ' ')} of step {self.effect!r} does not fit the image",
                    where=name,
                    expected=shape,
                    got=own,
                    do="use a calibration of the same section and binning",
                )

    def unit_after(self, unit: str, name: str) -> str:
        """Unit of data in `unit` after the step.

        Raises
        ------
        UnitError
            If the step cannot be done to data in `unit`; names the image `name` and the effect.
        """
        required = "adu" if self.makes_variance else self.requires_unit
        if required is not None and unit != required:
            raise UnitError(
                f"step {self.effect!r} cannot be applied to data in this unit",
                where=name,
                expected=required,
                got=unit or "no unit",
                do=f"give data in {required}, or put the step before the one that changes the unit",
            )
        return unit if self.unit is None else self.unit
