"""Cosmic rays: straight muon tracks through the silicon, with the charge that they leave in each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PER_MICRON = (
    80.0  # electrons that a minimum-ionising particle frees per micron of silicon, most probable value
)
MOYAL_WIDTH = 6.0  # electrons per micron: width of the fluctuations of the energy loss
STEP = 0.1  # pixels between two deposits along a track
LONGEST = 80.0  # pixels: grazing tracks end here, or one event in a thousand would cross the whole frame


@dataclass(frozen=True, eq=False)
class Hits:
    """Pixels that cosmic rays touched in one exposure, one entry for each pixel of each track.

    Attributes
    ----------
    track : array of int32
        Number of the event, from 0.
    row, col : array of int32
        Pixel of the data section.
    charge : array of float32
        Electrons, whole numbers.
    events : int
        Number of particles.
    """

    track: NDArray[np.int32]
    row: NDArray[np.int32]
    col: NDArray[np.int32]
    charge: NDArray[np.float32]
    events: int

    @classmethod
    def none(cls) -> Hits:
        """No hit at all."""
        whole = np.zeros(0, np.int32)
        return cls(whole, whole, whole, np.zeros(0, np.float32), 0)

    def add_to(self, charge: NDArray[np.floating]) -> None:
        """Add the electrons to a plane of (rows, cols), in place."""
        np.add.at(charge, (self.row, self.col), self.charge.astype(charge.dtype))


def cosmic_rays(
    shape: tuple[int, int],
    expected: float,
    rng: np.random.Generator,
    *,
    pixel_size: float = 13.5,
    thickness: float = 30.0,
    diffusion: float = 0.35,
) -> Hits:
    """Draw the tracks of one exposure.

    Entry points are uniform over the frame, zenith angles follow cos^2 per solid angle as sea-level muons do,
    the energy loss has the Moyal form of Landau's distribution.

    Parameters
    ----------
    expected : float
        Mean number of particles over the frame during the exposure.
    pixel_size, thickness : float
        Microns.
    diffusion : float
        Sigma of the charge cloud, pixels.

    Returns
    -------
    Hits
    """
    events = int(rng.poisson(expected))
    if events == 0:
        return Hits.none()
    row, col = rng.random(events) * shape[0] - 0.5, rng.random(events) * shape[1] - 0.5
    # Flux as cos^2 per solid angle, times cos for the projected area: density cos^3 sin, so cos = u^(1/4).
    cosine = np.maximum(rng.random(events) ** 0.25, 0.01)
    length = np.minimum(np.sqrt(1.0 - cosine**2) / cosine * thickness / pixel_size, LONGEST)
    path = np.hypot(length * pixel_size, thickness)
    normal = rng.standard_normal(events)
    # -ln(z^2) of a normal deviate is Moyal-distributed.
    total = path * (
        PER_MICRON - MOYAL_WIDTH * np.log(np.maximum(normal**2, 1e-9)) * np.sqrt(thickness / path)
    )
    angle = rng.uniform(0.0, 2.0 * np.pi, events)
    return _deposit(shape, row, col, length, angle, np.maximum(total, 10.0 * path), diffusion, rng)


def _deposit(
    shape: tuple[int, int],
    row: NDArray[np.float64],
    col: NDArray[np.float64],
    length: NDArray[np.float64],
    angle: NDArray[np.float64],
    total: NDArray[np.float64],
    diffusion: float,
    rng: np.random.Generator,
) -> Hits:
    """Share the charge of each track among small clouds along it, and sum these by pixel."""
    steps = np.maximum(np.ceil(length / STEP).astype(np.int64), 25)
    track = np.repeat(np.arange(len(steps)), steps)
    along = (np.arange(len(track)) - np.repeat(np.cumsum(steps) - steps, steps)) / np.repeat(steps, steps)
    spread = rng.normal(0.0, diffusion, (2, len(track)))
    y = np.rint(row[track] + along * length[track] * np.sin(angle[track]) + spread[0]).astype(np.int64)
    x = np.rint(col[track] + along * length[track] * np.cos(angle[track]) + spread[1]).astype(np.int64)
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    index = (track * shape[0] + y) * shape[1] + x
    pixel, inverse = np.unique(index[inside], return_inverse=True)
    charge = np.rint(np.bincount(inverse, weights=(total / steps)[track][inside]))
    event, place = np.divmod(pixel, shape[0] * shape[1])
    return Hits(
        event.astype(np.int32),
        (place // shape[1]).astype(np.int32),
        (place % shape[1]).astype(np.int32),
        charge.astype(np.float32),
        len(steps),
    )
