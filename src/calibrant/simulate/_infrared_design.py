"""Numbers that describe an infrared array, and the maps that are drawn from them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.errors import OptionError
from calibrant.frame import DQ
from calibrant.instrument.clock import Clock

F4 = NDArray[np.float32]
EachOutput = float | tuple[float, ...]
"""One number for all outputs, or one for each."""

NONE = (
    "white", "pink_own", "pink_common", "alternating", "pedestal", "pedestal_common", "picture_frame", "ktc",
    "telegraph", "telegraph_reference", "cosmic_rate", "ipc", "ipc_diagonal", "bias_pattern",
)  # fmt: skip
"""What `Design.flawless` sets to zero."""


@dataclass(frozen=True)
class Design:
    """An infrared array. PSDs are one-sided, of a single read, in adu^2/Hz at 1 Hz.

    Attributes
    ----------
    clock : Clock
    border : tuple of int
        Reference pixels at the bottom, top, left and right.
    gain : float
        e-/adu.
    white : float or tuple of float
        White noise of a single read of an active pixel, adu, of all outputs or of each.
    reference_ratio : float
        White noise of reference pixels over that of active ones.
    pink_own, pink_common : float or tuple, float
        PSD at 1 Hz of the noise of each output, and of what all outputs share, adu^2/Hz.
    common_gain : float or tuple of float
        By which an output multiplies what all share.
    alternating : float or tuple of float
        The same of noise whose sign alternates from column to column: folded about the Nyquist frequency.
    exponent : float
        PSD = coefficient / f^exponent; 1 is pink.
    low_cut : float
        Hz: the PSDs are coefficient / (f^2 + low_cut^2)^(exponent/2).
    pedestal, pedestal_common, pedestal_time : float
        Level of each output, and of all, which wander from read to read: rms [adu], correlation time [s].
    picture_frame, picture_frame_time : float
        Pattern brighter at the rim, times a wandering number: rms over active pixels and reads [adu], [s].
    ktc : float
        Reset noise, electrons: one draw per pixel and exposure.
    telegraph, telegraph_reference : float
        Fraction of active and of reference pixels that jump between two levels.
    telegraph_amplitude, telegraph_time : float
        Median distance of the levels [adu]; mean stay on one [s].
    cosmic_rate : float
        Particles per active pixel and second.
    pixel_size, thickness : float
        Microns, of what the particles cross.
    ipc, ipc_diagonal : float
        Fraction of its charge that a pixel shows in each of its 4 next, and 4 diagonal, neighbours.
    bias, bias_pattern : float
        Level, and scatter from pixel to pixel that stays from exposure to exposure, adu.
    seed : int
        Of the maps.
    """

    clock: Clock = field(default_factory=Clock)
    border: tuple[int, int, int, int] = (4, 4, 4, 4)
    gain: float = 1.8
    white: EachOutput = 5.0
    reference_ratio: float = 0.8
    pink_own: EachOutput = 0.1
    pink_common: float = 0.8
    common_gain: EachOutput = 1.0
    alternating: EachOutput = 0.02
    exponent: float = 1.0
    low_cut: float = 1e-3
    pedestal: float = 0.5
    pedestal_common: float = 2.0
    pedestal_time: float = 300.0
    picture_frame: float = 0.2
    picture_frame_time: float = 100.0
    ktc: float = 35.0
    telegraph: float = 5e-4
    telegraph_reference: float = 2e-3
    telegraph_amplitude: float = 30.0
    telegraph_time: float = 60.0
    cosmic_rate: float = 1.6e-5
    pixel_size: float = 18.0
    thickness: float = 5.0
    ipc: float = 0.005
    ipc_diagonal: float = 0.0003
    bias: float = 8000.0
    bias_pattern: float = 150.0
    seed: int = 0

    def __post_init__(self) -> None:
        clock = self.clock
        bottom, top, left, right = self.border
        if min(self.border) < 0 or bottom + top >= clock.rows or left + right >= clock.cols:
            raise OptionError(
                "no active pixel is left inside the reference pixels",
                where="border",
                expected=f"sides within {clock.rows} x {clock.cols} pixels",
                got=self.border,
            )
        for name in ("gain", "pedestal_time", "picture_frame_time", "telegraph_time"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} must be positive", where=name, got=getattr(self, name))
        for name in (*NONE, "reference_ratio"):
            if not np.all(np.asarray(getattr(self, name)) >= 0):
                raise OptionError(f"{name} must not be negative", where=name, got=getattr(self, name))
        for name in ("white", "pink_own", "alternating", "common_gain"):
            self.each(name)

    @classmethod
    def flawless(cls, **changes: Any) -> Design:
        """A design without any noise of the electronics, defect, cosmic ray or IPC, but for `changes`."""
        return cls(**{**dict.fromkeys(NONE, 0.0), **changes})

    def changed(self, **changes: Any) -> Design:
        """A copy with other numbers."""
        return replace(self, **changes)

    def each(self, name: str) -> tuple[float, ...]:
        """A number that outputs may have each, as a tuple of one per output."""
        value, outputs = getattr(self, name), self.clock.outputs
        if not isinstance(value, tuple):
            return (float(value),) * outputs
        if len(value) != outputs:
            raise OptionError("the outputs need a number each", where=name, expected=outputs, got=len(value))
        return value

    @property
    def active(self) -> tuple[slice, slice]:
        """Rows and columns of the pixels that see light."""
        bottom, top, left, right = self.border
        return slice(bottom, self.clock.rows - top), slice(left, self.clock.cols - right)


@dataclass(frozen=True, eq=False)
class Maps:
    """What stays from exposure to exposure, all (rows, cols).

    Attributes
    ----------
    white : array of float32
        Sigma of a single read, adu.
    bias : array of float32
        adu.
    picture_frame : array of float32
        Pattern of rms 1 over the active pixels, 0 in reference pixels.
    telegraph : array of float32
        Distance of the two levels, adu; 0 for a pixel that does not jump.
    dq : array of uint32
    """

    white: F4
    bias: F4
    picture_frame: F4
    telegraph: F4
    dq: NDArray[np.uint32]


def draw_maps(design: Design, rng: np.random.Generator) -> Maps:
    """Draw the maps of an array."""
    clock = design.clock
    shape = clock.rows, clock.cols
    reference = np.ones(shape, bool)
    reference[design.active] = False
    white = np.empty(shape, np.float32)
    for block, sigma in zip(clock.blocks(white), design.each("white"), strict=True):
        block[:] = sigma
    white[reference] *= design.reference_ratio
    bias = design.bias + design.bias_pattern * rng.standard_normal(shape, np.float32)
    jumping = rng.random(shape) < np.where(reference, design.telegraph_reference, design.telegraph)
    heights = design.telegraph_amplitude * rng.lognormal(0.0, 0.5, int(jumping.sum()))
    telegraph = np.zeros(shape, np.float32)
    telegraph[jumping] = heights
    dq = np.where(reference, np.uint32(DQ.REFERENCE_PIXEL | DQ.NON_SCIENCE), np.uint32(0))
    dq[jumping] |= np.uint32(DQ.TELEGRAPH)
    dq[jumping & reference] |= np.uint32(DQ.BAD_REF_PIXEL)
    return Maps(white, bias.astype(np.float32), _rim(design, shape), telegraph, dq)


def _rim(design: Design, shape: tuple[int, int]) -> F4:
    """Picture frame: a smooth pattern of mean 0 that rises towards the rim of the active pixels."""
    rows, cols = design.active
    y = np.linspace(-1.0, 1.0, rows.stop - rows.start)[:, np.newaxis]
    x = np.linspace(-1.0, 1.0, cols.stop - cols.start)
    pattern = y**8 + x**8
    pattern -= pattern.mean()
    scatter = pattern.std()
    plane = np.zeros(shape, np.float32)
    plane[design.active] = pattern / scatter if scatter > 0 else 0.0
    return plane


def share(charge: F4, ipc: float, diagonal: float) -> F4:
    """Charge as the pixels show it, coupled to their neighbours through the capacitance between them.

    A pixel gives its neighbour a fraction of the difference of their charges, so that the sum stays exactly
    that of the charge, at the edges too; inside it is a convolution with
    ((d, a, d), (a, 1 - 4a - 4d, a), (d, a, d)).

    Parameters
    ----------
    charge : array of float32
        (rows, cols), electrons.
    ipc, diagonal : float
        a and d.
    """
    shown = charge.copy()
    upper, lower = slice(1, None), slice(None, -1)
    every = slice(None)
    for one, other, fraction in (
        ((upper, every), (lower, every), ipc),
        ((every, upper), (every, lower), ipc),
        ((upper, upper), (lower, lower), diagonal),
        ((upper, lower), (lower, upper), diagonal),
    ):
        if fraction > 0:
            flow = np.float32(fraction) * (charge[one] - charge[other])
            shown[one] -= flow
            shown[other] += flow
    return shown
