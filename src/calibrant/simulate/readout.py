"""Readout: from the charge in the pixels to the numbers in the file. Chain: (pixel,) signal, image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibrant.simulate.detector import Amplifier, Detector
from calibrant.simulate.structure import F4

HIGHEST = 65535  # of a converter with 16 bits


def signal(
    detector: Detector,
    electrons: NDArray[np.floating] | float,
    rng: np.random.Generator,
    *,
    offset: float = 0.0,
) -> tuple[F4, ...]:
    """Voltages at each amplifier, in adu but not yet whole numbers, overscan included.

    Parameters
    ----------
    electrons : array or float
        (rows, cols), electrons in the pixels.
    offset : float
        Departure of the bias level from its settled value in this exposure, adu.

    Returns
    -------
    tuple of array
        One per amplifier, (rows, its columns + overscan), float32, adu, in the order of readout.
    """
    plane = np.broadcast_to(np.asarray(electrons, np.float32), detector.shape)
    # Telegraph pixels sit on one of their two levels for the whole of a frame.
    high = np.flatnonzero(detector.telegraph)
    jump = np.zeros(detector.shape, np.float32)
    jump.flat[high] = detector.telegraph.flat[high] * rng.integers(0, 2, len(high))
    return tuple(
        _amplified(detector, amplifier, plane, jump, offset, rng) for amplifier in detector.amplifiers
    )


def _amplified(
    detector: Detector,
    amplifier: Amplifier,
    electrons: NDArray[np.floating],
    jump: F4,
    offset: float,
    rng: np.random.Generator,
) -> F4:
    """Signal of one amplifier."""
    own = slice(amplifier.start, amplifier.stop)
    width = amplifier.stop - amplifier.start
    rows, overscan = detector.shape[0], detector.design.overscan
    out = rng.standard_normal((rows, width + overscan), dtype=np.float32)
    data = out[:, :width]
    data *= detector.read_noise[:, own]
    data += electrons[:, own] / np.float32(amplifier.gain)
    data += detector.structure[:, own]
    data += jump[:, own]
    if amplifier.reverse:
        data[:] = data[:, ::-1].copy()
    out[:, width:] *= np.float32(amplifier.read_noise)
    out += (detector.row_level + np.float32(amplifier.level + offset))[:, np.newaxis]
    return out


def image(voltages: F4) -> NDArray[np.uint16]:
    """What the converter writes: rounded to whole adu, held between 0 and 65535."""
    return np.clip(np.rint(voltages), 0, HIGHEST).astype(np.uint16)


def trimmed(detector: Detector, images: tuple[NDArray[np.uint16], ...]) -> NDArray[np.uint16]:
    """The data section alone, amplifiers put together, (rows, cols)."""
    parts = []
    for amplifier, counts in zip(detector.amplifiers, images, strict=True):
        data = counts[:, : amplifier.stop - amplifier.start]
        parts.append(data[:, ::-1] if amplifier.reverse else data)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def saturation(detector: Detector) -> float:
    """Counts in the raw frame from which a pixel is saturated: full well or the end of the converter, adu."""
    wells = [
        amplifier.level + detector.design.full_well / amplifier.gain for amplifier in detector.amplifiers
    ]
    return min(*wells, float(HIGHEST))


def sections(detector: Detector, amplifier: Amplifier) -> dict[str, str]:
    """Cards of the sections in an amplifier's image: from 1, inclusive, columns first, as cameras write."""
    rows, width = detector.shape[0], amplifier.stop - amplifier.start
    data = f"[1:{width},1:{rows}]"
    ends = (
        (amplifier.stop, amplifier.start + 1) if amplifier.reverse else (amplifier.start + 1, amplifier.stop)
    )
    cards = {"DATASEC": data, "TRIMSEC": data}
    if detector.design.overscan:
        cards["BIASSEC"] = f"[{width + 1}:{width + detector.design.overscan},1:{rows}]"
    if len(detector.amplifiers) > 1:
        cards["DETSEC"] = f"[{ends[0]}:{ends[1]},1:{rows}]"
    return cards
