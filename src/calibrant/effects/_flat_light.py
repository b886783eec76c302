"""What the frames of a flat hold: light, saturation, noise, and how alike their patterns are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrant.effects._levels import bands, samples, spread
from calibrant.stack.source import Source
from calibrant.stats import MAD_TO_STD

PIXELS = 1 << 18  # of the sample: its median is known to 1e-5 of the level
BLOCK = 32  # columns of the blocks in which patterns are compared; their rows are those of a band


@dataclass(frozen=True, eq=False)
class Light:
    """The frames of a flat in a few numbers; arrays are (frames,) unless said.

    Attributes
    ----------
    level : ndarray
        Median above bias and dark, adu.
    missing : ndarray
        Fraction of the sample without a value: saturated, for the most part.
    width : ndarray
        Relative noise from the difference to the frame before, over sqrt(2), NaN for the first: the root mean
        square of the noise of both, each over its own level.
    before : ndarray
        Level of the frame before, adu (NaN for the first).
    noise : ndarray
        Noise of a single pixel, adu, from the differences of neighbours within the frame.
    """

    level: NDArray[np.float64]
    missing: NDArray[np.float64]
    width: NDArray[np.float64]
    before: NDArray[np.float64]
    noise: NDArray[np.float64]

    @property
    def saturated(self) -> NDArray[np.bool_]:
        """More than half of the pixels have no value."""
        return self.missing > 0.5

    @property
    def unlit(self) -> NDArray[np.bool_]:
        """Not saturated, and no light: a level not above zero, or below the noise of a single pixel."""
        return ~self.saturated & ~((self.level > 0) & (self.level > self.noise))

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Neither saturated nor unlit."""
        return ~self.saturated & ~self.unlit

    def only(self, index: NDArray[np.intp]) -> Light:
        """Of some of the frames."""
        planes = (self.level, self.missing, self.width, self.before, self.noise)
        return Light(*(plane[index] for plane in planes))

    def excess(self, read_noise: float, gain: float) -> float:
        """Relative scatter of a pixel between frames beyond its noise; 0 if below a fifth of the noise."""
        pairs = self.pairs()
        if not pairs.size:
            return 0.0
        width, ones, squares = pairs
        noise = float(np.mean(read_noise**2 * squares + ones / gain))
        more = float(np.mean(width**2)) - noise
        return math.sqrt(more) if more > 0.04 * noise else 0.0

    def pairs(self) -> NDArray[np.float64]:
        """Of every pair of frames: width, mean of 1/level, mean of 1/level^2; (3, pairs)."""
        known = np.isfinite(self.width)
        levels = np.array([self.level[known], self.before[known]])
        return np.array([self.width[known], np.mean(1 / levels, axis=0), np.mean(levels**-2, axis=0)])


def look(sources: Sequence[Source], progress: Callable[[int, int, str], None] | None = None) -> Light:
    """Read a sample of every frame once.

    Parameters
    ----------
    sources : sequence of Source
        Without bias and dark, in order of time.

    Returns
    -------
    Light
    """
    rows = bands(sources[0].shape, PIXELS)
    level: list[float] = []
    missing, width, before, noise = [], [], [], []
    previous: NDArray[np.float32] | None = None
    for index, values in enumerate(samples(sources, rows)):
        good = values[np.isfinite(values)]
        level.append(float(np.median(good)) if good.size else math.nan)
        missing.append(1.0 - good.size / values.size)
        scaled = (values / level[-1]).astype(np.float32) if level[-1] > 0 else None
        # Only pixels near the median response: they show the noise that belongs to the level.
        width.append(_width(scaled, previous))
        before.append(level[-2] if index else math.nan)
        noise.append(_noise(values))
        previous = scaled
        if progress is not None:
            progress(index + 1, len(sources), "levels")
    return Light(*(np.array(plane) for plane in (level, missing, width, before, noise)))


def _width(scaled: NDArray[np.float32] | None, previous: NDArray[np.float32] | None) -> float:
    if scaled is None or previous is None:
        return math.nan
    typical = (np.abs(scaled - 1) < 0.1) & (np.abs(previous - 1) < 0.1)
    if typical.sum() < 100:
        typical = np.isfinite(scaled) & np.isfinite(previous)
    found = spread((scaled - previous)[typical])
    return found.std / math.sqrt(2.0)


def _noise(values: NDArray[Any]) -> float:
    """Noise of one pixel, robustly, from neighbours along the rows: even light and its shape cancel."""
    steps = np.diff(values.astype(np.float32), axis=1)
    steps = steps[np.isfinite(steps)]
    if not steps.size:
        return 0.0
    return MAD_TO_STD * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2.0)


def gain_of(light: Light, read_noise: float) -> float | None:
    """Gain in e-/adu from the noise of successive frames; None if they do not show it."""
    width, ones, squares = light.pairs()
    photons = width**2 - read_noise**2 * squares
    good = photons > 0
    return float(np.median(ones[good] / photons[good])) if good.any() else None


def patterns(sources: Sequence[Source], light: Light, flat: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far each frame departs from the flat: scatter over blocks of frame / (level flat), per cent.

    The variance that the pixel noise leaves in the means of the blocks is subtracted, and the frame's own
    part in the flat is allowed for.

    Parameters
    ----------
    sources : sequence of Source
        Without bias and dark.
    light : Light
        Of the same frames.
    flat : ndarray
        (rows, cols).

    Returns
    -------
    ndarray
        float64, (frames,).
    """
    rows = bands(flat.shape, PIXELS)
    master = np.concatenate([flat[band] for band in rows])
    edges = np.arange(0, master.shape[1], BLOCK)
    lines = np.cumsum([0, *(band.stop - band.start for band in rows[:-1])])
    n = len(sources)
    found = []
    for values, level in zip(samples(sources, rows), light.level, strict=True):
        ratio = values / (master * np.float32(level)).astype(np.float64)
        usable = np.isfinite(ratio) & (np.abs(ratio - 1) < 0.5)  # no hits, no dead pixels

        def blocks(plane: NDArray[np.float64]) -> NDArray[np.float64]:
            sums = np.add.reduceat(np.add.reduceat(plane, lines, axis=0), edges, axis=1)
            return sums

        count = blocks(usable.astype(np.float64))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = blocks(np.where(usable, ratio, 0.0)) / count
            square = blocks(np.where(usable, ratio**2, 0.0)) / count
            noise = (square - mean**2) / np.maximum(count - 1, 1)
        full = count > 16
        variance = float(np.var(mean[full]) - np.mean(noise[full])) if full.sum() > 1 else 0.0
        found.append(100.0 * math.sqrt(max(variance, 0.0) * n / max(n - 1, 1)))
    return np.array(found)
