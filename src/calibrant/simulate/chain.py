"""Chain: what happens to charge on its way from the pixels to the converter, amplifier by amplifier.

Charge transfer, gain, non-linearity, crosstalk, offset, in this order. Images are in the order of readout,
(rows + parallel overscan, prescan + columns + overscan): what is read at one time is at one place in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrant.simulate.structure import F4

F8 = NDArray[np.float64]

RELEASE = (0.8, 0.2)
"""How deferred charge is shared by the next pixels: the first two of the overscan hold all of it."""

BEHIND = sum(pixels * share for pixels, share in enumerate(RELEASE, 1))  # in the mean


@dataclass(frozen=True, eq=False)
class Chain:
    """Faults of the amplifiers of a detector, in their order.

    Attributes
    ----------
    quadratic, cubic : array
        (amplifiers,), 1/adu and 1/adu^2: measured = true - quadratic true^2 + cubic true^3, above the bias.
    crosstalk : array
        (amplifiers, amplifiers), ``[source][target]``: adu in the target per adu in the source.
    cti_serial, cti_parallel : array
        (amplifiers,): charge transfer inefficiency; see `defer`.
    pedestal : array
        (amplifiers,), adu: on the pixels that see light, not on the overscan, once the shutter has been open.
    """

    quadratic: F8
    cubic: F8
    crosstalk: F8
    cti_serial: F8
    cti_parallel: F8
    pedestal: F8

    @classmethod
    def perfect(cls, amplifiers: int) -> Chain:
        """A chain without faults."""
        zero = np.zeros(amplifiers)
        return cls(zero, zero, np.zeros((amplifiers, amplifiers)), zero, zero, zero)

    @classmethod
    def drawn(
        cls,
        wells: Sequence[float],
        rng: np.random.Generator,
        *,
        nonlinearity: float = 0.0,
        crosstalk: float = 0.0,
        far: float = 0.0,
        cti_serial: float = 0.0,
        cti_parallel: float = 0.0,
        pedestal: float = 0.0,
    ) -> Chain:
        """Faults of amplifiers whose full wells are given in adu; the strengths are those of a camera's file.

        Amplifiers next to each other in the order of their files disturb each other most, those after the
        next with the opposite sign and a fifth of it, all others by chance.
        """
        count, full = len(wells), np.asarray(wells, np.float64)
        missing = nonlinearity * rng.normal(1.0, 0.25, count)
        bend = missing * rng.uniform(-0.3, 0.3, count)
        apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
        matrix = far * rng.standard_normal((count, count))
        matrix += crosstalk * rng.normal(1.0, 0.3, (count, count)) * ((apart == 1) - 0.2 * (apart == 2))
        np.fill_diagonal(matrix, 0.0)
        return cls(
            quadratic=(missing + bend) / full,
            cubic=bend / full**2,
            crosstalk=matrix,
            cti_serial=cti_serial * rng.uniform(0.5, 1.5, count),
            cti_parallel=cti_parallel * rng.uniform(0.5, 1.5, count),
            pedestal=rng.normal(0.0, 1.0, count) * pedestal,
        )

    def measured(self, amplifier: int, true: NDArray[np.floating] | float) -> NDArray[np.floating]:
        """Signal above the bias that an amplifier makes of the `true` one, adu.

        Beyond its maximum the curve stays there: no amplifier comes down again.
        """
        quadratic, cubic = float(self.quadratic[amplifier]), float(self.cubic[amplifier])
        signal = np.asarray(true)
        low = signal if quadratic <= 0 else np.minimum(signal, signal.dtype.type(_peak(quadratic, cubic)))
        return np.asarray(low * (1.0 - quadratic * low + cubic * low * low), signal.dtype)


def _peak(quadratic: float, cubic: float) -> float:
    """Where 1 - 2 q x + 3 c x^2 has its first zero, or infinity."""
    if cubic == 0.0:
        return 0.5 / quadratic
    root = quadratic**2 - 3.0 * cubic
    return np.inf if root < 0 else float((quadratic - root**0.5) / (3.0 * cubic))


def defer(charge: F4, fraction: float, axis: int) -> F4:
    """Leave charge behind, in the pixels that are read after its own; first order in the fraction.

    Charge n transfers from the amplifier falls behind by n times the fraction, in pixels and in the mean. So
    evenly lit pixels leave n times the fraction of the last one's charge in the overscan: what EPER measures.
    None is lost, except beyond the last pixel of the overscan.

    Parameters
    ----------
    charge : array
        (rows, cols), electrons, in the order of readout, overscan included.
    fraction : float
        Charge transfer inefficiency: pixels per transfer.
    axis : int
        0: parallel transfer, of rows; 1: serial.

    Returns
    -------
    array
        As `charge`.
    """
    if fraction == 0.0:
        return charge
    moving = np.moveaxis(charge, axis, 0)
    transfers = np.arange(1, len(moving) + 1, dtype=np.float32)[:, np.newaxis]
    late = moving * (transfers * np.float32(fraction / BEHIND))
    found = moving - late
    for pixels, share in enumerate(RELEASE, 1):
        found[pixels:] += np.float32(share) * late[:-pixels]
    return np.moveaxis(found, 0, axis)


def crosstalk(images: Sequence[F4], matrix: F8) -> list[F4]:
    """Each image with its part of all others, read at the same time; ``matrix[source][target]``."""
    if not matrix.any():
        return list(images)
    cube = np.stack(images)
    flat = cube.reshape(len(cube), -1)
    return list(cube + (matrix.T.astype(np.float32) @ flat).reshape(cube.shape))


def voltages(chain: Chain, charges: Sequence[F4], gains: Sequence[float]) -> list[F4]:
    """Signal above the bias of all amplifiers, without noise and offset.

    Parameters
    ----------
    charges : sequence of array
        Of each amplifier, electrons, in the order of readout, overscan included.
    gains : sequence of float
        e-/adu.

    Returns
    -------
    list of array
        As `charges`, float32, adu.
    """
    found = []
    for number, (charge, gain) in enumerate(zip(charges, gains, strict=True)):
        held = defer(charge, float(chain.cti_parallel[number]), 0)
        held = defer(held, float(chain.cti_serial[number]), 1)
        found.append(np.asarray(chain.measured(number, held / np.float32(gain)), np.float32))
    return crosstalk(found, chain.crosstalk)
