"""Readout: from the charge in the pixels to the numbers in the file. Chain: (pixel,) signal, image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibrant.simulate.chain import voltages
from calibrant.simulate.detector import Amplifier, Detector
from calibrant.simulate.structure import F4

HIGHEST = 65535  # of a converter with 16 bits


def signal(
    detector: Detector,
    electrons: NDArray[np.floating] | float,
    rng: np.random.Generator,
    *,
    offset: float = 0.0,
    lit: bool = False,
) -> tuple[F4, ...]:
    """Voltages at each amplifier, in adu but not yet whole numbers, overscan included.

    Parameters
    ----------
    electrons : array or float
        (rows, cols), electrons in the pixels.
    offset : float
        Departure of the bias level from its settled value in this exposure, adu.
    lit : bool
        Whether the shutter has been open: the pedestals of a `Chain` are there.

    Returns
    -------
    tuple of array
        One per amplifier, (its rows + parallel overscan, prescan + its columns + overscan), float32, adu, in
        the order of readout.
    """
    plane = np.broadcast_to(np.asarray(electrons, np.float32), detector.shape)
    # Telegraph pixels sit on one of their two levels for the whole of a frame.
    high = np.flatnonzero(detector.telegraph)
    jump = np.zeros(detector.shape, np.float32)
    jump.flat[high] = detector.telegraph.flat[high] * rng.integers(0, 2, len(high))
    light = [None] * len(detector.amplifiers) if detector.chain is None else _chained(detector, plane, lit)
    return tuple(
        _amplified(detector, amplifier, plane, own, jump, offset, rng)
        for amplifier, own in zip(detector.amplifiers, light, strict=True)
    )


def _chained(detector: Detector, electrons: NDArray[np.floating], lit: bool) -> list[F4 | None]:
    """What the chain makes of the charge: an image for each amplifier, adu, in the order of readout."""
    chain, design, charges = detector.chain, detector.design, []
    assert chain is not None
    for amplifier in detector.amplifiers:
        margins = ((0, design.parallel), (design.prescan, design.overscan))
        charges.append(np.pad(electrons[amplifier.window][amplifier.turns], margins))
    images = voltages(chain, charges, [amplifier.gain for amplifier in detector.amplifiers])
    if lit:
        for image, amplifier, pedestal in zip(images, detector.amplifiers, chain.pedestal, strict=True):
            image[_data(detector, amplifier)] += np.float32(pedestal)
    return list(images)


def _amplified(
    detector: Detector,
    amplifier: Amplifier,
    electrons: NDArray[np.floating],
    light: F4 | None,
    jump: F4,
    offset: float,
    rng: np.random.Generator,
) -> F4:
    """Signal of one amplifier; without `light` it is that of the electrons."""
    own, design = amplifier.window, detector.design
    height, width = detector.read_noise[own].shape
    shape = (height + design.parallel, design.prescan + width + design.overscan)
    out = rng.standard_normal(shape, dtype=np.float32)
    blind = np.ones(shape, bool)
    blind[_data(detector, amplifier)] = False
    data = out[_data(detector, amplifier)]
    data *= detector.read_noise[own]
    if light is None:
        data += electrons[own] / np.float32(amplifier.gain)
    data += detector.structure[own]
    data += jump[own]
    data[:] = data[amplifier.turns].copy()
    np.multiply(out, np.float32(amplifier.read_noise), out=out, where=blind)
    if light is not None:
        out += light
    rows = detector.row_level[own[0]][amplifier.turns[0]] + np.float32(amplifier.level + offset)
    out += np.pad(rows, (0, design.parallel), mode="edge")[:, np.newaxis]
    return out


def _data(detector: Detector, amplifier: Amplifier) -> tuple[slice, slice]:
    """The pixels that saw light, in the image of an amplifier."""
    height, width = detector.read_noise[amplifier.window].shape
    first = detector.design.prescan
    return slice(0, height), slice(first, first + width)


def image(voltages: F4) -> NDArray[np.uint16]:
    """What the converter writes: rounded to whole adu, held between 0 and 65535."""
    return np.clip(np.rint(voltages), 0, HIGHEST).astype(np.uint16)


def trimmed(detector: Detector, images: tuple[NDArray[np.uint16], ...]) -> NDArray[np.uint16]:
    """The data section alone, amplifiers put together, (rows, cols)."""
    whole = np.empty(detector.shape, np.uint16)
    for amplifier, counts in zip(detector.amplifiers, images, strict=True):
        whole[amplifier.window] = counts[_data(detector, amplifier)][amplifier.turns]
    return whole


def saturation(detector: Detector) -> float:
    """Counts in the raw frame from which a pixel is saturated: full well or the end of the converter, adu."""
    return min(limits(detector))


def limits(detector: Detector) -> list[float]:
    """The same for each amplifier."""
    found = []
    for number, amplifier in enumerate(detector.amplifiers):
        full = detector.design.full_well / amplifier.gain
        if detector.chain is not None:
            full = float(detector.chain.measured(number, full))
        found.append(min(amplifier.level + full, float(HIGHEST)))
    return found


def sections(detector: Detector, amplifier: Amplifier) -> dict[str, str]:
    """Cards of the sections in an amplifier's image: from 1, inclusive, columns first, as cameras write."""
    (_, height), (first, last) = ((part.start, part.stop) for part in _data(detector, amplifier))
    design, data = detector.design, f"[{first + 1}:{last},1:{height}]"
    cards = {"DATASEC": data, "TRIMSEC": data}
    if design.overscan:
        cards["BIASSEC"] = f"[{last + 1}:{last + design.overscan},1:{height + design.parallel}]"
    if design.prescan:
        cards["PRESEC"] = f"[1:{first},1:{height}]"
    if design.parallel:
        cards["PARSEC"] = f"[{first + 1}:{last},{height + 1}:{height + design.parallel}]"
    if len(detector.amplifiers) > 1:
        bottom, top, _ = slice(amplifier.bottom, amplifier.top).indices(detector.shape[0])
        cols = _ends(amplifier.start, amplifier.stop, amplifier.reverse)
        cards["DETSEC"] = f"[{cols},{_ends(bottom, top, amplifier.downwards)}]"
    return cards


def _ends(first: int, stop: int, turned: bool) -> str:
    return f"{stop}:{first + 1}" if turned else f"{first + 1}:{stop}"
