"""The structure of flats: what lies in the light path, and what lies in the silicon of one detector.

Each part is a plane (rows, cols), float32; a flat is their product::

    flat = vignetting * lamp * dust * pixels * (1 - edges * e) * product of (1 + amplitude * pattern)

over tree rings, coating and fringes, with amplitudes that depend on the band. Lengths are in mm, so that the
same seed gives the same structure at every size of the pixels. Optical parts go by the place on the raft and
run over the gaps between detectors; the others begin anew in each of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from calibrant.simulate import structure
from calibrant.simulate.camera import Camera, Epoch, Passband, Structure
from calibrant.simulate.structure import F4, Shape

F8 = NDArray[np.float64]
Speck = tuple[float, float, float, float]
"""Row, column and radius in mm on the raft, and depth."""

CHROMATIC = ("tree_rings", "coating", "fringes")
RINGS = 12  # waves that make up the rings of a detector


@dataclass(frozen=True)
class Grid:
    """Places of the pixels of one detector.

    Attributes
    ----------
    shape : tuple of int
        Rows, columns.
    extent : tuple of float
        mm, rows and columns.
    centre : tuple of float
        Row, column of its middle on the raft, mm.
    """

    shape: Shape
    extent: tuple[float, float]
    centre: tuple[float, float] = (0.0, 0.0)

    def own(self) -> tuple[F8, F8]:
        """Rows (n, 1) and columns (1, m) in mm from the middle of the detector."""
        y, x = (
            (np.arange(pixels) + 0.5) * length / pixels - length / 2.0
            for pixels, length in zip(self.shape, self.extent, strict=True)
        )
        return y[:, np.newaxis], x[np.newaxis, :]

    def raft(self) -> tuple[F8, F8]:
        """The same from the middle of the raft."""
        y, x = self.own()
        return y + self.centre[0], x + self.centre[1]


def vignetting(grid: Grid, sizes: Structure) -> F4:
    """Throughput of the optics: 1 on the axis, ``1 - vignetting`` at the distance `field` from it."""
    y, x = grid.raft()
    radius2 = ((y - sizes.axis[0]) ** 2 + (x - sizes.axis[1]) ** 2) / sizes.field**2
    return (1.0 - sizes.vignetting * (0.4 * radius2 + 0.6 * radius2**2)).astype(np.float32)


def lamp(grid: Grid, epoch: Epoch) -> F4:
    """Light of the lamp: a plane, 1 in the middle of the raft."""
    y, x = grid.raft()
    return (1.0 + (epoch.tilt[0] * y + epoch.tilt[1] * x) / 100.0).astype(np.float32)


def specks(camera: Camera, rng: np.random.Generator) -> list[Speck]:
    """Specks of dust in the light path of the whole raft."""
    sizes, reach = camera.structure, camera.side * camera.pitch
    drawn = structure.draw_dust(sizes.dust, sizes.dust_radius, sizes.dust_depth, rng)
    return [((row - 0.5) * reach, (col - 0.5) * reach, radius, depth) for row, col, radius, depth in drawn]


def dust(grid: Grid, drawn: Sequence[Speck], epoch: Epoch) -> F4:
    """Throughput through the specks that lie there in an epoch."""
    (rows, cols), (row0, col0) = grid.extent, grid.centre
    longest = grid.extent[int(np.argmax(grid.shape))]
    # Whole numbers are centres of pixels, as `structure.dust` counts them.
    half_row, half_col = (0.5 - 0.5 / pixels for pixels in grid.shape)
    places = [
        ((row - row0) / rows + half_row, (col - col0) / cols + half_col, radius / longest, depth)
        for row, col, radius, depth in [*drawn[epoch.lost :], *epoch.dust]
    ]
    near = [place for place in places if all(-0.5 < axis < 1.5 for axis in place[:2])]
    return structure.dust(grid.shape, near)


def tree_rings(grid: Grid, periods: tuple[float, float], rng: np.random.Generator) -> F4:
    """Rings of the dopant about the axis of the silicon ingot, beyond a corner of the detector; rms 1.

    Waves of random length between the two `periods`, fading towards the middle of the ingot.
    """
    corner = rng.choice([-1.0, 1.0], 2) * (np.array(grid.extent) / 2.0 + rng.uniform(2.0, 9.0, 2))
    waves = rng.uniform(1.0 / periods[1], 1.0 / periods[0], RINGS)
    phases = rng.uniform(0.0, 2.0 * math.pi, RINGS)
    radii = np.linspace(0.0, 1.6 * sum(grid.extent), 8000)
    profile = np.cos(2.0 * math.pi * waves[:, np.newaxis] * radii + phases[:, np.newaxis]).sum(axis=0)
    profile *= np.clip(radii / (0.6 * sum(grid.extent)), 0.3, 1.0)
    y, x = grid.own()
    return _normalised(np.interp(np.hypot(y - corner[0], x - corner[1]), radii, profile))


def edges(grid: Grid, scale: float) -> F4:
    """Pattern of the distorted field at the edges: 1 there, falling exponentially with the distance."""
    y, x = grid.own()
    inside = np.minimum(grid.extent[0] / 2.0 - np.abs(y), grid.extent[1] / 2.0 - np.abs(x))
    return np.exp(-inside / scale).astype(np.float32)


def coating(grid: Grid, scale: float, rng: np.random.Generator) -> F4:
    """Blotches of a coating of uneven thickness; mean 0, rms 1."""
    return _normalised(np.tanh(1.5 * smooth_field(grid, scale, rng)))


def fringes(grid: Grid, distance: float, rng: np.random.Generator) -> F4:
    """Interference in the thin silicon, -1 to 1: contours of a thickness that is inclined and wavy."""
    angle = rng.uniform(0.0, 2.0 * math.pi)
    y, x = grid.own()
    thickness = (y * math.sin(angle) + x * math.cos(angle)) / distance
    waves = thickness + 0.9 * smooth_field(grid, 4.0 * distance, rng)
    return np.cos(2.0 * math.pi * waves).astype(np.float32)


def smooth_field(grid: Grid, scale: float, rng: np.random.Generator) -> F8:
    """A random field of mean 0 and rms 1 that changes over `scale` mm; the same at all sizes of pixels."""
    nodes = max(8, math.ceil(3.0 * max(grid.extent) / scale))
    sigma = nodes * scale / max(grid.extent) / 2.0
    coarse = gaussian_filter(rng.standard_normal((nodes, nodes)), sigma, mode="reflect")
    coarse = (coarse - coarse.mean()) / coarse.std()
    factors = [pixels / nodes for pixels in grid.shape]
    return np.asarray(zoom(coarse, factors, order=3, mode="nearest", grid_mode=True), np.float64)


def _normalised(pattern: F8) -> F4:
    return np.asarray((pattern - pattern.mean()) / pattern.std(), np.float32)


def parts(camera: Camera, grid: Grid, dust_of: Sequence[Speck], rng: np.random.Generator) -> dict[str, F4]:
    """All parts of the flats of a detector by name; of each epoch ``lamp_1`` and ``dust_1``, ``_2``."""
    sizes = camera.structure
    found = {
        "vignetting": vignetting(grid, sizes),
        "tree_rings": tree_rings(grid, sizes.ring_periods, rng),
        "coating": coating(grid, sizes.coating, rng),
        "fringes": fringes(grid, sizes.fringe, rng),
        "edges": edges(grid, sizes.edge),
    }
    found["pixels"] = 1.0 + np.float32(sizes.prnu) * rng.standard_normal(grid.shape, np.float32)
    for number, epoch in enumerate(camera.epochs, 1):
        found[f"lamp_{number}"] = lamp(grid, epoch)
        found[f"dust_{number}"] = dust(grid, dust_of, epoch)
    return found


def amplitudes(band: Passband) -> dict[str, float]:
    """Amplitudes of the chromatic parts."""
    return {name: getattr(band, name) for name in (*CHROMATIC, "edges")}


def flat(planes: Mapping[str, NDArray[np.floating]], strength: Mapping[str, float], epoch: int) -> F4:
    """The flat of a band, put together from its parts.

    Parameters
    ----------
    planes : mapping
        Parts by name, such as the planes of a truth.
    strength : mapping
        Amplitudes in the band, such as a row of the truth's table ``bands``.
    epoch : int
        From 1.

    Returns
    -------
    array
        (rows, cols), float32: response to the lamp, 1 where nothing takes light away.
    """
    product = planes["vignetting"] * planes[f"lamp_{epoch}"]
    product *= planes[f"dust_{epoch}"]
    product *= planes["pixels"]
    product *= 1.0 - np.float32(strength["edges"]) * planes["edges"]
    for name in CHROMATIC:
        if strength[name]:
            product *= 1.0 + np.float32(strength[name]) * planes[name]
    return np.asarray(product, np.float32)


class Flats(Mapping[str, F4]):
    """The flats of a detector by ``<band>_<epoch>``, made when they are asked for; the last one is kept.

    All of them would not fit into memory at real size.
    """

    def __init__(self, planes: Mapping[str, F4], bands: Mapping[str, Passband], epochs: int) -> None:
        self._planes, self._bands, self._epochs = planes, bands, epochs
        self._last: tuple[str, F4] | None = None

    def __getitem__(self, key: str) -> F4:
        if self._last is None or self._last[0] != key:
            band, _, epoch = key.rpartition("_")
            if key not in set(self):
                raise KeyError(key)
            self._last = key, flat(self._planes, amplitudes(self._bands[band]), int(epoch))
        return self._last[1]

    def __iter__(self) -> Iterator[str]:
        return (f"{band}_{epoch}" for epoch in range(1, self._epochs + 1) for band in self._bands)

    def __len__(self) -> int:
        return self._epochs * len(self._bands)
