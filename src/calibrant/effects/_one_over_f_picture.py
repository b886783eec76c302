"""Picture-frame noise: a pattern brighter at the rim whose size wanders from read to read.

Outputs at the two edges of an array see it, those beside them much less. The difference of an output at the
edge and its neighbour, in the order of time, has nothing of the noise that outputs have in common; and what
the left edge and the right one then still share is the pattern: noise of outputs alone, white or pink, is
not in the mean of their product, so that nothing is found where nothing is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibrant.instrument.clock import Clock

BOXES = 32  # across the columns of all outputs, and the rows
FEWEST = 5  # differences
SEEN = 4.0  # sigmas of the correlation of both edges from which on the pattern is drawn

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PictureFrame:
    """What is found; numbers are of single reads.

    Attributes
    ----------
    variance, sigma : float
        Of the profile of the outputs at the edges along their columns, adu2; may be below 0 within sigma.
    rms : float
        Over all active pixels, adu; NaN if it is not seen.
    pattern : array (boxes, boxes) or None
        In the order of readout; its rms is 1.
    """

    variance: float
    sigma: float
    rms: float
    pattern: Floats | None


@dataclass
class Picture:
    """Gathers means of boxes, difference by difference.

    Attributes
    ----------
    clock : Clock
        Of the pixels inside the border.
    """

    clock: Clock
    _boxes: list[Floats] = field(default_factory=list)

    @property
    def possible(self) -> bool:
        """Whether there are outputs at two edges, and a neighbour of each."""
        return self.clock.outputs >= 4

    def add(self, laid: NDArray[np.float32]) -> None:
        """A difference, (outputs, rows, ticks), in the order of time, as `Accumulator` lays it out."""
        if not self.possible:
            return
        clock = self.clock
        high, wide = max(clock.rows // BOXES, 1), max(clock.cols // BOXES, 1)
        down, across = clock.rows // high, clock.width // wide
        lines = laid[:, : down * high].reshape(clock.outputs, down, high, -1).sum(axis=2)
        boxes = lines[:, :, : across * wide].reshape(clock.outputs, down, across, wide).sum(axis=3)
        self._boxes.append(boxes.astype(np.float64) / (high * wide))

    def result(self, variance_of_difference: float) -> PictureFrame | None:
        """The noise of single reads; None with too few differences or outputs.

        Parameters
        ----------
        variance_of_difference : float
            Of white noise, for single reads of variance 1: 2 for reads by themselves.
        """
        if len(self._boxes) < FEWEST:
            return None
        boxes = np.array(self._boxes)
        boxes -= boxes.mean(axis=0)
        profile = boxes.mean(axis=2)
        profile -= profile.mean(axis=2, keepdims=True)
        left, right = profile[:, 0] - profile[:, 1], profile[:, -1] - profile[:, -2]
        if not self._mirrored:
            right = right[:, ::-1]
        n = len(boxes)
        free = variance_of_difference * (n - 1) / n
        products = (left * right).mean(axis=1) / free
        value, sigma = float(products.mean()), float(products.std(ddof=1) / math.sqrt(n))
        alike = float((left * right).sum() / math.sqrt((left**2).sum() * (right**2).sum()))
        if math.atanh(min(alike, 0.999)) * math.sqrt(n - 3) < SEEN:  # Fisher's z
            return PictureFrame(value, sigma, math.nan, None)
        template = np.linalg.eigh(left.T @ right + right.T @ left)[1][:, -1]
        edges = left @ template, right @ template
        return PictureFrame(value, sigma, *self._pattern(boxes, edges, free))

    @property
    def _mirrored(self) -> bool:
        """Whether the output at the right edge is read from the edge inwards, as that at the left is."""
        return self.clock.alternate and self.clock.outputs % 2 == 0

    def _pattern(self, boxes: Floats, edges: tuple[Floats, Floats], free: float) -> tuple[float, Floats]:
        """Rms and pattern: boxes by the amplitudes of the edges, halves of the differences held together."""
        amplitude = (edges[0] + edges[1]) / 2
        scale = max(float((edges[0] * edges[1]).mean()), 1e-300)
        halves = [
            np.tensordot(amplitude[half::2], boxes[half::2], 1) / len(amplitude[half::2]) for half in (0, 1)
        ]
        power = float((halves[0] * halves[1]).mean()) / scale
        pattern = (halves[0] + halves[1]) / 2
        whole = self._drawn(pattern)
        size = math.sqrt(float((whole**2).mean()))
        return math.sqrt(max(power, 0.0) / free), whole / size

    def _drawn(self, pattern: Floats) -> Floats:
        """Boxes of outputs beside each other as they lie in the plane."""
        turned = [one[:, ::-1] if self.clock.alternate and i % 2 else one for i, one in enumerate(pattern)]
        return np.concatenate(turned, axis=1)
